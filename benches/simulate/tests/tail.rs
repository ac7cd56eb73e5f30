//! What a hedge does to the slowest calls, and what it costs.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::{ops::ControlFlow, time::Duration};

use stockade_simulate::{builtin, record::PhaseRecord, run::run, scenario::Scenario};

const CALM: usize = 0;
const SLOW: usize = 1;
const OVERLOAD: usize = 2;

fn simulate(stack: &str) -> Vec<PhaseRecord> {
    simulate_text(builtin::find("tail").unwrap().text, stack)
}

fn simulate_text(text: &str, stack: &str) -> Vec<PhaseRecord> {
    let scenario = Scenario::read("tail", text).unwrap();
    let stack = scenario.stacks.iter().find(|s| s.name() == stack).unwrap();
    run(&scenario, stack, 1, |_| ControlFlow::Continue(())).record.phases
}

#[test]
fn a_hedge_with_a_budget_halves_the_slowest_answers_for_little_more_load() {
    let (one, hedged) = (simulate("one attempt"), simulate("hedge, 5 %"));
    let slowest = |phases: &[PhaseRecord]| phases[SLOW].latency_at(0.999).unwrap();
    assert!(slowest(&one) >= Duration::from_millis(500), "{:?}", slowest(&one));
    assert!(slowest(&hedged) <= slowest(&one) / 2, "{:?}", slowest(&hedged));
    for phase in [CALM, SLOW] {
        let attempts = hedged[phase].counts.attempts();
        assert!(attempts <= 1.05, "{attempts}");
    }
}

#[test]
fn in_an_overload_a_hedge_with_a_budget_adds_next_to_nothing() {
    let (one, hedged) = (simulate("one attempt"), simulate("hedge, 5 %"));
    let attempts = |phases: &[PhaseRecord]| phases[OVERLOAD].counts.attempts();
    assert!(attempts(&hedged) <= attempts(&one) + 0.02, "{}", attempts(&hedged));
    let goodput = |phases: &[PhaseRecord]| phases[OVERLOAD].counts.goodput();
    assert!(goodput(&hedged) >= goodput(&one) - 0.02, "{} {}", goodput(&hedged), goodput(&one));
}

#[test]
fn once_a_server_has_said_that_it_is_overloaded_a_hedge_adds_nothing() {
    let after = "[[phase]]\nname = \"after it\"";
    // The overload begins at 30 s, and is told when the queue of half a second is full.
    let goes_on = "[[phase]]\nname = \"it goes on\"\nat = \"31s\"\nchaos = true\nload = 4\n\n";
    let text = builtin::find("tail").unwrap().text.replace(after, &(goes_on.to_owned() + after));
    let (one, hedged) = (simulate_text(&text, "one attempt"), simulate_text(&text, "hedge, 5 %"));
    let (one, hedged) = (&one[OVERLOAD + 1].counts, &hedged[OVERLOAD + 1].counts);
    assert!(hedged.attempts() < 1.000_1, "{}", hedged.attempts());
    assert!(hedged.goodput() >= one.goodput() - 0.001, "{} {}", hedged.goodput(), one.goodput());
}
