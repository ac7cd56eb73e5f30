//! The state machine: pure, with the time and the random numbers passed in.
//!
//! ```text
//!                     (1) too many calls failed
//!            Closed ─────────────────────────────> Open
//!               ^                                  │  ^
//!   (3) enough  │                (2) the open time │  │ (4) a probe failed,
//!       probes  │                    is over       v  │     or takes too long
//!       succeed └─────────────────────────────── HalfOpen
//! ```
//!
//! With a ramp, (3) does not close at once: it is half-open yet, and a growing share of the calls passes. They
//! count as in Closed. (7) When the ramp is over, it closes, and keeps what it knows; or it opens by (1).
//!
//! Some transitions come from outside: (5) `reset` closes from wherever it is. (6) While there are guards
//! of `isolate`, it is ForcedOpen, and when the last one goes, it is where it was before, with nothing
//! remembered of the calls of that time. (8) `open_for` opens from wherever it is, and (9) `half_open` goes on as (2).
//!
//! Nothing happens by itself: (2), (7), and a probe that takes too long, are noticed by [`Machine::tick`].
//!
//! Whenever calls must no longer count for what comes, the epoch moves on. A call carries the epoch in
//! which it was admitted, and what it reports in another one changes nothing. As every change of the
//! phase but (7) moves the epoch, a call of the epoch at hand was admitted in the phase at hand, or in the
//! ramp to it.

use std::{fmt, time::Duration};

use stockade_core::deadline;
use tokio::time::Instant;

use crate::{
    settings::{Mode, Settings},
    window::{Outcome, Outcomes, Tally},
};

/// What a breaker does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Calls pass, and are counted.
    Closed,
    /// Calls are refused, until the open time is over.
    Open,
    /// A few calls pass, as probes; and after that a growing share, where there is a ramp.
    HalfOpen,
    /// Calls are refused, until whoever isolated it gives up their guard.
    ForcedOpen,
}

/// What an admitted call carries until it is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) epoch: u64,
    /// When it was admitted: known of a probe, and where slow calls count.
    pub(crate) started: Option<Instant>,
}

/// The state machine of one breaker.
#[derive(Debug)]
pub(crate) struct Machine {
    settings: Settings,
    epoch: u64,
    phase: Phase,
    /// How many guards of `isolate` there are.
    guards: usize,
    outcomes: Outcomes,
    /// The failures since the last success.
    consecutive: u32,
    /// How often (4) happened since it was closed.
    reopened: u32,
    /// How often it opened, ever.
    opened: u64,
}

/// The state without isolation.
#[derive(Debug)]
enum Phase {
    Closed,
    Open {
        until: Instant,
    },
    HalfOpen {
        /// When the probes that are out were admitted. There are few of them, so it is searched.
        running: Vec<Instant>,
        succeeded: u32,
    },
    Ramping {
        since: Instant,
        /// The shares of the calls that came, less the calls that passed: at one, a call passes. So they pass
        /// as evenly as can be, with nothing left to chance.
        credit: f64,
    },
}

/// The share of the calls that passes where a ramp begins. Without calls there is nothing to be learnt.
const FLOOR: f64 = 0.1;

// === impl State ===

impl State {
    pub(crate) const ALL: [Self; 4] = [Self::Closed, Self::Open, Self::HalfOpen, Self::ForcedOpen];

    /// One or two words, lower case, for messages and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
            Self::ForcedOpen => "forced open",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

// === impl Phase ===

impl Phase {
    const fn probation() -> Self {
        Self::HalfOpen { running: Vec::new(), succeeded: 0 }
    }
}

// === impl Machine ===

impl Machine {
    /// A closed one that has seen nothing yet, and counts its epochs from `epoch`.
    pub(crate) fn new(settings: Settings, epoch: u64) -> Self {
        Self {
            settings,
            epoch,
            phase: Phase::Closed,
            guards: 0,
            outcomes: settings.window.outcomes(),
            consecutive: 0,
            reopened: 0,
            opened: 0,
        }
    }

    pub(crate) const fn state(&self) -> State {
        match self.phase {
            _ if self.guards > 0 => State::ForcedOpen,
            Phase::Closed => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } | Phase::Ramping { .. } => State::HalfOpen,
        }
    }

    pub(crate) const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether a call has to know when it began, because slow ones count.
    pub(crate) const fn is_timed(&self) -> bool {
        self.settings.slow.is_some() && !matches!(self.settings.mode, Mode::Disabled)
    }

    /// Whether it is closed and one more success would change nothing: the window is full of them, so
    /// the one that comes in is the same as the one that leaves; or nothing counts.
    pub(crate) fn is_clean(&self) -> bool {
        let is_clean =
            self.settings.mode == Mode::Disabled || !self.is_timed() && self.outcomes.is_clean();
        self.state() == State::Closed && is_clean
    }

    /// Whether a call that ends `now` took so long that it counts as slow.
    pub(crate) fn is_slow(&self, stamp: Stamp, now: Option<Instant>) -> bool {
        match (self.settings.slow, stamp.started, now) {
            (Some(slow), Some(started), Some(now)) => {
                now.saturating_duration_since(started) >= slow.after
            }
            _ => false,
        }
    }

    #[cfg(feature = "tracing")]
    pub(crate) const fn name(&self) -> Option<&'static str> {
        self.settings.name
    }

    /// Whether [`settle`](Self::settle) has to know the time.
    pub(crate) const fn needs_clock(&self) -> bool {
        self.settings.window.needs_clock() || matches!(self.phase, Phase::HalfOpen { .. })
    }

    /// Notices what the time has brought: (2), (7), and (4) for a probe that takes too long.
    pub(crate) fn tick(&mut self, now: Instant, random: f64) {
        match self.phase {
            Phase::Closed => self.outcomes.slide(now),
            Phase::Open { until } if until <= now => {
                self.enter(Phase::probation()); // (2)
            }
            Phase::HalfOpen { .. } if self.is_overdue(now) => self.open(now, random), // (4)
            Phase::Ramping { since, .. } if self.ramped(since, now) >= 1.0 => {
                self.phase = Phase::Closed; // (7)
                self.reopened = 0;
                self.outcomes.slide(now);
            }
            Phase::Ramping { .. } => self.outcomes.slide(now),
            Phase::Open { .. } | Phase::HalfOpen { .. } => {}
        }
    }

    /// How far a ramp is that began at `since`: from 0 to 1 where it is over.
    fn ramped(&self, since: Instant, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(since);
        self.settings.ramp.map_or(1.0, |ramp| elapsed.div_duration_f64(ramp))
    }

    /// Lets a call pass, or not.
    pub(crate) fn admit(&mut self, now: Instant, random: f64) -> Option<Stamp> {
        self.tick(now, random);
        if self.guards > 0 {
            return None;
        }
        let share = match self.phase {
            Phase::Ramping { since, .. } => self.ramped(since, now).max(FLOOR),
            _ => 1.0,
        };
        match &mut self.phase {
            Phase::Closed => {}
            Phase::Ramping { credit, .. } => {
                *credit += share;
                if *credit < 1.0 {
                    return None;
                }
                *credit -= 1.0;
            }
            Phase::HalfOpen { running, succeeded }
                if running.len() < (self.settings.probes - *succeeded) as usize =>
            {
                running.push(now);
            }
            Phase::Open { .. } | Phase::HalfOpen { .. } => return None,
        }
        Some(Stamp { epoch: self.epoch, started: Some(now) })
    }

    /// Takes back an admitted call with its outcome, or with none if it does not count. True says that
    /// it has to [open](Self::open) now.
    #[must_use]
    pub(crate) fn settle(
        &mut self,
        stamp: Stamp,
        outcome: Option<Outcome>,
        now: Option<Instant>,
    ) -> bool {
        if stamp.epoch != self.epoch || self.settings.mode == Mode::Disabled {
            return false;
        }
        // Also when this very probe was too slow, whatever it says.
        if now.is_some_and(|now| self.is_overdue(now)) {
            return true; // (4)
        }
        match (&mut self.phase, outcome) {
            (Phase::Open { .. }, _) | (Phase::Closed | Phase::Ramping { .. }, None) => false,
            (Phase::Closed | Phase::Ramping { .. }, Some(outcome)) => {
                self.outcomes.push(outcome, now);
                self.consecutive =
                    if outcome.failed { self.consecutive.saturating_add(1) } else { 0 };
                self.is_failing() && self.settings.mode == Mode::Normal // (1)
            }
            (Phase::HalfOpen { running, succeeded }, outcome) => {
                if let Some(slot) = running.iter().position(|at| Some(*at) == stamp.started) {
                    running.swap_remove(slot);
                }
                match outcome {
                    None => false,
                    Some(Outcome::SUCCESS) => {
                        *succeeded += 1;
                        if *succeeded >= self.settings.probes {
                            self.recover(now); // (3)
                        }
                        false
                    }
                    Some(_) => true, // (4)
                }
            }
        }
    }

    /// (1) and (4).
    pub(crate) fn open(&mut self, now: Instant, random: f64) {
        if matches!(self.phase, Phase::HalfOpen { .. } | Phase::Ramping { .. }) {
            self.reopened = self.reopened.saturating_add(1);
        }
        self.opened += 1;
        let time = self.settings.open_time(self.reopened, random);
        self.enter(Phase::Open { until: deadline::saturating_add(now, time) });
    }

    /// (3).
    fn recover(&mut self, now: Option<Instant>) {
        match now.filter(|_| self.settings.ramp.is_some()) {
            Some(since) => self.enter(Phase::Ramping { since, credit: 0.0 }),
            None => self.close(),
        }
    }

    /// (5), and (3) without a ramp.
    pub(crate) fn close(&mut self) {
        self.reopened = 0;
        self.enter(Phase::Closed);
    }

    /// (6), the way there: what was admitted before does not count for what comes after.
    pub(crate) fn force_open(&mut self) {
        self.guards += 1;
        if self.guards > 1 {
            return;
        }
        if let Phase::HalfOpen { .. } = self.phase {
            self.phase = Phase::probation();
        }
        self.forget();
    }

    /// (6), the way back.
    pub(crate) fn release(&mut self) {
        self.guards -= 1;
    }

    /// (8) It is open until `until` at least, unless it is to stay closed whatever comes.
    pub(crate) fn hold_open(&mut self, until: Instant) {
        match &mut self.phase {
            _ if self.settings.mode != Mode::Normal => {}
            Phase::Open { until: known } => *known = until.max(*known),
            Phase::Closed | Phase::HalfOpen { .. } | Phase::Ramping { .. } => {
                self.opened += 1;
                self.enter(Phase::Open { until });
            }
        }
    }

    /// (9) It is half-open before its time is over.
    pub(crate) fn half_open(&mut self) {
        if let Phase::Open { .. } = self.phase {
            self.enter(Phase::probation());
        }
    }

    /// How long it will be open yet.
    pub(crate) fn remaining(&self, now: Instant) -> Option<Duration> {
        match self.phase {
            Phase::Open { until } if self.guards == 0 => Some(until.duration_since(now)),
            _ => None,
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        self.outcomes.tally()
    }

    pub(crate) const fn consecutive(&self) -> u32 {
        self.consecutive
    }

    pub(crate) const fn opened(&self) -> u64 {
        self.opened
    }

    pub(crate) const fn probes(&self) -> usize {
        match &self.phase {
            Phase::HalfOpen { running, .. } => running.len(),
            Phase::Closed | Phase::Open { .. } | Phase::Ramping { .. } => 0,
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.forget();
    }

    /// Begins a new epoch, with nothing known.
    fn forget(&mut self) {
        self.epoch += 1;
        self.outcomes.clear();
        self.consecutive = 0;
    }

    /// Whether a probe is out for too long.
    fn is_overdue(&self, now: Instant) -> bool {
        match &self.phase {
            Phase::HalfOpen { running, .. } => running
                .iter()
                .any(|at| now.saturating_duration_since(*at) >= self.settings.probe_timeout),
            Phase::Closed | Phase::Open { .. } | Phase::Ramping { .. } => false,
        }
    }

    fn is_failing(&self) -> bool {
        let Settings { failure_rate, slow, consecutive, .. } = self.settings;
        let tally = self.outcomes.tally();
        consecutive.is_some_and(|limit| self.consecutive >= limit)
            || tally.calls >= self.settings.min_calls()
                && (tally.reaches(tally.failures, failure_rate)
                    || slow.is_some_and(|slow| tally.reaches(tally.slow, slow.rate)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Window;

    const SECOND: Duration = Duration::from_secs(1);
    const SUCCESS: Option<Outcome> = Some(Outcome::SUCCESS);
    const FAILURE: Option<Outcome> = Some(Outcome::FAILURE);

    /// A machine with its own clock, and no jitter.
    struct Driver {
        machine: Machine,
        now: Instant,
    }

    impl Driver {
        fn new(settings: Settings) -> Self {
            Self { machine: Machine::new(settings, 0), now: Instant::now() }
        }

        fn opened(settings: Settings) -> Self {
            let mut driver = Self::new(settings);
            driver.machine.open(driver.now, 0.0);
            driver
        }

        fn half_open() -> Self {
            let mut driver = Self::opened(Settings::default());
            driver.wait(5 * SECOND);
            assert_eq!(driver.machine.state(), State::HalfOpen);
            driver
        }

        fn wait(&mut self, duration: Duration) {
            self.now += duration;
            self.machine.tick(self.now, 0.0);
        }

        fn admit(&mut self) -> Option<Stamp> {
            self.machine.admit(self.now, 0.0)
        }

        fn settle(&mut self, stamp: Stamp, outcome: Option<Outcome>) -> State {
            if self.machine.settle(stamp, outcome, Some(self.now)) {
                self.machine.open(self.now, 0.0);
            }
            self.machine.state()
        }

        fn call(&mut self, outcome: Option<Outcome>) -> State {
            let stamp = self.admit().expect("it lets calls pass");
            self.settle(stamp, outcome)
        }
    }

    #[test]
    fn it_is_held_open_from_wherever_it_is_and_never_shorter_than_before() {
        for mut driver in [Driver::new(Settings::default()), Driver::half_open()] {
            driver.machine.hold_open(driver.now + 10 * SECOND);
            assert_eq!(driver.machine.state(), State::Open);
            driver.machine.hold_open(driver.now + SECOND);
            assert_eq!(driver.machine.remaining(driver.now), Some(10 * SECOND));
            driver.machine.half_open();
            assert_eq!(driver.machine.state(), State::HalfOpen);
            driver.machine.close();
            driver.machine.half_open();
            assert_eq!(driver.machine.state(), State::Closed);
        }
    }

    #[test]
    fn one_that_stays_closed_whatever_comes_is_not_held_open() {
        for mode in [Mode::Observing, Mode::Disabled] {
            let mut driver = Driver::new(Settings { mode, ..Settings::default() });
            driver.machine.hold_open(driver.now + SECOND);
            assert_eq!(driver.machine.state(), State::Closed);
        }
    }

    #[test]
    fn the_window_slides_and_fifty_failures_open_it_after_any_number_of_successes() {
        let mut driver = Driver::new(Settings::default());
        for _ in 0..100_000 {
            driver.call(SUCCESS);
        }
        for _ in 0..49 {
            assert_eq!(driver.call(FAILURE), State::Closed);
        }
        assert_eq!(driver.call(FAILURE), State::Open);
    }

    #[test]
    fn min_calls_below_the_window_have_an_effect() {
        let mut driver = Driver::new(Settings::default());
        for _ in 0..19 {
            assert_eq!(driver.call(FAILURE), State::Closed);
        }
        assert_eq!(driver.call(FAILURE), State::Open);
    }

    #[test]
    fn a_success_that_completes_min_calls_can_open_it() {
        let mut driver = Driver::new(Settings { min_calls: Some(4), ..Settings::default() });
        for outcome in [FAILURE, FAILURE, SUCCESS] {
            assert_eq!(driver.call(outcome), State::Closed);
        }
        assert_eq!(driver.call(SUCCESS), State::Open);
    }

    #[test]
    fn consecutive_failures_open_it_below_min_calls_and_a_success_between_starts_again() {
        let mut driver = Driver::new(Settings { consecutive: Some(3), ..Settings::default() });
        for outcome in [FAILURE, FAILURE, SUCCESS, FAILURE, None, FAILURE] {
            assert_eq!(driver.call(outcome), State::Closed);
        }
        assert_eq!(driver.call(FAILURE), State::Open);
    }

    #[test]
    fn a_window_of_time_forgets_old_failures() {
        let window = Window::time(10 * SECOND);
        let mut driver = Driver::new(Settings { window, ..Settings::default() });
        for _ in 0..19 {
            driver.call(FAILURE);
        }
        driver.wait(10 * SECOND);
        for _ in 0..19 {
            assert_eq!(driver.call(FAILURE), State::Closed);
        }
        assert_eq!(driver.call(FAILURE), State::Open);
    }

    #[test]
    fn every_failed_probation_doubles_the_open_time_and_closing_starts_again() {
        let mut driver = Driver::opened(Settings::default());
        for seconds in [5, 10, 20, 40, 60, 60] {
            assert_eq!(driver.machine.remaining(driver.now), Some(seconds * SECOND));
            driver.wait(seconds * SECOND - Duration::from_nanos(1));
            assert_eq!(driver.admit(), None);
            driver.wait(Duration::from_nanos(1));
            assert_eq!(driver.call(FAILURE), State::Open);
        }
        driver.wait(60 * SECOND);
        for state in [State::HalfOpen, State::HalfOpen, State::Closed] {
            assert_eq!(driver.call(SUCCESS), state);
        }
        driver.machine.open(driver.now, 0.0);
        assert_eq!(driver.machine.remaining(driver.now), Some(5 * SECOND));
    }

    #[test]
    fn a_call_of_another_epoch_changes_nothing() {
        let mut driver = Driver::new(Settings { consecutive: Some(1), ..Settings::default() });
        let old: Vec<_> = (0..9).map(|_| driver.admit().unwrap()).collect();
        driver.call(FAILURE);
        assert_eq!(driver.settle(old[0], FAILURE), State::Open);
        assert_eq!(driver.machine.remaining(driver.now), Some(5 * SECOND));
        driver.wait(5 * SECOND);
        for late in &old[1..5] {
            assert_eq!(driver.settle(*late, SUCCESS), State::HalfOpen);
        }
        assert_eq!(driver.settle(old[5], FAILURE), State::HalfOpen);
        driver.machine.close();
        assert_eq!(driver.settle(old[6], FAILURE), State::Closed);
    }

    #[test]
    fn a_probe_that_takes_too_long_reopens_whatever_it_says_then() {
        let mut driver = Driver::half_open();
        let probe = driver.admit().unwrap();
        driver.wait(30 * SECOND - Duration::from_nanos(1));
        assert_eq!(driver.machine.state(), State::HalfOpen);
        driver.now += Duration::from_nanos(1);
        assert_eq!(driver.settle(probe, SUCCESS), State::Open);
    }

    #[test]
    fn a_slow_probe_is_no_success() {
        let mut driver = Driver::half_open();
        assert_eq!(driver.call(Some(Outcome { failed: false, slow: true })), State::Open);
    }

    #[test]
    fn isolation_ends_where_it_began_and_forgets_the_calls_before() {
        let mut driver = Driver::new(Settings { consecutive: Some(1), ..Settings::default() });
        let before = driver.admit().unwrap();
        driver.machine.force_open();
        driver.machine.force_open();
        driver.machine.release();
        assert_eq!(driver.admit(), None);
        assert_eq!(driver.settle(before, FAILURE), State::ForcedOpen);
        driver.machine.release();
        assert_eq!(driver.settle(before, FAILURE), State::Closed);

        let mut driver = Driver::half_open();
        let probes = [(); 3].map(|()| driver.admit().unwrap());
        driver.machine.force_open();
        driver.machine.release();
        for probe in probes {
            assert_eq!(driver.settle(probe, SUCCESS), State::HalfOpen);
        }
        assert!(driver.admit().is_some(), "the probes of before hold no slot");
    }

    proptest! {
        #[test]
        fn half_open_never_lets_more_than_the_probes_pass(
            steps in prop::collection::vec((0..6_u8, 0..9_usize), 0..200),
        ) {
            let mut driver = Driver::half_open();
            let (mut out, mut epoch, mut succeeded) = (Vec::new(), driver.machine.epoch(), 0);
            for (step, pick) in steps {
                if driver.machine.epoch() != epoch {
                    // It closed or opened: begin again, with the probes of before still out.
                    prop_assert!(succeeded == 3 || driver.machine.state() == State::Open);
                    driver.machine.open(driver.now, 0.0);
                    driver.wait(60 * SECOND);
                    (epoch, succeeded) = (driver.machine.epoch(), 0);
                }
                let current = out.iter().filter(|s: &&Stamp| s.epoch == epoch).count();
                prop_assert_eq!(driver.machine.probes(), current);
                if step < 3 {
                    let stamp = driver.admit();
                    prop_assert_eq!(stamp.is_some(), current + succeeded < 3);
                    out.extend(stamp);
                } else if !out.is_empty() {
                    let stamp = out.swap_remove(pick % out.len());
                    let outcome = [SUCCESS, None, FAILURE][usize::from(step - 3)];
                    driver.settle(stamp, outcome);
                    succeeded += usize::from(stamp.epoch == epoch && outcome == SUCCESS);
                }
            }
        }
    }
}
