//! The table of supported clients and what the workspace builds with.

const PAGE: &str = include_str!("../src/lib.rs");
const WORKSPACE: &str = include_str!("../../../Cargo.toml");

/// The version that the workspace asks for.
fn built_with(client: &str) -> Option<&'static str> {
    let line = WORKSPACE.lines().find(|line| line.starts_with(&format!("{client} = ")))?;
    line.split('"').nth(1)
}

#[test]
fn the_versions_in_the_table_are_those_that_are_built_with() {
    let cells = PAGE.lines().filter_map(|line| line.strip_prefix("//! | ")?.split(" | ").nth(1));
    let rows: Vec<_> = cells.filter_map(|cell| cell.strip_prefix('`')?.split_once("` ")).collect();
    assert_eq!(rows.len(), 9, "{rows:?}");
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
