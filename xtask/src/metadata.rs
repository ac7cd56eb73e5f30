//! What `cargo metadata` knows of the workspace, and what follows from it.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, ensure};
use cargo_metadata::{Metadata, MetadataCommand, Package};
use serde_json::Value;

/// The package that holds the examples.
pub(crate) const EXAMPLES: &str = "stockade-examples";

/// Where a crate keeps its tests for a model checker, from its `src`.
const MODELS: [&str; 3] = ["tests/shuttle.rs", "model.rs", "internal/model.rs"];

/// The workspace.
#[derive(Debug)]
pub(crate) struct Project {
    metadata: Metadata,
}

/// An example, with the arguments that make it quick.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Example {
    pub(crate) name: String,
    pub(crate) args: Vec<String>,
}

// === impl Project ===

impl Project {
    /// Asks cargo for the workspace that holds the current directory.
    ///
    /// # Errors
    ///
    /// When there is none, or one of its manifests is faulty.
    pub(crate) fn load() -> Result<Self> {
        let metadata =
            MetadataCommand::new().no_deps().exec().context("cannot read the workspace")?;
        Ok(Self { metadata })
    }

    pub(crate) fn root(&self) -> &Path {
        self.metadata.workspace_root.as_std_path()
    }

    pub(crate) fn target_directory(&self) -> &Path {
        self.metadata.target_directory.as_std_path()
    }

    pub(crate) fn packages(&self) -> impl Iterator<Item = &Package> {
        self.metadata.packages.iter()
    }

    /// The package of this name.
    ///
    /// # Errors
    ///
    /// When there is none; the error lists those that there are.
    pub(crate) fn package(&self, name: &str) -> Result<&Package> {
        let found = self.packages().find(|p| p.name.as_str() == name);
        found.with_context(|| {
            let known = self.packages().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", ");
            format!("no package {name:?} in this workspace; there are: {known}")
        })
    }

    /// The packages under `crates/`, which are those meant for users.
    pub(crate) fn crates(&self) -> impl Iterator<Item = &Package> {
        let home = self.metadata.workspace_root.join("crates");
        self.packages().filter(move |p| p.manifest_path.starts_with(&home))
    }

    /// Those of [`crates`](Self::crates) that have tests for a model checker.
    pub(crate) fn models(&self) -> impl Iterator<Item = &Package> {
        self.crates().filter(|p| {
            let src = p.manifest_path.with_file_name("src");
            MODELS.iter().any(|file| src.join(file).is_file())
        })
    }

    /// The examples of [`EXAMPLES`], in the order of their names.
    ///
    /// # Errors
    ///
    /// When the table of quick arguments is malformed, or names an example that is not there.
    pub(crate) fn examples(&self) -> Result<Vec<Example>> {
        let package = self.package(EXAMPLES)?;
        let names = package.targets.iter().filter(|t| t.is_example()).map(|t| t.name.as_str());
        quick(names, &package.metadata["examples"])
            .with_context(|| format!("[package.metadata.examples] of {EXAMPLES}"))
    }
}

/// Cargo's arguments for every set of features worth a look: none, each alone, all together.
pub(crate) fn feature_sets(features: &BTreeMap<String, Vec<String>>) -> Vec<Vec<String>> {
    let set = |args: &[&str]| args.iter().map(|&a| a.to_owned()).collect::<Vec<_>>();
    let none = set(&["--no-default-features"]);
    let alone = features.keys().map(|f| set(&["--no-default-features", "--features", f]));
    let all = (features.len() > 1).then(|| set(&["--all-features"]));
    [none].into_iter().chain(alone).chain(all).collect()
}

/// Joins the examples' names with the table of their quick arguments, which may be absent.
fn quick<'a>(names: impl Iterator<Item = &'a str>, table: &Value) -> Result<Vec<Example>> {
    let mut table: BTreeMap<String, Vec<String>> =
        serde_json::from_value::<Option<_>>(table.clone())?.unwrap_or_default();
    let mut examples: Vec<_> = names
        .map(|name| Example { name: name.to_owned(), args: table.remove(name).unwrap_or_default() })
        .collect();
    examples.sort();
    let strangers: Vec<_> = table.into_keys().collect();
    ensure!(strangers.is_empty(), "no such example: {}", strangers.join(", "));
    Ok(examples)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn features(names: &[&str]) -> BTreeMap<String, Vec<String>> {
        names.iter().map(|&name| (name.to_owned(), Vec::new())).collect()
    }

    fn example(name: &str, args: &[&str]) -> Example {
        Example { name: name.to_owned(), args: args.iter().map(|&a| a.to_owned()).collect() }
    }

    #[test]
    fn a_package_without_features_is_looked_at_once() {
        assert_eq!(feature_sets(&features(&[])), [["--no-default-features"]]);
    }

    #[test]
    fn one_feature_alone_is_all_of_them() {
        let sets = feature_sets(&features(&["tracing"]));

        assert_eq!(sets.len(), 2);
        assert_eq!(sets[0], ["--no-default-features"]);
        assert_eq!(sets[1], ["--no-default-features", "--features", "tracing"]);
    }

    #[test]
    fn each_feature_is_looked_at_alone_and_then_all_together() {
        let sets = feature_sets(&features(&["default", "limit", "rate"]));

        let told: Vec<_> = sets.iter().map(|set| set.join(" ")).collect();
        assert_eq!(
            told,
            [
                "--no-default-features",
                "--no-default-features --features default",
                "--no-default-features --features limit",
                "--no-default-features --features rate",
                "--all-features",
            ]
        );
    }

    #[test]
    fn examples_take_their_quick_arguments_from_the_table() {
        let table = json!({ "client_stack": ["--requests", "2000"] });

        let examples = quick(["worker_pool", "client_stack"].into_iter(), &table).unwrap();

        let client_stack = example("client_stack", &["--requests", "2000"]);
        assert_eq!(examples, [client_stack, example("worker_pool", &[])]);
    }

    #[test]
    fn examples_without_a_table_take_no_arguments() {
        let examples = quick(["client_stack"].into_iter(), &Value::Null).unwrap();

        assert_eq!(examples, [example("client_stack", &[])]);
    }

    #[test]
    fn quick_arguments_for_an_example_that_is_gone_are_an_error() {
        let error = quick(["client_stack"].into_iter(), &json!({ "gone": [] })).unwrap_err();

        assert!(error.to_string().contains("gone"), "{error}");
    }
}
