//! Calls stacks, and nothing else; `cargo xtask bench instr` lets callgrind count what it does.

use stockade_benches::suite::instructions;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [stacks, calls] = arguments.as_slice() else {
        panic!("this is started by `cargo xtask bench instr`")
    };
    instructions::make_calls(stacks, calls);
}
