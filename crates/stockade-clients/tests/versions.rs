//! The table of supported clients, and what the workspace builds and tests with.

const PAGE: &str = include_str!("../src/lib.rs");
const GUIDE: &str = include_str!("../../stockade/src/guide/real_clients.md");
const WORKSPACE: &str = include_str!("../../../Cargo.toml");
const LOCK: &str = include_str!("../../../Cargo.lock");

/// The packages that test with these clients.
const TESTS: [&str; 2] = ["stockade-clients", "stockade-examples-clients"];

/// The version that the workspace asks for.
fn built_with(client: &str) -> Option<&'static str> {
    let line = WORKSPACE.lines().find(|line| line.starts_with(&format!("{client} = ")))?;
    line.split('"').nth(1)
}

/// What the lock file says of each package of this name.
fn locked(name: &str) -> Vec<&'static str> {
    let first = format!("\nname = \"{name}\"\n");
    LOCK.split("[[package]]").filter(|package| package.starts_with(&first)).collect()
}

/// The version of `client` that the tests run with.
fn tested_with(client: &str) -> Option<&'static str> {
    let quoted = |line: &'static str| line.split('"').nth(1);
    let packages = TESTS.iter().flat_map(|name| locked(name));
    let asked = packages.flat_map(str::lines).filter_map(quoted).find_map(|dependency| {
        let (name, version) = dependency.split_once(' ').unwrap_or((dependency, ""));
        (name == client).then_some(version)
    })?;
    // The version is named only where there are several.
    if !asked.is_empty() {
        return Some(asked);
    }
    let [package] = locked(client)[..] else { return None };
    package.lines().find(|line| line.starts_with("version = ")).and_then(quoted)
}

/// Each client in the table and its version.
fn rows() -> Vec<(&'static str, &'static str)> {
    let cells = PAGE.lines().filter_map(|line| line.strip_prefix("//! | ")?.split(" | ").nth(1));
    cells.filter_map(|cell| cell.strip_prefix('`')?.split_once("` ")).collect()
}

fn is_of(version: &str, exact: &str) -> bool {
    exact.strip_prefix(version).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[test]
fn the_versions_in_the_table_are_those_that_are_built_with() {
    let rows = rows();
    assert_eq!(rows.len(), 12, "{rows:?}");
    for (client, version) in rows {
        let built = built_with(client).expect("each client is a dependency of the workspace");
        let next = built.strip_prefix(version).and_then(|rest| rest.chars().next());
        assert!(
            matches!(next, None | Some('.')),
            "{client}: {version} in the table, {built} built"
        );
        assert!(built.starts_with(version), "{client}: {version} in the table, {built} built");
    }
}

#[test]
fn the_versions_in_the_table_are_those_that_the_tests_run_with() {
    for (client, version) in rows() {
        let tested = tested_with(client).expect("each client is in the lock file");
        assert!(is_of(version, tested), "{client}: {version} in the table, {tested} tested");
    }
}

#[test]
fn the_guide_names_the_same_versions() {
    let (_, named) = GUIDE.split_once("It knows ").expect("the guide names them");
    let (named, _) = named.split_once(". With another").expect("it ends somewhere");
    let named = named.replace(" with ", ", ").replace(" and ", ", ");
    for one in named.split(", ") {
        let (client, version) = one.split_once(' ').expect("a client and its version");
        let tested = tested_with(client).expect("each client is in the lock file");
        assert!(is_of(version, tested), "{one} in the guide, {tested} tested");
    }
}
