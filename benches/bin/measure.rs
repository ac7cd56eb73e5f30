//! Measures on the real clock what a plan asks for; `cargo xtask bench` starts it.

use stockade_benches::suite::{instructions, record::Clock, worker};

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [command, stack, calls] if command == "calls" => instructions::make_calls(stack, calls),
        arguments => worker::main(arguments, Clock::Real),
    }
}
