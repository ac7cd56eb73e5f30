//! Cargo, and the programs of this workspace that a command hands over to.

use std::{
    env,
    process::{Command, ExitCode, ExitStatus},
};

use anyhow::{Context, Result};

/// `cargo COMMAND`, from where the user is.
pub(crate) fn cargo(command: &str) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg(command);
    // Cargo tells a program that it runs about the program's own package. Some build scripts watch
    // these variables, and would run anew whenever `cargo` and `cargo xtask` take turns.
    for (name, _) in env::vars_os() {
        let told = name.to_str();
        if told.is_some_and(|n| n.starts_with("CARGO_PKG_") || n.starts_with("CARGO_MANIFEST_")) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Becomes `command`: what is typed and signalled goes to it, and its exit code is this program's.
///
/// # Errors
///
/// When it cannot be started.
pub(crate) fn hand_over(command: &mut Command) -> Result<ExitCode> {
    #[cfg(unix)]
    let ended = Err(std::os::unix::process::CommandExt::exec(command));
    #[cfg(not(unix))]
    let ended = command.status();
    let status: ExitStatus = ended.context("cannot start cargo")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
