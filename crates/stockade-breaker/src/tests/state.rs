//! The state machine, with a clock of its own.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use crate::{
    Config, Slow, State, Trip, Window,
    call::{End, Stamp},
    state::Machine,
};

const SECOND: Duration = Duration::from_secs(1);
const SUCCESS: End = End::Success;
const FAILURE: End = End::Failure { answered: true, after: None };
const DROPPED: End = End::Dropped { queued: false };

/// A machine with its own clock, and no jitter.
struct Driver {
    machine: Machine,
    now: Instant,
}

impl Driver {
    fn new(config: Config) -> Self {
        Self { machine: Machine::new(config, 0), now: Instant::now() }
    }

    fn opened(config: Config) -> Self {
        let mut driver = Self::new(config);
        driver.machine.open(Trip::FailureRate, driver.now, 0.0);
        driver
    }

    fn half_open() -> Self {
        let mut driver = Self::opened(Config::default());
        driver.wait(5 * SECOND);
        assert_eq!(driver.machine.state(), State::HalfOpen);
        driver
    }

    fn wait(&mut self, duration: Duration) {
        self.now += duration;
        self.machine.tick(self.now, 0.0);
    }

    fn admit(&mut self) -> Option<Stamp> {
        self.machine.admit(self.now, 0.0, false)
    }

    fn settle(&mut self, stamp: Stamp, end: End) -> State {
        let took = stamp.admitted.map(|admitted| self.now - admitted);
        if let Some(trip) = self.machine.settle(stamp, end, took, Some(self.now)) {
            self.machine.open(trip, self.now, 0.0);
        }
        self.machine.state()
    }

    fn call(&mut self, end: End) -> State {
        let stamp = self.admit().expect("it lets calls pass");
        self.settle(stamp, end)
    }
}

#[test]
fn it_is_held_open_from_wherever_it_is_and_never_shorter_than_before() {
    for mut driver in [Driver::new(Config::default()), Driver::half_open()] {
        driver.machine.hold_open(driver.now + 10 * SECOND);
        assert_eq!(driver.machine.state(), State::Open);
        driver.machine.hold_open(driver.now + SECOND);
        assert_eq!(driver.machine.snapshot(driver.now).remaining, Some(10 * SECOND));
        driver.machine.half_open();
        assert_eq!(driver.machine.state(), State::HalfOpen);
        driver.machine.close();
        driver.machine.half_open();
        assert_eq!(driver.machine.state(), State::Closed);
    }
}

#[test]
fn one_that_stays_closed_whatever_comes_is_not_held_open() {
    let observes = Config { observe_only: true, ..Config::default() };
    for config in [observes, Config { enabled: false, ..Config::default() }] {
        let mut driver = Driver::new(config);
        driver.machine.hold_open(driver.now + SECOND);
        assert_eq!(driver.machine.state(), State::Closed);
    }
}

#[test]
fn the_window_slides_and_fifty_failures_open_it_after_any_number_of_successes() {
    let mut driver = Driver::new(Config::default());
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
    let mut driver = Driver::new(Config::default());
    for _ in 0..19 {
        assert_eq!(driver.call(FAILURE), State::Closed);
    }
    assert_eq!(driver.call(FAILURE), State::Open);
}

#[test]
fn a_success_that_completes_min_calls_can_open_it() {
    let mut driver = Driver::new(Config { min_calls: 4, ..Config::default() });
    for outcome in [FAILURE, FAILURE, SUCCESS] {
        assert_eq!(driver.call(outcome), State::Closed);
    }
    assert_eq!(driver.call(SUCCESS), State::Open);
}

#[test]
fn consecutive_failures_open_it_below_min_calls_and_a_success_between_starts_again() {
    let mut driver = Driver::new(Config { consecutive: Some(3), ..Config::default() });
    for outcome in [FAILURE, FAILURE, SUCCESS, FAILURE, End::Nothing, FAILURE] {
        assert_eq!(driver.call(outcome), State::Closed);
    }
    assert_eq!(driver.call(FAILURE), State::Open);
}

#[test]
fn a_window_of_time_forgets_old_failures() {
    let window = Window::time(10 * SECOND);
    let mut driver = Driver::new(Config { window, ..Config::default() });
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
    let mut driver = Driver::opened(Config::default());
    for seconds in [5, 10, 20, 40, 60, 60] {
        assert_eq!(driver.machine.snapshot(driver.now).remaining, Some(seconds * SECOND));
        driver.wait(seconds * SECOND - Duration::from_nanos(1));
        assert_eq!(driver.admit(), None);
        driver.wait(Duration::from_nanos(1));
        assert_eq!(driver.call(FAILURE), State::Open);
    }
    driver.wait(60 * SECOND);
    for state in [State::HalfOpen, State::HalfOpen, State::Closed] {
        assert_eq!(driver.call(SUCCESS), state);
    }
    driver.machine.open(Trip::FailureRate, driver.now, 0.0);
    assert_eq!(driver.machine.snapshot(driver.now).remaining, Some(5 * SECOND));
}

#[test]
fn a_call_of_another_epoch_changes_nothing() {
    let mut driver = Driver::new(Config { consecutive: Some(1), ..Config::default() });
    let old: Vec<_> = (0..9).map(|_| driver.admit().unwrap()).collect();
    driver.call(FAILURE);
    assert_eq!(driver.settle(old[0], FAILURE), State::Open);
    assert_eq!(driver.machine.snapshot(driver.now).remaining, Some(5 * SECOND));
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
    driver.wait(5 * SECOND - Duration::from_nanos(1));
    assert_eq!(driver.machine.state(), State::HalfOpen);
    driver.now += Duration::from_nanos(1);
    assert_eq!(driver.settle(probe, SUCCESS), State::Open);
}

#[test]
fn a_slow_probe_is_no_success() {
    let slow = Some(Slow { after: SECOND, rate: 0.5 });
    let mut driver = Driver::opened(Config { slow, ..Config::default() });
    driver.wait(5 * SECOND);
    let probe = driver.admit().unwrap();
    driver.wait(SECOND);
    assert_eq!(driver.settle(probe, SUCCESS), State::Open);
}

#[test]
fn isolation_ends_where_it_began_and_forgets_the_calls_before() {
    let mut driver = Driver::new(Config { consecutive: Some(1), ..Config::default() });
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
                driver.machine.open(Trip::FailureRate, driver.now, 0.0);
                driver.wait(60 * SECOND);
                (epoch, succeeded) = (driver.machine.epoch(), 0);
            }
            let current = out.iter().filter(|s: &&Stamp| s.epoch() == epoch).count();
            prop_assert_eq!(driver.machine.snapshot(driver.now).probes, current);
            if step < 3 {
                let stamp = driver.admit();
                prop_assert_eq!(stamp.is_some(), current + succeeded < 3);
                out.extend(stamp);
            } else if !out.is_empty() {
                let stamp = out.swap_remove(pick % out.len());
                let end = [SUCCESS, End::Nothing, FAILURE][usize::from(step - 3)];
                driver.settle(stamp, end);
                succeeded += usize::from(stamp.epoch() == epoch && end == SUCCESS);
            }
        }
    }
}

#[test]
fn an_overdue_probe_is_replaced_and_reopens_only_where_no_more_have_succeeded() {
    let mut driver = Driver::half_open();
    let hangs = driver.admit().unwrap();
    for _ in 0..2 {
        assert_eq!(driver.call(SUCCESS), State::HalfOpen);
    }
    assert_eq!(driver.admit(), None);
    driver.wait(5 * SECOND);
    let replaces = driver.admit().expect("its place has passed on");
    assert_eq!(driver.admit(), None);
    assert_eq!(driver.settle(hangs, SUCCESS), State::HalfOpen, "it has been replaced");
    driver.wait(5 * SECOND);
    assert_eq!(driver.machine.state(), State::Open, "two are overdue, and two have succeeded");
    assert_eq!(driver.settle(replaces, SUCCESS), State::Open);
    let cause = driver.machine.status().cause.unwrap();
    assert_eq!((cause.trip, cause.calls, cause.failures), (Trip::Probe, 4, 2));
}

#[test]
fn a_hint_of_any_failure_is_a_floor_for_the_open_time_and_is_forgotten_when_it_closes() {
    let mut driver = Driver::new(Config { consecutive: Some(2), ..Config::default() });
    let stamp = driver.admit().unwrap();
    driver.machine.heed(stamp, 30 * SECOND, driver.now, 0.5);
    driver.machine.heed(stamp, SECOND, driver.now, 0.5);
    driver.settle(stamp, FAILURE);
    assert_eq!(driver.call(FAILURE), State::Open);
    assert_eq!(driver.machine.snapshot(driver.now).remaining, Some(30 * SECOND * 105 / 100));
    driver.machine.heed(stamp, 1_000 * SECOND, driver.now, 0.5);
    driver.wait(32 * SECOND);
    assert_eq!(driver.call(FAILURE), State::Open, "the hint of another time is not heeded");
    assert_eq!(driver.machine.snapshot(driver.now).remaining, Some(10 * SECOND));
    driver.machine.close();
    for (hint, random, secs) in [(0, 1.0, 5), (86_400, 0.0, 86_400), (u64::MAX, 1.0, 95_040)] {
        let stamp = driver.admit().unwrap();
        driver.machine.heed(stamp, Duration::from_secs(hint), driver.now, random);
        driver.machine.open(Trip::Consecutive, driver.now, 0.0);
        assert_eq!(driver.machine.snapshot(driver.now).remaining, Some(secs * SECOND), "{hint}");
        driver.machine.close();
    }
}

#[test]
fn callers_that_the_probes_leave_out_come_back_at_different_times_and_a_few_times_only() {
    let mut driver = Driver::half_open();
    let _out = [(); 3].map(|()| driver.admit().unwrap());
    let told = |driver: &Driver, random| driver.machine.retry_after(driver.now, random).unwrap();
    assert_eq!(told(&driver, 0.0), Duration::from_millis(100));
    assert_eq!(told(&driver, 1.0), Duration::from_millis(200));
    let mut times = 0;
    while driver.machine.state() == State::HalfOpen {
        let wait = told(&driver, 0.5);
        driver.wait(wait);
        times += 1;
    }
    assert!((4..10).contains(&times), "{times}");
}

#[test]
fn a_probe_that_is_dropped_with_no_answer_since_has_failed_and_with_one_gives_its_place_back() {
    let mut driver = Driver::half_open();
    let probe = driver.admit().unwrap();
    assert_eq!(driver.call(SUCCESS), State::HalfOpen);
    assert_eq!(driver.settle(probe, DROPPED), State::HalfOpen);
    assert_eq!(driver.machine.snapshot(driver.now).probes, 0);
    let queued = driver.admit().unwrap();
    assert_eq!(driver.settle(queued, End::Dropped { queued: true }), State::HalfOpen);
    assert_eq!(driver.call(DROPPED), State::Open);
}
