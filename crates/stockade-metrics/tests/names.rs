//! What is exported is what the crate's page says.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{one_of_each, scrape};
use prometheus_client::encoding::prometheus_text;
use stockade_metrics::prometheus_client;

/// The rows of the table: name, type and the label beside `name`.
fn documented() -> BTreeSet<[String; 3]> {
    let page = include_str!("../src/lib.rs");
    let rows = page.lines().filter_map(|line| line.strip_prefix("//! | `stockade_"));
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        [format!("stockade_{}", cells[0]), cells[1].to_owned(), cells[2].to_owned()]
    })
    .collect()
}

/// The same for what is exported.
fn exported() -> BTreeSet<[String; 3]> {
    let (metrics, _pool) = one_of_each("it").unwrap();
    let mut registry = prometheus_client::registry::Registry::default();
    registry.register_collector(Box::new(metrics.clone()));
    // In this format the type is told of the name that the values have.
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry).unwrap();
    let types: BTreeMap<_, _> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split_once(' ').unwrap())
        .collect();
    let series = scrape(&metrics).into_keys();
    series
        .map(|series| {
            let (name, labels) = series.trim_end_matches('}').split_once('{').unwrap();
            let mut keys: Vec<_> =
                labels.split(',').map(|label| label.split_once('=').unwrap().0).collect();
            // The buckets, the sum and the count of a histogram have the type of the whole.
            keys.retain(|key| !["name", "le"].contains(key));
            let parts = ["_bucket", "_sum", "_count"];
            let whole = parts.iter().find_map(|part| name.strip_suffix(part));
            let name = whole.filter(|name| types.contains_key(name)).unwrap_or(name);
            [name.to_owned(), types[name].to_owned(), keys.join(",")]
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn names_types_and_labels_are_those_of_the_documented_table() {
    let (documented, exported) = (documented(), exported());
    assert!(exported.len() > 20, "{exported:#?}");
    assert_eq!(documented, exported);
}

#[tokio::test(start_paused = true)]
async fn each_metric_has_one_help_and_one_type_for_all_its_instances() {
    let (metrics, _pool) = one_of_each("a").unwrap();
    let (_, other) = one_of_each("b").unwrap();
    metrics.pool("b", other.handle()).unwrap();
    let text = metrics.render();
    let of = |comment: &str| {
        let lines = text.lines().filter_map(|line| line.strip_prefix(comment));
        lines.map(|line| line.split_once(' ').unwrap().0.to_owned()).collect::<Vec<_>>()
    };
    let (helps, types) = (of("# HELP "), of("# TYPE "));
    assert_eq!(helps, types);
    assert_eq!(types.iter().collect::<BTreeSet<_>>().len(), types.len());
    let units = text.matches("# UNIT ").count();
    let seconds = types.iter().filter(|name| name.ends_with("_seconds")).count();
    assert_eq!((units, seconds), (7, 7));
    let mut comments = text.lines().filter(|line| line.starts_with("# HELP "));
    assert!(comments.all(|line| line.ends_with('.')), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_name_with_any_letters_is_escaped() {
    let metrics = stockade_metrics::Metrics::new();
    let handle = stockade_limit::LimitLayer::new(1).with_handle().1;
    metrics.limit("a \"quoted\"\nname\\", handle).unwrap();
    let text = metrics.render();
    assert!(text.contains(r#"{name="a \"quoted\"\nname\\"} 1"#), "{text}");
}
