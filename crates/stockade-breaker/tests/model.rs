//! The breaker against a plain model, which keeps the list of all outcomes and counts anew each time.

mod common;

use std::time::Duration;

use common::{Ask, SECOND, ask};
use proptest::prelude::*;
use stockade_breaker::{BreakerLayer, State, Window};
use stockade_core::Reason;
use tokio::{runtime, time::advance};
use tower::Layer;

#[derive(Clone, Copy, Debug)]
struct Rules {
    window: u32,
    min_calls: u32,
    /// Tenths.
    failure_rate: u32,
    slow_rate: Option<u32>,
    consecutive: Option<u32>,
    probes: u32,
}

#[derive(Clone, Copy, Debug)]
struct Outcome {
    failed: bool,
    slow: bool,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Call(Outcome),
    /// A call whose result does not count.
    Ignored,
    /// The open time is over.
    Wait,
    Reset,
}

/// What a breaker has to do.
#[derive(Debug)]
struct Model {
    rules: Rules,
    state: State,
    /// All outcomes since it last changed its state.
    outcomes: Vec<Outcome>,
    /// How often it opened since it was closed.
    openings: u32,
    opened: u64,
    refused: u64,
}

const SLOW: Duration = SECOND;
const OPEN_FOR: Duration = Duration::from_secs(5);

// === impl Model ===

impl Model {
    fn new(rules: Rules) -> Self {
        let outcomes = Vec::new();
        Self { rules, state: State::Closed, outcomes, openings: 0, opened: 0, refused: 0 }
    }

    fn enter(&mut self, state: State) {
        match state {
            State::Closed => self.openings = 0,
            State::Open => (self.openings, self.opened) = (self.openings + 1, self.opened + 1),
            State::HalfOpen | State::ForcedOpen => {}
        }
        self.state = state;
        self.outcomes.clear();
    }

    fn window(&self) -> &[Outcome] {
        &self.outcomes[self.outcomes.len().saturating_sub(self.rules.window as usize)..]
    }

    fn settle(&mut self, outcome: Outcome) {
        let slow = outcome.slow && self.rules.slow_rate.is_some();
        self.outcomes.push(Outcome { slow, ..outcome });
        match self.state {
            State::HalfOpen if outcome.failed || slow => self.enter(State::Open),
            State::HalfOpen if self.outcomes.len() == self.rules.probes as usize => {
                self.enter(State::Closed);
            }
            State::Closed if self.is_failing() => self.enter(State::Open),
            _ => {}
        }
    }

    fn is_failing(&self) -> bool {
        let Rules { min_calls, failure_rate, slow_rate, consecutive, .. } = self.rules;
        let window = self.window();
        let (failed, slow) = count(window);
        // A rate of none is reached by none.
        let reaches =
            |part: usize, tenths: u32| part > 0 && part * 10 >= tenths as usize * window.len();
        let in_a_row = self.outcomes.iter().rev().take_while(|outcome| outcome.failed).count();
        consecutive.is_some_and(|most| in_a_row >= most as usize)
            || window.len() >= min_calls as usize
                && (reaches(failed, failure_rate)
                    || slow_rate.is_some_and(|rate| reaches(slow, rate)))
    }

    /// How long it is open, before chance takes a part of it away.
    fn open_for(&self) -> Duration {
        let doublings = self.openings.saturating_sub(1).min(10);
        (OPEN_FOR * 2_u32.pow(doublings)).min(Duration::from_secs(60))
    }
}

fn rules() -> impl Strategy<Value = Rules> {
    let rate = 1..=10_u32;
    let rules = (1..24_u32, 1..24_u32, rate.clone(), prop::option::of(rate));
    (rules, prop::option::of(1..6_u32), 1..4_u32).prop_map(|(rules, consecutive, probes)| {
        let (window, min_calls, failure_rate, slow_rate) = rules;
        let min_calls = min_calls.min(window);
        Rules { window, min_calls, failure_rate, slow_rate, consecutive, probes }
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = |failed, slow| Just(Step::Call(Outcome { failed, slow }));
    let step = prop_oneof![
        24 => outcome(false, false),
        12 => outcome(true, false),
        4 => outcome(false, true),
        2 => outcome(true, true),
        4 => Just(Step::Ignored),
        4 => Just(Step::Wait),
        1 => Just(Step::Reset),
    ];
    prop::collection::vec(step, 1..250)
}

/// How many failed, and how many were slow.
fn count(window: &[Outcome]) -> (usize, usize) {
    let failed = window.iter().filter(|outcome| outcome.failed).count();
    (failed, window.iter().filter(|outcome| outcome.slow).count())
}

const fn asked(Outcome { failed, slow }: Outcome) -> Ask {
    match (failed, slow) {
        (false, false) => Ask::Succeed,
        (true, false) => Ask::Fail,
        (false, true) => Ask::Take(SLOW),
        (true, true) => Ask::FailAfter(SLOW),
    }
}

async fn agree(rules: Rules, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut layer = BreakerLayer::new()
        .window(Window::calls(rules.window))
        .min_calls(rules.min_calls)
        .failure_rate(f64::from(rules.failure_rate) / 10.0)
        .probes(rules.probes)
        .open_for(OPEN_FOR);
    if let Some(rate) = rules.slow_rate {
        layer = layer.slow(SLOW, f64::from(rate) / 10.0);
    }
    if let Some(most) = rules.consecutive {
        layer = layer.consecutive(most);
    }
    let ((layer, handle), mut model) = (layer.with_handle(), Model::new(rules));
    let mut breaker = layer.layer(common::Backend::new().0);
    for step in steps {
        match step {
            Step::Call(_) | Step::Ignored if model.state == State::Open => {
                let answer = ask(&mut breaker, Ask::Succeed).await;
                prop_assert!(answer.is_err());
                model.refused += 1;
            }
            Step::Call(outcome) => {
                let answer = ask(&mut breaker, asked(outcome)).await;
                prop_assert_eq!(answer.is_err(), outcome.failed);
                model.settle(outcome);
            }
            Step::Ignored => {
                let _ = ask(&mut breaker, Ask::Refuse(Reason::QueueFull)).await;
            }
            Step::Wait => {
                if let Some(remaining) = handle.snapshot().remaining {
                    let full = model.open_for();
                    prop_assert!(full.mul_f64(0.79) <= remaining && remaining <= full);
                    advance(remaining).await;
                    model.enter(State::HalfOpen);
                }
            }
            Step::Reset => {
                handle.reset();
                model.enter(State::Closed);
            }
        }
        let seen = handle.snapshot();
        prop_assert_eq!(seen.state, model.state, "{:?}", step);
        prop_assert_eq!((seen.opened, seen.refused), (model.opened, model.refused));
        if model.state == State::Closed {
            let window = model.window();
            prop_assert_eq!(seen.calls as usize, window.len());
            prop_assert_eq!((seen.failures as usize, seen.slow as usize), count(window));
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_breaker_does_what_a_list_of_all_outcomes_says(rules in rules(), steps in steps()) {
        let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(agree(rules, steps))?;
    }
}
