//! Runs the load and the faults of a plan in virtual time; `cargo xtask bench` starts it.

use stockade_benches::suite::{record::Clock, worker};

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    worker::main(&arguments, Clock::Virtual);
}
