//! Calls the stacks that are the only argument, and nothing else; `cargo xtask bench instr` has callgrind count it.

fn main() {
    let stacks = std::env::args().nth(1).expect("this is started by `cargo xtask bench instr`");
    stockade_benches::instructions::make_calls(&stacks);
}
