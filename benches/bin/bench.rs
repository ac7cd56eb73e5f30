//! `cargo xtask bench`.

use std::process::ExitCode;

fn main() -> ExitCode {
    stockade_benches::front::main()
}
