//! The two programs that measure: they are built when they are needed.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::usage::root;

/// A program that is not built before it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// Measures on the real clock.
    Measure {
        /// Beside all peers.
        peers: bool,
    },
    /// Models in virtual time.
    Model,
    /// Calls stacks, to be counted.
    Calls,
}

/// Finds a program: in `folder`, if it is given, else cargo builds it and says where it is.
///
/// # Errors
///
/// If it cannot be built.
pub(crate) fn program(program: Program, folder: Option<&Path>) -> Result<PathBuf> {
    // What is measured is built as for the release of a program that cares; what is modelled need only be right.
    let (name, profile, features) = match program {
        Program::Measure { peers: false } => ("measure", "bench", ""),
        Program::Measure { peers: true } => ("measure", "bench", "peers"),
        Program::Model => ("model", "release", "virtual-time"),
        Program::Calls => ("calls", "bench", ""),
    };
    if let Some(folder) = folder {
        return Ok(folder.join(name));
    }
    eprintln!("building `{name}`, which can take some minutes after a change");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (variable, _) in env::vars_os() {
        // What cargo tells a program that it runs is about that program's own package.
        let told = variable.to_str();
        if told.is_some_and(|v| v.starts_with("CARGO_PKG_") || v.starts_with("CARGO_MANIFEST_")) {
            cargo.env_remove(variable);
        }
    }
    let output = cargo
        .current_dir(root())
        .args(["build", "--package", "stockade-benches", "--bin", name])
        .args(["--profile", profile, "--features", features])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo could not build `{name}`");
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let built = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)));
    built.with_context(|| format!("cargo did not say where `{name}` is"))
}
