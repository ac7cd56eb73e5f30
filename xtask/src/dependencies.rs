//! What each dependency of the published crates is for, and what it costs to build.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::{Context, Result, ensure};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, NodeDep, PackageId};
use serde_json::Value;

use crate::{
    run,
    workspace::{self, Workspace},
};

/// A dependency that published crates name in their manifests.
#[derive(Debug, PartialEq)]
struct Dependency {
    name: String,
    version: String,
    /// What it is for, from the manifest of the workspace.
    purpose: String,
    /// Our crates that name it.
    users: Vec<String>,
    /// What it takes with all that it depends on.
    all: Cost,
    /// What of that no other dependency brings.
    alone: Cost,
}

/// What some crates take in a dev build.
#[derive(Debug, Default, PartialEq)]
struct Cost {
    crates: usize,
    /// Of one core.
    seconds: f64,
}

/// Builds all dependencies once more, measures that, and prints the table.
///
/// # Errors
///
/// If a dependency has no purpose in `[workspace.metadata.dependencies]`, or the build fails.
pub(crate) fn print(workspace: &Workspace) -> Result<()> {
    let metadata = resolved(workspace)?;
    let purposes = purposes(&metadata)?;
    let target = tempfile::Builder::new()
        .prefix("dependencies-")
        .tempdir_in(workspace.target_directory())?;
    let mut cargo = workspace::cargo("build");
    cargo.current_dir(workspace.root()).args([
        "--quiet",
        "--timings",
        "--all-features",
        "--target-dir",
    ]);
    cargo.arg(target.path());
    for package in workspace.all_packages().iter().filter(|p| p.publish.is_none()) {
        cargo.args(["--package", &package.name]);
    }
    println!("building all dependencies once more, which takes some minutes");
    run::command(&mut cargo)?;
    let page = fs::read_to_string(target.path().join("cargo-timings/cargo-timing.html"))?;
    let seconds = seconds(&page)?;
    let dependencies = table(&metadata, &purposes, &seconds)?;
    print!("{}", shown(&dependencies));
    let all: f64 = seconds.values().sum();
    println!("\n{} crates in all, {all:.0} s of one core, our own among them.", seconds.len());
    Ok(())
}

/// The workspace with all features, and all that it depends on.
fn resolved(workspace: &Workspace) -> Result<Metadata> {
    let mut metadata = MetadataCommand::new();
    metadata.current_dir(workspace.root()).features(cargo_metadata::CargoOpt::AllFeatures);
    metadata.exec().context("cannot read the workspace")
}

fn purposes(metadata: &Metadata) -> Result<BTreeMap<String, String>> {
    let purposes = metadata.workspace_metadata["dependencies"].clone();
    serde_json::from_value(purposes)
        .context("[workspace.metadata.dependencies] is no table of texts")
}

/// The seconds for each crate, from the page that `cargo build --timings` writes.
fn seconds(page: &str) -> Result<BTreeMap<String, f64>> {
    let begin =
        page.split_once("const UNIT_DATA = ").context("cargo's page of timings has no data")?.1;
    let mut units = serde_json::Deserializer::from_str(begin).into_iter::<Vec<Value>>();
    let mut seconds = BTreeMap::new();
    for unit in units.next().context("cargo's page of timings has no units")?? {
        let name = unit["name"].as_str().context("a unit has a name")?;
        *seconds.entry(name.to_owned()).or_insert(0.0) +=
            unit["duration"].as_f64().unwrap_or_default();
    }
    Ok(seconds)
}

/// What each package is built with, without what only its tests need.
type Edges<'a> = BTreeMap<&'a PackageId, Vec<&'a PackageId>>;

fn table(
    metadata: &Metadata,
    purposes: &BTreeMap<String, String>,
    seconds: &BTreeMap<String, f64>,
) -> Result<Vec<Dependency>> {
    let edges = edges(metadata)?;
    let users = users(metadata, &edges);
    let brought: BTreeMap<_, _> = users.keys().map(|&id| (id, all_under(id, &edges))).collect();
    let cost = |ids: &mut dyn Iterator<Item = &PackageId>| {
        let mut cost = Cost::default();
        for id in ids {
            cost.crates += 1;
            cost.seconds += seconds.get(metadata[id].name.as_str()).unwrap_or(&0.0);
        }
        cost
    };
    let mut dependencies = Vec::new();
    for (id, users) in users {
        let package = &metadata[id];
        let name = package.name.to_string();
        let purpose = purposes
            .get(&name)
            .with_context(|| format!("{name} has no line in [workspace.metadata.dependencies]"))?;
        let others = brought.iter().filter(|(other, _)| **other != id);
        let is_alone = |one: &&PackageId| others.clone().all(|(_, set)| !set.contains(*one));
        let all = cost(&mut brought[id].iter().copied());
        let alone = cost(&mut brought[id].iter().copied().filter(is_alone));
        let (version, purpose) = (package.version.to_string(), purpose.clone());
        dependencies.push(Dependency { name, version, purpose, users, all, alone });
    }
    let named: BTreeSet<_> = dependencies.iter().map(|d| d.name.as_str()).collect();
    let unused: Vec<_> = purposes.keys().filter(|name| !named.contains(name.as_str())).collect();
    ensure!(
        unused.is_empty(),
        "[workspace.metadata.dependencies] names what no published crate uses: {unused:?}"
    );
    dependencies.sort_by(|a, b| b.all.seconds.total_cmp(&a.all.seconds));
    Ok(dependencies)
}

fn edges(metadata: &Metadata) -> Result<Edges<'_>> {
    let resolve = metadata.resolve.as_ref().context("cargo resolves the workspace")?;
    let mut edges = Edges::new();
    for node in &resolve.nodes {
        let is_built = |dep: &&NodeDep| {
            dep.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development)
        };
        edges.insert(&node.id, node.deps.iter().filter(is_built).map(|dep| &dep.pkg).collect());
    }
    Ok(edges)
}

/// The dependencies that our published crates name, each with these crates.
fn users<'a>(metadata: &'a Metadata, edges: &Edges<'a>) -> BTreeMap<&'a PackageId, Vec<String>> {
    let ours: BTreeMap<_, _> = metadata
        .workspace_packages()
        .into_iter()
        .filter(|package| package.publish.is_none())
        .map(|package| (&package.id, package.name.to_string()))
        .collect();
    let mut users: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for (id, name) in &ours {
        for dependency in edges[id].iter().filter(|dependency| !ours.contains_key(*dependency)) {
            users.entry(*dependency).or_default().push(name.clone());
        }
    }
    users
}

/// A package, and all that it is built with.
fn all_under<'a>(root: &'a PackageId, edges: &Edges<'a>) -> BTreeSet<&'a PackageId> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![root]);
    while let Some(id) = open.pop() {
        if seen.insert(id) {
            open.extend(&edges[id]);
        }
    }
    seen
}

fn shown(dependencies: &[Dependency]) -> String {
    let head = [
        "dependency",
        "what it is for",
        "named by",
        "crates",
        "seconds of one core",
        "crates it alone brings",
        "seconds",
    ];
    let mut text = format!("| {} |\n|---|---|---|---:|---:|---:|---:|\n", head.join(" | "));
    for Dependency { name, version, purpose, users, all, alone } in dependencies {
        let users =
            if users.len() > 4 { format!("{} crates", users.len()) } else { users.join(", ") };
        let costs = [all, alone].map(|cost| format!("{} | {:.1}", cost.crates, cost.seconds));
        text += &format!("| {name} {version} | {purpose} | {users} | {} |\n", costs.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seconds_of_a_crate_are_those_of_all_its_units() {
        let page = r#"x const UNIT_DATA = [{"name": "a", "duration": 0.5}, {"name": "b", "duration": 1},
            {"name": "a", "duration": 0.25}]; const Y = 1;"#;
        let seconds = seconds(page).unwrap();
        assert_eq!((seconds["a"], seconds["b"]), (0.75, 1.0));
    }

    #[test]
    fn every_dependency_of_a_published_crate_has_a_purpose() {
        let metadata = resolved(&Workspace::load(Vec::new(), Vec::new()).unwrap()).unwrap();
        let table = table(&metadata, &purposes(&metadata).unwrap(), &BTreeMap::new()).unwrap();
        let governor = table.iter().find(|d| d.name == "governor").unwrap();
        assert_eq!(governor.users, ["stockade-rate"]);
        assert!(
            governor.all.crates > governor.alone.crates
                && governor.alone.crates > 1
                && shown(&table).contains("| governor "),
            "{governor:?}"
        );
    }
}
