//! Every query of the dashboard uses what is exported, and everything that is exported is on the dashboard.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
};

use common::{one_of_each, scrape};
use promql_parser::{
    label::Matchers,
    parser::{self, AggregateExpr, Expr, LabelModifier},
    util::{ExprVisitor, walk_expr},
};
use serde_json::Value;

/// What Prometheus itself adds to each series.
const TARGET: [&str; 2] = ["instance", "job"];

/// Label values of each label of each metric.
type Exported = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn exported() -> Exported {
    let (metrics, _pool) = one_of_each("it").unwrap();
    let mut exported = Exported::new();
    for series in scrape(&metrics).into_keys() {
        let (name, labels) = series.trim_end_matches('}').split_once('{').unwrap();
        let known = exported.entry(name.to_owned()).or_default();
        for (label, value) in labels.split(',').map(|label| label.split_once('=').unwrap()) {
            known.entry(label.to_owned()).or_default().insert(value.to_owned());
        }
    }
    exported
}

fn dashboard() -> Value {
    serde_json::from_str(include_str!("../dashboard.json")).unwrap()
}

/// Everything under `key`, at any depth.
fn find<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == key {
                    found.push(value);
                }
                find(value, key, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| find(value, key, found)),
        _ => {}
    }
}

fn parse(query: &str) -> Expr {
    // Grafana puts a duration there.
    let query = query.replace("$__rate_interval", "1m");
    parser::parse(&query).unwrap_or_else(|error| panic!("{query}: {error}"))
}

/// What a query asks for.
#[derive(Default)]
struct Asked {
    /// Each selector: whether it is over a range, the metric, and what has to match.
    selectors: Vec<(bool, String, Matchers)>,
    /// By what it is grouped.
    groups: BTreeSet<String>,
}

impl ExprVisitor for Asked {
    type Error = Infallible;

    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Infallible> {
        let selector = match expr {
            Expr::VectorSelector(selector) => Some((false, selector)),
            Expr::MatrixSelector(matrix) => Some((true, &matrix.vs)),
            Expr::Aggregate(AggregateExpr { modifier, .. }) => {
                if let Some(LabelModifier::Include(labels)) = modifier {
                    self.groups.extend(labels.labels.iter().cloned());
                }
                None
            }
            _ => None,
        };
        if let Some((ranges, selector)) = selector {
            let name = selector.name.clone().unwrap_or_default();
            self.selectors.push((ranges, name, selector.matchers.clone()));
        }
        Ok(true)
    }
}

fn asked(query: &str) -> Asked {
    let mut asked = Asked::default();
    let Ok(_) = walk_expr(&mut asked, &parse(query));
    asked
}

/// What is wrong with a query and the legend of what it finds.
fn faults(query: &str, legend: &str, exported: &Exported) -> Vec<String> {
    let Asked { selectors, groups } = asked(query);
    let mut faults = Vec::new();
    let mut fault = |what: String| faults.push(format!("{what} in {query}"));
    if selectors.is_empty() {
        fault("no selector".to_owned());
    }
    for (ranges, name, matchers) in &selectors {
        let Some(labels) = exported.get(name) else {
            fault(format!("no metric {name}"));
            continue;
        };
        // So are the parts of a histogram.
        let counts = ["_total", "_bucket", "_sum", "_count"];
        if *ranges != counts.iter().any(|end| name.ends_with(end)) {
            fault(format!("{name} is a counter if and only if it is seen over a range"));
        }
        for matcher in matchers.matchers.iter().chain(matchers.or_matchers.iter().flatten()) {
            match labels.get(&matcher.name) {
                None if TARGET.contains(&&*matcher.name) => {}
                None => fault(format!("{name} has no label {}", matcher.name)),
                Some(values)
                    if matcher.value.starts_with('$')
                        || matcher.value.split('|').all(|value| values.contains(value)) => {}
                Some(_) => fault(format!("{name} is never {}={}", matcher.name, matcher.value)),
            }
        }
        for group in &groups {
            if !labels.contains_key(group) && !TARGET.contains(&&**group) {
                fault(format!("{name} has no label {group}"));
            }
        }
    }
    for label in legend.split("{{").skip(1).map(|rest| rest.split_once("}}").unwrap().0) {
        if !groups.contains(label) {
            fault(format!("no label {label} is left"));
        }
    }
    faults
}

/// The queries of all panels, each with its legend.
fn queries(dashboard: &Value) -> Vec<(&str, &str)> {
    let mut targets = Vec::new();
    find(dashboard, "targets", &mut targets);
    let targets = targets.into_iter().flat_map(|targets| targets.as_array().unwrap());
    targets
        .map(|target| (target["expr"].as_str().unwrap(), target["legendFormat"].as_str().unwrap()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn every_query_uses_exported_metrics_and_labels() {
    let (exported, dashboard) = (exported(), dashboard());
    let queries = queries(&dashboard);
    let mut exprs = Vec::new();
    find(&dashboard, "expr", &mut exprs);
    assert_eq!(queries.len(), exprs.len(), "there is no query outside of the panels");
    assert!(queries.len() > 20);
    let faults: Vec<_> =
        queries.iter().flat_map(|(query, legend)| faults(query, legend, &exported)).collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[tokio::test(start_paused = true)]
async fn everything_that_is_exported_is_on_the_dashboard() {
    let dashboard = dashboard();
    let shown = queries(&dashboard).into_iter().flat_map(|(query, _)| asked(query).selectors);
    let shown: BTreeSet<_> = shown.map(|(_, name, _)| name).collect();
    let exported: BTreeSet<_> = exported().into_keys().collect();
    assert_eq!(shown, exported);
}

#[test]
fn every_query_selects_only_the_chosen_instances() {
    let dashboard = dashboard();
    for (query, _) in queries(&dashboard) {
        for (_, name, matchers) in asked(query).selectors {
            for variable in ["name", "instance"] {
                let chosen = format!("${variable}");
                let of = matchers.find_matchers(variable);
                assert!(of.iter().any(|matcher| matcher.value == chosen), "{name} in {query}");
            }
        }
    }
}

#[test]
fn the_variables_are_filled_from_exported_labels() {
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<_> =
        variables.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["datasource", "instance", "name"]);
    assert_eq!(
        (&variables[0]["type"], &variables[0]["query"]),
        (&"datasource".into(), &"prometheus".into())
    );
    for variable in &variables[1..] {
        let query = variable["query"]["query"].as_str().unwrap();
        assert_eq!(Some(query), variable["definition"].as_str());
        let inside = query.strip_prefix("label_values(").unwrap().strip_suffix(')').unwrap();
        let (selector, label) = inside.rsplit_once(", ").unwrap();
        assert_eq!(Some(label), variable["name"].as_str());
        let Expr::VectorSelector(selector) = parse(selector) else { panic!("{selector}") };
        let names = selector.matchers.find_matchers("__name__");
        assert_eq!(names.iter().map(|name| &*name.value).collect::<Vec<_>>(), ["stockade_.+"]);
    }
}

#[test]
fn every_panel_has_a_description_and_uses_the_chosen_data_source() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let (rows, graphs): (Vec<_>, Vec<_>) = panels.iter().partition(|panel| panel["type"] == "row");
    let titles: Vec<_> = rows.iter().map(|row| row["title"].as_str().unwrap()).collect();
    assert_eq!(
        titles,
        [
            "Calls",
            "Pools",
            "Concurrency limits",
            "Rate limits",
            "Retries",
            "Circuit breakers",
            "Stacks per key"
        ]
    );
    for panel in graphs {
        let title = panel["title"].as_str().unwrap();
        assert!(panel["description"].as_str().is_some_and(|text| text.len() > 20), "{title}");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title}");
        let mut sources = Vec::new();
        find(panel, "datasource", &mut sources);
        assert!(
            sources.len() > 1 && sources.iter().all(|source| source["uid"] == "${datasource}"),
            "{title}"
        );
    }
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
}

#[tokio::test(start_paused = true)]
async fn a_query_that_finds_nothing_is_a_fault() {
    let exported = exported();
    let wrong = [
        ("stockade_pool_queue", "no metric stockade_pool_queue "),
        ("sum(stockade_pool_queued{status=\"success\"})", "has no label status"),
        ("sum by (reason) (stockade_pool_queued)", "has no label reason"),
        ("rate(stockade_pool_jobs_total{status=\"succeeded\"}[1m])", "never status=succeeded"),
        ("rate(stockade_pool_queued[1m])", "if and only if"),
        ("stockade_pool_jobs_total", "if and only if"),
        ("1", "no selector"),
    ];
    for (query, what) in wrong {
        let faults = faults(query, "", &exported);
        assert!(faults.len() == 1 && faults[0].contains(what), "{query}: {faults:#?}");
    }
    assert!(
        faults("stockade_pool_queued", "{{name}}", &exported)[0].contains("no label name is left")
    );
}
