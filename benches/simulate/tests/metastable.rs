//! What the simulation is for: that retries without a budget keep an overload going, and that the recommended stack
//! ends it. The scenario is the one that comes along, with fewer clients.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::{ops::ControlFlow, time::Duration};

use stockade_simulate::{
    builtin,
    run::{Run, run},
    scenario::{Changes, Scenario},
};

/// `open_for` of the breaker in the recommended stack.
const OPEN: Duration = Duration::from_secs(5);

const OVERLOAD: usize = 1;
const AFTER_OVERLOAD: usize = 2;
const AFTER_STALL: usize = 4;

fn storm() -> Scenario {
    scenario("storm")
}

fn scenario(name: &str) -> Scenario {
    let builtin = builtin::find(name).unwrap();
    assert!(builtin.text.contains(r#"open_for = "5s""#));
    let scenario = Scenario::read(name, builtin.text).unwrap();
    scenario.with(Changes { clients: Some("50".parse().unwrap()), ..Changes::default() }).unwrap()
}

fn simulate(scenario: &Scenario, stack: &str) -> Run {
    let stack = scenario.stacks.iter().find(|s| s.name() == stack).unwrap();
    run(scenario, stack, 1, |_| ControlFlow::Continue(()))
}

#[test]
fn without_a_budget_the_overload_outlives_its_cause() {
    let scenario = storm();
    let run = simulate(&scenario, "retries, no budget");

    for phase in [AFTER_OVERLOAD, AFTER_STALL] {
        let counts = run.record.phases[phase].counts;
        assert!(counts.goodput() < 0.5, "{counts:?}");
        assert_eq!(run.record.recovered_after(scenario.bounds(phase)), None);
        assert!(counts.attempts() > 3.0, "it is the retries that keep it going: {counts:?}");
        assert!(counts.waste() > 0.9, "the server works, but for nobody: {counts:?}");
    }
}

#[test]
fn without_retries_the_same_overload_passes_by_itself() {
    let scenario = storm();
    let run = simulate(&scenario, "timeout");

    assert!(run.record.phases[OVERLOAD].counts.goodput() < 0.5);
    assert!(run.record.recovered_after(scenario.bounds(AFTER_OVERLOAD)).is_some());
}

#[test]
fn with_a_budget_the_overload_passes() {
    let scenario = storm();
    let run = simulate(&scenario, "retries with a budget");

    let counts = run.record.phases[AFTER_OVERLOAD].counts;
    assert!(counts.attempts() < 1.2, "{counts:?}");
    assert!(run.record.recovered_after(scenario.bounds(AFTER_OVERLOAD)).is_some());
}

#[test]
fn the_recommended_stack_is_back_five_seconds_after_its_breaker_may_close() {
    let scenario = storm();
    let run = simulate(&scenario, "recommended");

    let overload = run.record.phases[OVERLOAD].counts;
    assert!(overload.goodput() > 0.35, "the server has work that counts for a third: {overload:?}");
    for phase in [AFTER_OVERLOAD, AFTER_STALL] {
        let back = run.record.recovered_after(scenario.bounds(phase));
        let within = OPEN + Duration::from_secs(5);
        assert!(
            back.is_some_and(|back| back <= within),
            "{}: {back:?}",
            scenario.phases[phase].name
        );
    }
}

#[test]
fn a_budget_for_one_client_is_none_for_a_fleet() {
    let scenario = scenario("brownout");
    let back = |stack| simulate(&scenario, stack).record.recovered_after(scenario.bounds(2));

    assert_eq!(back("20 % + 10 a second"), None);
    assert!(back("10 % + one in 2 s").is_some());
}

#[test]
fn attempts_with_hardly_any_time_left_keep_no_breaker_open() {
    let scenario = scenario("order");
    let back = |stack| simulate(&scenario, stack).record.recovered_after(scenario.bounds(2));

    // The open breaker's refusal ends a call, so no call comes back as a probe with no time left.
    for stack in ["recommended", "no max_elapsed"] {
        let back = back(stack);
        assert!(back.is_some_and(|back| back <= OPEN), "{stack}: {back:?}");
    }
}
