//! Makes a crate for a new layer: the files that all layer crates have, with a layer in them that works.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};

use crate::{run, workspace, workspace::Workspace};

/// The files, by where they go in the crate.
const FILES: [(&str, &str); 11] = [
    ("Cargo.toml", include_str!("new_layer/Cargo.toml.txt")),
    ("README.md", include_str!("new_layer/README.md.txt")),
    ("src/config.rs", include_str!("new_layer/config.rs.txt")),
    ("src/decision.rs", include_str!("new_layer/decision.rs.txt")),
    ("src/future.rs", include_str!("new_layer/future.rs.txt")),
    ("src/handle.rs", include_str!("new_layer/handle.rs.txt")),
    ("src/layer.rs", include_str!("new_layer/layer.rs.txt")),
    ("src/lib.rs", include_str!("new_layer/lib.rs.txt")),
    ("src/service.rs", include_str!("new_layer/service.rs.txt")),
    ("src/shared.rs", include_str!("new_layer/shared.rs.txt")),
    ("tests/behaviour.rs", include_str!("new_layer/behaviour.rs.txt")),
];
const CONTRACT: (&str, &str) = ("tests/contract.rs", include_str!("new_layer/contract.rs.txt"));

/// Makes the crate in `crates/`, and says what remains to be done.
///
/// # Errors
///
/// If the name is not one for a crate, or there is such a crate.
pub(crate) fn create(workspace: &Workspace, name: &str, about: &str) -> Result<()> {
    let name = name.strip_prefix("stockade-").unwrap_or(name);
    write(workspace.root(), name, about)?;
    format(workspace.root(), name)?;
    println!(
        "made crates/stockade-{name}; try it with `cargo test -p stockade-{name}`.\n\
         Next: put your idea into src/decision.rs, and what it needs into config.rs, shared.rs and handle.rs;\n\
         then a feature and a `pub use` in crates/stockade, a line in its src/order.rs, and one in the README's table.\n\
         What threads share deserves a model in src/tests/shuttle.rs; crates/stockade-limit has one to look at."
    );
    Ok(())
}

/// Makes such a crate in a copy of the workspace, and checks it as any other.
///
/// # Errors
///
/// If it has a warning, or one of its tests fails.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let root = &workspace.target_directory().join("new-layer");
    if root.exists() {
        fs::remove_dir_all(root)?;
    }
    fs::create_dir_all(root)?;
    for file in ["Cargo.lock", ".clippy.toml", ".rustfmt.toml"] {
        let from = workspace.root().join(file);
        if from.exists() {
            fs::copy(from, root.join(file))?;
        }
    }
    // The other crates are where they were; only the new one is a member.
    let manifest = fs::read_to_string(workspace.root().join("Cargo.toml"))?;
    let members = |line: &str| line.starts_with("members") || line.starts_with("default-members");
    let lines: Vec<_> = manifest.lines().filter(|line| !members(line)).collect();
    let manifest = lines.join("\n").replacen(
        "[workspace]",
        "[workspace]\nmembers = [\"crates/stockade-tried\"]",
        1,
    );
    fs::write(root.join("Cargo.toml"), manifest)?;
    fs::create_dir(root.join("crates"))?;
    #[cfg(unix)]
    for entry in fs::read_dir(workspace.root().join("crates"))? {
        let entry = entry?;
        std::os::unix::fs::symlink(entry.path(), root.join("crates").join(entry.file_name()))?;
    }
    write(root, "tried", "is tried out")?;
    format(root, "tried")?;
    for (command, deny) in [("clippy", &["--", "-D", "warnings"][..]), ("test", &[])] {
        let mut cargo = workspace::cargo(command);
        cargo.current_dir(root).env("CARGO_TARGET_DIR", workspace.target_directory());
        cargo.args(["--package", "stockade-tried", "--all-targets", "--all-features"]);
        run::command(cargo.args(deny))?;
    }
    Ok(())
}

fn write(root: &Path, name: &str, about: &str) -> Result<()> {
    let is_name = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.ends_with('-');
    ensure!(
        is_name,
        "{name:?} is no name for a layer: lower-case letters, digits and hyphens, such as \"load-shed\""
    );
    let home = root.join("crates").join(format!("stockade-{name}"));
    ensure!(!home.exists(), "{} is there already", home.display());
    let title: String = name.split('-').map(capital).collect();
    for (file, text) in FILES.into_iter().chain([CONTRACT]) {
        let text = text.replace("{{Name}}", &title);
        let text = text.replace("{{name}}", name).replace("{{name_}}", &name.replace('-', "_"));
        let path = home.join(file);
        let folder = path.parent().context("a file is in a folder")?;
        fs::create_dir_all(folder)?;
        fs::write(path, text.replace("{{about}}", about.trim_end_matches('.')))?;
    }
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        #[cfg(unix)]
        std::os::unix::fs::symlink(Path::new("../..").join(licence), home.join(licence))?;
        #[cfg(not(unix))]
        fs::copy(root.join(licence), home.join(licence))?;
    }
    let manifest = root.join("Cargo.toml");
    let text = fs::read_to_string(&manifest)?;
    fs::write(manifest, with_dependency(&text, name))?;
    Ok(())
}

/// The order of imports depends on the name.
fn format(root: &Path, name: &str) -> Result<()> {
    let mut cargo = workspace::cargo("fmt");
    run::command(cargo.current_dir(root).args(["--package", &format!("stockade-{name}")]))
}

fn capital(word: &str) -> String {
    let (first, rest) = word.split_at(1.min(word.len()));
    first.to_uppercase() + rest
}

/// The manifest of the workspace with a line for the crate, in the order of the alphabet.
fn with_dependency(manifest: &str, name: &str) -> String {
    let ours = |line: &str| line.starts_with("stockade");
    let line =
        format!("stockade-{name} = {{ path = \"crates/stockade-{name}\", version = \"0.1.0\" }}");
    let mut lines: Vec<&str> = manifest.lines().collect();
    let after = lines.iter().rposition(|other| ours(other) && **other < *line);
    lines.insert(after.map_or(lines.len(), |after| after + 1), &line);
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("Cargo.toml"), "stockade-a = 1\nstockade-z = 1\n\n[x]\n")
            .unwrap();
        root
    }

    #[test]
    fn a_crate_has_all_files_and_its_name_everywhere() {
        let root = root();
        write(root.path(), "load-shed", "refuses what is too much.").unwrap();
        let home = root.path().join("crates/stockade-load-shed");
        for (file, _) in FILES.into_iter().chain([CONTRACT]) {
            let text = fs::read_to_string(home.join(file)).unwrap();
            assert!(!text.contains("{{") && !text.contains("}}"), "{file}");
        }
        let layer = fs::read_to_string(home.join("src/layer.rs")).unwrap();
        assert!(layer.contains("pub struct LoadShedLayer"));
        let manifest = fs::read_to_string(root.path().join("Cargo.toml")).unwrap();
        let places =
            ["stockade-a", "stockade-load-shed", "stockade-z", "[x]"].map(|t| manifest.find(t));
        assert!(places.is_sorted() && places[0].is_some(), "{manifest}");
    }

    #[test]
    fn a_wrong_name_or_one_that_is_taken_is_told() {
        let root = root();
        for name in ["", "-a", "Load", "a_b", "a-", "../a"] {
            let error = write(root.path(), name, "x").unwrap_err().to_string();
            assert!(error.contains(&format!("{name:?}")), "{error}");
        }
        write(root.path(), "b", "x").unwrap();
        assert!(write(root.path(), "b", "x").unwrap_err().to_string().contains("already"));
    }
}
