//! Measures on the real clock what a plan asks for; `cargo xtask bench` starts it.

fn main() {
    stockade_benches::measure::main(stockade_benches::record::Clock::Real);
}
