//! Runs the load, the faults and the adaptive limits of a plan in virtual time; `cargo xtask bench` starts it.

fn main() {
    stockade_benches::measure::main(stockade_benches::record::Clock::Virtual);
}
