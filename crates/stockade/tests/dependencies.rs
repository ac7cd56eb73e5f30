//! What a user of the facade gets to compile.

use std::{env, process::Command};

/// The clients that the workspace knows, and what they are built from.
const CLIENTS: [&str; 8] =
    ["http", "hyper", "hyper-util", "redis", "reqwest", "sqlx", "tokio-postgres", "tonic"];

/// Those of [`CLIENTS`] that `cargo tree` shows.
fn clients(args: &[&str]) -> Vec<&'static str> {
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo runs the tests"));
    cargo.args(["tree", "--edges", "normal", "--prefix", "none", "--format", "{p}"]).args(args);
    let output = cargo.output().expect("cargo runs");
    let tree = String::from_utf8(output.stdout).expect("cargo writes text");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names: Vec<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains(&"stockade-core"), "{tree}");
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
