//! The crates as they would be published.

use std::{fmt::Write, fs, process::Command};

use anyhow::Result;

use crate::{
    run,
    workspace::{self, Workspace},
};

/// Packages all crates that are published, as for crates.io, and compiles what was packaged, with all features.
///
/// Cargo's own check of a package is not used: it keeps what it unpacks under the version number, and would build
/// yesterday's code of a version that is not published yet.
///
/// # Errors
///
/// If a crate cannot be packaged, or does not compile without what was left out of its package.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let published: Vec<_> =
        workspace.all_packages().iter().filter(|p| p.publish.is_none()).collect();
    let mut cargo = workspace::cargo("package");
    cargo.current_dir(workspace.root()).args(["--quiet", "--allow-dirty", "--no-verify"]);
    for package in &published {
        cargo.args(["--package", &package.name]);
    }
    run::command(&mut cargo)?;

    let packed = workspace.target_directory().join("package");
    let root = &workspace.target_directory().join("packages");
    if root.exists() {
        fs::remove_dir_all(root)?;
    }
    fs::create_dir_all(root)?;
    let (mut members, mut patches) = (String::new(), String::new());
    for package in published {
        let folder = format!("{}-{}", package.name, package.version);
        let mut tar = Command::new("tar");
        tar.arg("-xzmf").arg(packed.join(format!("{folder}.crate"))).arg("-C").arg(root);
        run::command(&mut tar)?;
        write!(members, "{folder:?}, ")?;
        writeln!(patches, "{} = {{ path = {folder:?} }}", package.name)?;
    }
    let manifest = format!(
        "[workspace]\nresolver = \"3\"\nmembers = [{members}]\n\n[patch.crates-io]\n{patches}"
    );
    fs::write(root.join("Cargo.toml"), manifest)?;
    fs::copy(workspace.root().join("Cargo.lock"), root.join("Cargo.lock"))?;
    let mut cargo = workspace::cargo("check");
    cargo.current_dir(root).env("CARGO_TARGET_DIR", workspace.target_directory());
    run::command(cargo.args(["--quiet", "--workspace", "--all-features"]))
}
