//! A mistake in a scenario is answered with its line, and with what would have been right.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

use stockade_simulate::{builtin::BUILTIN, fault::Fault, scenario::Scenario};

const GOOD: &str = r#"about = "a scenario"

[fleet]
clients = 3
rate = 2
patience = "1s"
duration = "10s"

[server]
load = 0.5
service_time = "10ms"
queue = "1s"

[[phase]]
name = "calm"
at = "0s"

[[phase]]
name = "stall"
at = "5s"
capacity = 0

[[stack]]
name = "none"
layers = []

[[stack]]
name = "some"
layers = [
    { timeout = "1s" },
    { retry = { attempts = 3 } },
    { breaker = {} },
    { rate = { times = 2 } },
    { limit = { max = 3 } },
    { pool = { workers = 3 } },
]
"#;

/// What is answered when `right` is replaced by `wrong`.
fn fault(right: &str, wrong: &str) -> Fault {
    assert_eq!(GOOD.matches(right).count(), 1, "{right:?} is to be there once");
    Scenario::read("mine.toml", &GOOD.replace(right, wrong)).unwrap_err()
}

#[track_caller]
fn assert_told(fault: &Fault, line: usize, right: &str) {
    assert_eq!(fault.line(), Some(line), "{fault}");
    assert!(fault.to_string().contains(right), "{right:?} is not in: {fault}");
}

#[test]
fn a_good_scenario_is_read() {
    Scenario::read("mine.toml", GOOD).unwrap();
    for builtin in BUILTIN {
        let scenario = Scenario::read(builtin.name, builtin.text).unwrap();
        assert!(!scenario.about.is_empty());
        assert!(scenario.recoveries().count() > 0, "{} shows a recovery", builtin.name);
    }
}

#[test]
fn the_place_is_marked() {
    let told = fault("rate = 2", "rate = -2").to_string();

    let expected = "mine.toml:5:8: invalid value: integer `-2`, expected a number above 0, up to 1000000\n  \
                    |\n5 | rate = -2\n  |        ^^";
    assert_eq!(told, expected);
}

#[test]
fn an_unknown_key_is_answered_with_the_known_ones() {
    assert_told(&fault("rate = 2", "rte = 2"), 5, "`clients`, `rate`, `patience`, `duration`");
    assert_told(&fault("capacity = 0", "speed = 0"), 21, "`name`, `at`, `load`, `capacity`");
    assert_told(&fault("max = 3", "max = 3, min = 1"), 34, "`max`, `queue`, `max_wait`");
    assert_told(
        &fault("[fleet]", "[flet]"),
        3,
        "`about`, `fleet`, `server`, `chaos`, `phase`, `stack`",
    );
}

#[test]
fn an_unknown_layer_is_answered_with_the_known_ones() {
    let known = "`timeout`, `retry`, `breaker`, `rate`, `limit`, `hedge`, `pool`";
    assert_told(&fault("{ breaker = {} }", "{ braker = {} }"), 32, known);
}

#[test]
fn a_layer_stands_in_braces_of_its_own() {
    assert_told(&fault("{ breaker = {} }", "\"breaker\""), 32, "{ breaker = {} }");
    assert_told(&fault("{ breaker = {} },", "{},"), 32, "one layer in braces");
    let two = fault("{ breaker = {} }", "{ timeout = \"1s\", breaker = {} }");
    assert_told(&two, 32, "one layer in braces");
}

#[test]
fn a_number_out_of_range_is_answered_with_the_range() {
    assert_told(&fault("clients = 3", "clients = -3"), 4, "a whole number from 1 to 1000000");
    assert_told(&fault("clients = 3", "clients = 2.5"), 4, "a whole number from 1 to 1000000");
    assert_told(&fault("load = 0.5", "load = 50"), 10, "a share above 0, up to 1");
    assert_told(&fault("capacity = 0", "capacity = -1"), 21, "a number from 0");
    assert_told(&fault("attempts = 3", "attempts = 0"), 31, "a whole number from 1");
}

#[test]
fn a_time_needs_its_unit() {
    for wrong in ["3", "\"3\"", "\"3 parsecs\"", "\"0s\"", "\"-1s\"", "\"2days\""] {
        let fault = fault("service_time = \"10ms\"", &format!("service_time = {wrong}"));
        assert_told(&fault, 11, "a time with its unit from \"1ms\" to \"1day\"");
    }
}

#[test]
fn phases_stand_in_their_order() {
    assert_told(&fault("at = \"0s\"", "at = \"1s\""), 16, "has to begin at \"0s\"");
    let early = fault("at = \"5s\"", "at = \"0s\"");
    assert_told(&early, 20, "after \"0s\", when \"calm\" does");
    assert_told(&fault("at = \"5s\"", "at = \"10s\""), 20, "`fleet.duration` is \"10s\"");
}

#[test]
fn what_excludes_each_other_is_told() {
    let size = "either `workers`, how many requests it works on at once, or `load`";
    assert_told(&fault("load = 0.5", "load = 0.5\nworkers = 3"), 9, size);
    assert_told(&fault("load = 0.5", ""), 9, size);
    let window = "either so many `calls` or a `time`";
    assert_told(&fault("breaker = {}", "breaker = { calls = 9, time = \"1s\" }"), 32, window);
    assert_told(
        &fault("times = 2", "times = 2, per_second = 3"),
        33,
        "either `per_second`, or `times`",
    );
}

#[test]
fn what_does_not_fit_together_is_told() {
    let min_calls = fault("breaker = {}", "breaker = { calls = 9, min_calls = 10 }");
    assert_told(&min_calls, 32, "the window, which is 9 calls");
    let cap = fault("attempts = 3", "attempts = 3, base = \"2s\", cap = \"1s\"");
    assert_told(&cap, 31, "at least `base`, 2s");
    let budget = fault("attempts = 3", "attempts = 3, budget = 0.1");
    assert_told(&budget, 31, "\"unlimited\" or { ratio = 0.1, per_second = 0.5 }");
    assert_told(&fault("name = \"some\"", "name = \"none\""), 28, "each needs its own");
}

#[test]
fn what_is_missing_is_named() {
    assert_told(&fault("patience = \"1s\"", ""), 3, "missing field `patience`");
    let empty = Scenario::read("mine.toml", "").unwrap_err();
    assert_eq!(empty.to_string(), "mine.toml: missing field `fleet`");
}

#[test]
fn a_fleet_that_is_too_large_is_refused() {
    let text = GOOD.replace("clients = 3", "clients = 1_000_000").replace("rate = 2", "rate = 11");
    let told = Scenario::read("mine.toml", &text).unwrap_err().to_string();

    assert!(
        told.contains("11000000 calls a second") && told.contains("10000000 is the most"),
        "{told}"
    );
}

#[test]
fn what_is_no_toml_is_told_with_its_place() {
    assert_told(&fault("rate = 2", "rate = = 2"), 5, "mine.toml:5:8");
    assert_told(&fault("\"calm\"", "\"café"), 15, "name = \"café");
}

#[test]
fn a_hedge_and_chaos_are_told_what_they_lack() {
    let hedge = |inside: &str| {
        fault("attempts = 3 }", &format!("attempts = 3 }} }}, {{ hedge = {{ {inside} }}"))
    };
    assert_told(&hedge(""), 31, "either `after` a time or at a `percentile`");
    assert_told(&hedge("after = \"1s\", percentile = 0.9"), 31, "either `after`");
    assert_told(&hedge("percentile = 0.2"), 31, "from 0.5 to 0.999");
    assert_told(&hedge("after = \"1s\", max = 11"), 31, "from 1 to 10");
    let chaos = fault("name = \"calm\"", "name = \"calm\"\nchaos = true");
    assert!(chaos.to_string().contains("needs a table [chaos]"), "{chaos}");
}
