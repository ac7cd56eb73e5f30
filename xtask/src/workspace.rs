//! The workspace: its packages, the ones that a command looks at, and how cargo is started for them.

use std::{collections::BTreeMap, env, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use cargo_metadata::{Metadata, MetadataCommand, Package};
use serde_json::Value;

/// Where a crate keeps its tests for a model checker.
const MODELS: &str = "src/tests/shuttle.rs";

/// The workspace, and what a command looks at in it.
#[derive(Debug)]
pub(crate) struct Workspace {
    metadata: Metadata,
    /// The packages to look at; all where it is empty.
    selected: Vec<String>,
    /// Passed to the test binaries.
    pub(crate) test_args: Vec<String>,
}

/// `cargo COMMAND`, in the current directory.
pub(crate) fn cargo(command: &str) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg(command);
    // Cargo describes a program's own package to it in these variables. Some build scripts watch them, and would
    // run again whenever `cargo` and `cargo xtask` take turns.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// The benchmark suite's command, which builds what it measures.
pub(crate) fn bench() -> Command {
    let mut cargo = cargo("run");
    cargo.args(["--quiet", "--package", "stockade-benches", "--bin", "bench", "--"]);
    cargo
}

// === impl Workspace ===

impl Workspace {
    /// Asks cargo for the workspace of the current directory, to look at the packages called `selected`, or at all.
    ///
    /// # Errors
    ///
    /// If there is no workspace, a manifest is faulty, or a package is not in the workspace.
    pub(crate) fn load(selected: Vec<String>, test_args: Vec<String>) -> Result<Self> {
        let metadata =
            MetadataCommand::new().no_deps().exec().context("cannot read the workspace")?;
        let known: Vec<_> = metadata.packages.iter().map(|p| p.name.as_str()).collect();
        for name in &selected {
            let is_known = known.contains(&name.as_str());
            let all = known.join(", ");
            ensure!(is_known, "no package {name:?} in this workspace; there are: {all}");
        }
        Ok(Self { metadata, selected, test_args })
    }

    pub(crate) fn root(&self) -> &Path {
        self.metadata.workspace_root.as_std_path()
    }

    pub(crate) fn target_directory(&self) -> &Path {
        self.metadata.target_directory.as_std_path()
    }

    pub(crate) fn all_packages(&self) -> &[Package] {
        &self.metadata.packages
    }

    pub(crate) fn packages(&self) -> impl Iterator<Item = &Package> {
        let selected = |p: &&Package| {
            self.selected.is_empty() || self.selected.iter().any(|name| *name == *p.name)
        };
        self.metadata.packages.iter().filter(selected)
    }

    /// The selected packages under `crates/`, which are the ones for users.
    pub(crate) fn crates(&self) -> impl Iterator<Item = &Package> {
        let home = self.metadata.workspace_root.join("crates");
        self.packages().filter(move |p| p.manifest_path.starts_with(&home))
    }

    /// The selected packages with tests for a model checker.
    pub(crate) fn models(&self) -> impl Iterator<Item = &Package> {
        self.crates().filter(|p| p.manifest_path.with_file_name(MODELS).is_file())
    }

    /// `cargo COMMAND` on the selected packages, from the workspace's root.
    pub(crate) fn cargo(&self, command: &str) -> Command {
        let mut cargo = cargo(command);
        cargo.current_dir(self.root());
        if self.selected.is_empty() {
            cargo.arg(if command == "fmt" { "--all" } else { "--workspace" });
        }
        for name in &self.selected {
            cargo.args(["--package", name]);
        }
        cargo
    }
}

/// The words that the manifest of `package` has for its targets, by the targets' names, in the table
/// `[package.metadata.NAME]`, which may be absent.
///
/// # Errors
///
/// If the table is malformed, or names a target that does not exist.
pub(crate) fn table(package: &Package, name: &str) -> Result<BTreeMap<String, Vec<String>>> {
    let targets = package.targets.iter().map(|t| t.name.as_str());
    read(targets, &package.metadata[name])
        .with_context(|| format!("[package.metadata.{name}] of {}", package.name))
}

fn read<'a>(
    targets: impl Iterator<Item = &'a str> + Clone,
    table: &Value,
) -> Result<BTreeMap<String, Vec<String>>> {
    let table: Option<BTreeMap<String, _>> = serde_json::from_value(table.clone())?;
    let table = table.unwrap_or_default();
    for target in table.keys() {
        ensure!(targets.clone().any(|t| t == target), "no such target: {target}");
    }
    Ok(table)
}

/// Cargo's arguments for each set of features to look at: none, and each alone. All together they are looked at by the
/// steps that build the whole workspace.
pub(crate) fn feature_sets(features: &BTreeMap<String, Vec<String>>) -> Vec<Vec<String>> {
    let set = |args: &[&str]| args.iter().map(|&a| a.to_owned()).collect::<Vec<_>>();
    let none = set(&["--no-default-features"]);
    let alone = features.keys().map(|f| set(&["--no-default-features", "--features", f]));
    [none].into_iter().chain(alone).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn features(names: &[&str]) -> BTreeMap<String, Vec<String>> {
        names.iter().map(|&name| (name.to_owned(), Vec::new())).collect()
    }

    #[test]
    fn a_package_without_features_is_looked_at_once() {
        assert_eq!(feature_sets(&features(&[])), [["--no-default-features"]]);
    }

    #[test]
    fn each_feature_is_looked_at_alone() {
        let sets = feature_sets(&features(&["default", "limit", "rate"]));

        let told: Vec<_> = sets.iter().map(|set| set.join(" ")).collect();
        assert_eq!(
            told,
            [
                "--no-default-features",
                "--no-default-features --features default",
                "--no-default-features --features limit",
                "--no-default-features --features rate",
            ]
        );
    }

    #[test]
    fn a_target_gets_its_words_from_the_table() {
        let table = json!({ "client_stack": ["--requests", "2000"] });

        let words = read(["worker_pool", "client_stack"].into_iter(), &table).unwrap();

        assert_eq!(words.len(), 1);
        assert_eq!(words["client_stack"], ["--requests", "2000"]);
    }

    #[test]
    fn without_a_table_no_target_has_words() {
        let words = read(["client_stack"].into_iter(), &Value::Null).unwrap();

        assert!(words.is_empty());
    }

    #[test]
    fn words_for_an_unknown_target_are_an_error() {
        let error = read(["client_stack"].into_iter(), &json!({ "gone": [] })).unwrap_err();

        assert!(error.to_string().contains("gone"), "{error}");
    }

    #[test]
    fn every_manifest_has_tables_for_targets_that_exist() {
        let workspace = Workspace::load(Vec::new(), Vec::new()).unwrap();

        for package in workspace.all_packages() {
            for name in ["examples", "needs", "stress"] {
                table(package, name).unwrap();
            }
        }
    }
}
