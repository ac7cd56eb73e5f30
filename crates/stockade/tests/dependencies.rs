//! What a user of the facade gets to compile.

use std::{collections::BTreeSet, env, process::Command};

/// The clients that the workspace knows, and what they are built from.
const CLIENTS: [&str; 8] =
    ["http", "hyper", "hyper-util", "redis", "reqwest", "sqlx", "tokio-postgres", "tonic"];

/// What `cargo tree` shows: a line a crate, and each crate once.
fn tree(args: &[&str]) -> BTreeSet<String> {
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo runs the tests"));
    cargo.args(["tree", "--edges", "normal", "--prefix", "none", "--no-dedupe", "--format", "{p}"]);
    let output = cargo.args(args).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).expect("cargo writes text");
    assert!(tree.contains("stockade-core v"), "{tree}");
    tree.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Those of [`CLIENTS`] that `cargo tree` shows.
fn clients(args: &[&str]) -> Vec<&'static str> {
    let tree = tree(args);
    let names: Vec<_> = tree.iter().filter_map(|line| line.split(' ').next()).collect();
    CLIENTS.into_iter().filter(|client| names.contains(client)).collect()
}

#[test]
fn the_facade_brings_no_client_whatever_its_features() {
    assert_eq!(clients(&["--package", "stockade"]), [""; 0]);
    assert_eq!(clients(&["--package", "stockade", "--all-features"]), [""; 0]);
}

#[test]
fn the_classifiers_bring_no_client_by_default_and_each_by_its_feature() {
    assert_eq!(clients(&["--package", "stockade-clients"]), [""; 0]);
    assert_eq!(clients(&["--package", "stockade-clients", "--all-features"]), CLIENTS);
}

#[test]
fn the_first_example_builds_at_most_150_crates() {
    let tree = tree(&["--package", "stockade-examples"]);
    assert!(tree.len() <= 150, "{} crates: {tree:#?}", tree.len());
}

#[test]
fn the_facade_builds_at_most_35_crates_and_no_procedural_macro() {
    let tree = tree(&["--package", "stockade"]);
    assert!(tree.len() <= 35, "{} crates: {tree:#?}", tree.len());
    assert!(!tree.iter().any(|line| line.contains("(proc-macro)")), "{tree:#?}");
}
