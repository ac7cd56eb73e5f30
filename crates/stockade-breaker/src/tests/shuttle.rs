//! The shared state under a model checker: four threads, thousands of schedules.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Waker},
    time::Duration,
};

use shuttle::{
    rand::{Rng, thread_rng},
    thread,
};
use stockade_testkit::schedules;
use tokio::time::{Instant, advance};

use crate::{
    Config, State, Window,
    call::{End, Stamp},
    shared::Shared,
    state::Machine,
};

const THREADS: usize = 4;
const STEPS: usize = 4;
const PROBES: u32 = 2;

/// Opens at the second failure in a row. No probe is overdue, because time moves on in jumps.
const CONFIG: Config = Config {
    consecutive: Some(2),
    probes: PROBES,
    probe_timeout: Some(Duration::from_secs(86_400)),
    ..Config::DEFAULT
};

const FAILURE: End = End::Failure { answered: true, after: None };

/// Longer than it is ever open.
const JUMP: Duration = Duration::from_secs(60);

/// A breaker, and what the threads know of it. Only the breaker is made of what the checker controls, so the rest
/// stands still between two of its steps.
struct World {
    breaker: Shared,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The probes of an epoch that are out.
    out: HashMap<u32, u32>,
    /// The calls of an epoch that ended and count.
    counted: HashMap<u32, u32>,
}

impl World {
    fn new(config: Config) -> Arc<Self> {
        let breaker = Shared::new();
        breaker.begin(config);
        Arc::new(Self { breaker, known: Mutex::default() })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nobody panics under it")
    }

    fn admit(&self) -> Option<Stamp> {
        let passed = self.breaker.pass();
        passed.or_else(|| self.breaker.admit(false).ok())
    }

    /// As a permit does.
    fn settle(&self, stamp: Stamp, end: End) {
        if end != End::Success || !self.breaker.ignores_successes_of(stamp) {
            self.breaker.settle(stamp, end, Duration::ZERO);
        }
        if end != End::Nothing {
            *self.known().counted.entry(stamp.epoch()).or_default() += 1;
        }
    }

    /// A whole call; whatever else is on in the meantime.
    fn call(&self) {
        let Some(stamp) = self.admit() else { return };
        let is_probe = self
            .breaker
            .with(|machine| machine.epoch() == stamp.epoch() && machine.state() == State::HalfOpen);
        if is_probe {
            let mut known = self.known();
            let out = known.out.entry(stamp.epoch()).or_default();
            *out += 1;
            assert!(*out <= PROBES, "{out} probes are out");
        }
        thread::yield_now();
        if is_probe {
            *self.known().out.entry(stamp.epoch()).or_default() -= 1;
        }
        let ends = [End::Success, FAILURE, End::Nothing];
        self.settle(stamp, ends[thread_rng().gen_range(0..3)]);
    }

    /// Lets each thread do a few things.
    fn run(self: &Arc<Self>, step: fn(&Self)) {
        let threads = [(); THREADS].map(|()| {
            let world = Arc::clone(self);
            thread::spawn(move || (0..STEPS).for_each(|_| step(&world)))
        });
        for thread in threads {
            thread.join().expect("no thread panics");
        }
    }
}

fn jump() {
    // The clock is moved by the first poll.
    let _ = pin!(advance(JUMP)).poll(&mut Context::from_waker(Waker::noop()));
}

#[test]
fn there_are_never_more_probes_than_allowed_and_none_is_lost() {
    schedules(|| {
        let world = World::new(CONFIG);
        world.run(|world| match thread_rng().gen_range(0..8) {
            0 => jump(),
            1 => {
                world.breaker.with(Machine::force_open);
                assert_eq!(world.breaker.status().state, State::ForcedOpen);
                world.breaker.with(Machine::release);
            }
            2 => world.breaker.with(Machine::close),
            _ => world.call(),
        });
        let breaker = &world.breaker;
        jump();
        assert!(matches!(breaker.status().state, State::Closed | State::HalfOpen));
        assert_eq!(breaker.with(|machine| machine.snapshot(Instant::now()).probes), 0);
        // And it works as ever.
        for _ in 0..PROBES {
            world.settle(world.admit().expect("a place is free"), End::Success);
        }
        assert_eq!(breaker.status().state, State::Closed);
    });
}

#[test]
fn every_call_of_the_epoch_counts_once_and_none_of_another_epoch_or_life() {
    schedules(|| {
        let world = World::new(CONFIG);
        world.run(|world| match thread_rng().gen_range(0..8) {
            0 => {
                world.breaker.begin(Config::DEFAULT);
                world.breaker.begin(CONFIG);
            }
            1 => jump(),
            2 => world.breaker.with(Machine::close),
            _ => world.call(),
        });
        let (state, epoch, tally) =
            world.breaker.with(|machine| (machine.state(), machine.epoch(), machine.tally()));
        let counted = world.known().counted.get(&epoch).copied().unwrap_or(0);
        match state {
            State::Closed => assert_eq!(tally.calls, counted),
            _ => assert_eq!(tally.calls, 0),
        }
    });
}

#[test]
fn a_clean_window_is_left_by_the_first_failure() {
    schedules(|| {
        let config =
            Config { window: Window::calls(2), failure_rate: 1.0, consecutive: None, ..CONFIG };
        let world = World::new(config);
        world.run(|world| {
            let stamp = world.admit();
            let end = [End::Success, End::Nothing][usize::from(thread_rng().gen_ratio(1, 8))];
            stamp.into_iter().for_each(|stamp| world.settle(stamp, end));
        });
        let tally = || world.breaker.with(|machine| machine.tally());
        assert!(tally().calls <= 2 && tally().failures == 0);
        for failures in [1, 2] {
            assert_eq!(world.breaker.status().state, State::Closed);
            let stamp = world.admit().expect("it is closed");
            world.settle(stamp, FAILURE);
            let opened = world.breaker.with(|machine| machine.snapshot(Instant::now()).opened);
            assert_eq!(opened, u64::from(failures == 2));
        }
    });
}

#[test]
fn a_call_that_is_dropped_after_another_was_answered_has_not_failed() {
    schedules(|| {
        let config =
            Config { window: Window::calls(2), failure_rate: 1.0, consecutive: None, ..CONFIG };
        let world = World::new(config);
        (0..2).for_each(|_| world.settle(world.admit().expect("it is closed"), End::Success));
        // How many calls were admitted that will be dropped, and how many of them an answer came after.
        let (admitted, answered) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
        let answering = [(); 2].map(|()| {
            let (world, admitted, answered) =
                (Arc::clone(&world), Arc::clone(&admitted), Arc::clone(&answered));
            thread::spawn(move || {
                for _ in 0..STEPS {
                    let stamp = world.admit().expect("it is closed");
                    thread::yield_now();
                    let before = *admitted.lock().expect("nobody panics under it");
                    world.settle(stamp, End::Success);
                    let mut answered = answered.lock().expect("nobody panics under it");
                    *answered = before.max(*answered);
                }
            })
        });
        for number in 1..=STEPS {
            let stamp = world.admit().expect("it is closed");
            *admitted.lock().expect("nobody panics under it") = number;
            thread::yield_now();
            let is_answered = *answered.lock().expect("nobody panics under it") == number;
            let end = if is_answered { End::Dropped { queued: false } } else { End::Nothing };
            world.settle(stamp, end);
            assert_eq!(world.breaker.with(|machine| machine.tally().failures), 0);
        }
        answering.into_iter().for_each(|thread| thread.join().expect("no thread panics"));
    });
}
