//! Each layer of a scenario is the layer it is called, with the settings it is given.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::ops::ControlFlow;

use stockade_simulate::{
    record::PhaseRecord,
    run::{Run, run},
    scenario::Scenario,
};

const STALL: usize = 1;

/// One client in front of `layers`, while the server stands still.
fn simulate(layers: &str) -> Run {
    let text = format!(
        r#"
        fleet = {{ clients = 1, rate = 50, patience = "1s", duration = "4s" }}
        server = {{ workers = 1, service_time = "10ms", spread = "constant", queue = "1m" }}
        phase = [{{ name = "calm", at = "0s" }}, {{ name = "stall", at = "1s", capacity = 0 }}]
        stack = [{{ name = "test", layers = [{layers}] }}]
        "#
    );
    let scenario = Scenario::read("test.toml", &text).unwrap();
    run(&scenario, &scenario.stacks[0], 1, |_| ControlFlow::Continue(()))
}

fn stall(layers: &str) -> PhaseRecord {
    simulate(layers).record.phases[STALL].clone()
}

#[track_caller]
fn assert_refuses(layers: &str, by: &str, reason: &str) {
    let refusals = stall(layers).refusals;
    assert!(refusals.iter().any(|r| (r.by, r.reason) == (by, reason)), "{layers}: {refusals:?}");
}

#[test]
fn each_layer_refuses_for_its_own_reason() {
    assert_refuses(r#"{ timeout = "50ms" }"#, "timeout", "timed out");
    assert_refuses(
        r#"{ breaker = { consecutive = 3 } }, { timeout = "50ms" }"#,
        "breaker",
        "circuit open",
    );
    assert_refuses(
        r#"{ breaker = { time = "1s", min_calls = 5 } }, { timeout = "50ms" }"#,
        "breaker",
        "circuit open",
    );
    assert_refuses("{ rate = { per_second = 5, burst = 1, queue = 0 } }", "rate", "rate limited");
    assert_refuses(r#"{ rate = { times = 0.5, max_wait = "10ms" } }"#, "rate", "wait exceeded");
    assert_refuses("{ limit = { max = 1, queue = 0 } }", "limit", "queue full");
    assert_refuses(r#"{ limit = { max = 1, max_wait = "10ms" } }"#, "limit", "wait exceeded");
    assert_refuses("{ pool = { workers = 1, queue = 1 } }", "caller", "gave up");
}

#[test]
fn a_retry_makes_as_many_attempts_as_it_may() {
    let attempts = |retry: &str| {
        let layers = format!(r#"{{ retry = {retry} }}, {{ timeout = "50ms" }}"#);
        stall(&layers).counts.attempts()
    };

    assert!(attempts(r#"{ attempts = 3, base = "1ms", budget = "unlimited" }"#) > 2.8);
    assert!(attempts(r#"{ attempts = 1, budget = "unlimited" }"#) < 1.05);
    assert!(attempts("{ attempts = 3, budget = { ratio = 0, per_second = 0 } }") < 1.05);
    assert!(attempts(r#"{ attempts = 3, budget = "unlimited", max_elapsed = "1ms" }"#) < 1.05);
    let half =
        attempts(r#"{ attempts = 3, base = "1ms", budget = { ratio = 0.5, per_second = 0 } }"#);
    assert!((1.3..1.8).contains(&half), "{half}");
}

#[test]
fn layers_stand_in_the_order_of_the_file() {
    let layers = r#"{ timeout = "200ms" }, { limit = { max = 1, queue = 100 } }"#;
    let outside = stall(layers).refusals;
    let layers = r#"{ limit = { max = 1, queue = 100 } }, { timeout = "200ms" }"#;
    let inside = stall(layers);

    // Outside it bounds the wait for a permit as well, and the limit starts no call at the deadline; inside it
    // bounds the call alone.
    assert_eq!(outside[0].by, "timeout");
    let ends = |by: &str, why: &str| by == "timeout" || (by, why) == ("limit", "deadline expired");
    assert!(outside.iter().all(|refusal| ends(refusal.by, refusal.reason)), "{outside:?}");
    assert!(inside.counts.failed < inside.counts.calls / 2, "{inside:?}");
}
