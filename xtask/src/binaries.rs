//! The test binaries that cargo builds, which are run one by one.

use std::{
    io::BufReader,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use cargo_metadata::{Message, Package};

use crate::{needs, run, workspace::Workspace};

/// The unit tests of a library or a program, or a file of integration tests.
#[derive(Debug)]
pub(crate) struct Binary<'a> {
    pub(crate) package: &'a Package,
    pub(crate) target: String,
    path: PathBuf,
}

/// Builds the tests of the selected packages with all features, and returns those that can run here: the programs that
/// they need are installed.
///
/// # Errors
///
/// If the build fails, or a manifest names a need that does not exist.
pub(crate) fn build(workspace: &Workspace) -> Result<Vec<Binary<'_>>> {
    let mut cargo = workspace.cargo("test");
    cargo.args(["--tests", "--all-features", "--no-run"]);
    cargo.args(["--message-format", "json-render-diagnostics"]);
    let mut child = run::start(cargo.stdout(Stdio::piped()))?;
    let output = child.stdout.take().context("cargo has no output")?;
    let mut binaries = Vec::new();
    for message in Message::parse_stream(BufReader::new(output)) {
        let Message::CompilerArtifact(artifact) = message? else { continue };
        let package = workspace.packages().find(|p| p.id == artifact.package_id);
        let path = artifact.executable.filter(|_| artifact.profile.test);
        let (Some(package), Some(path)) = (package, path) else { continue };
        let target = artifact.target.name;
        if !needs::of(package)?.iter().any(|n| n.target == target && n.is_left_out()) {
            binaries.push(Binary { package, target, path: path.into() });
        }
    }
    ensure!(child.wait()?.success(), "the tests do not build");
    binaries.sort_by_key(|b| (b.package.name.clone(), b.target.clone()));
    Ok(binaries)
}

// === impl Binary ===

impl Binary<'_> {
    /// Runs it as cargo would.
    pub(crate) fn command(&self) -> Command {
        let folder = self.package.manifest_path.with_file_name("");
        let mut command = Command::new(&self.path);
        command.current_dir(&folder).env("CARGO_MANIFEST_DIR", folder);
        command
    }
}
