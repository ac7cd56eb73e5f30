//! The guide shows what is so.

const ONE: &str = include_str!("../../../examples/one_pool.rs");
const FLEET: &str = include_str!("../../../examples/servers/fleet_pool.rs");
const GUIDE: &str = include_str!("../src/guide.rs");

/// The code, without what the two say about themselves.
fn code(example: &'static str) -> Vec<&'static str> {
    example.lines().filter(|line| !line.starts_with("//!") && !line.is_empty()).collect()
}

#[test]
fn the_difference_in_the_guide_is_the_one_between_the_two_examples() {
    let diff = GUIDE.split("//! ```diff\n").nth(1).and_then(|rest| rest.split("//! ```").next());
    let diff: Vec<_> = diff.expect("there is one").lines().map(|line| &line[4..]).collect();
    let marked =
        |mark: char| -> Vec<_> { diff.iter().filter_map(|line| line.strip_prefix(mark)).collect() };
    let (one, fleet) = (code(ONE), code(FLEET));
    let missing = |of: &[&'static str], from: &[&'static str]| -> Vec<_> {
        of.iter().copied().filter(|line| !from.contains(line)).collect()
    };

    assert_eq!(marked('-'), missing(&one, &fleet));
    assert_eq!(marked('+'), missing(&fleet, &one));
    for line in marked(' ') {
        assert!(one.contains(&line) && fleet.contains(&line), "{line}");
    }
}
