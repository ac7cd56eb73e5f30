//! The gate under a model checker: four threads, thousands of schedules.

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
use tokio::time::advance;

use crate::{
    gate::{Gate, Pass, Verdict},
    settings::Settings,
    state::{Machine, Stamp, State},
    window::Window,
};

const THREADS: usize = 4;
const STEPS: usize = 4;
const PROBES: u32 = 2;

/// Opens at the second failure in a row. No probe takes too long, because time moves on in jumps.
const SETTINGS: Settings = Settings {
    consecutive: Some(2),
    probes: PROBES,
    probe_timeout: Duration::from_secs(86_400),
    ..Settings::DEFAULT
};

/// Longer than it is ever open.
const JUMP: Duration = Duration::from_secs(60);

/// A gate, and what the threads know of it. Only the gate is made of what the checker controls, so the rest
/// stands still between two of its steps.
struct World {
    gate: Gate,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The probes of an epoch that are out.
    out: HashMap<u64, u32>,
    /// The calls of an epoch that ended and count.
    counted: HashMap<u64, u32>,
}

impl World {
    fn new(settings: Settings) -> Arc<Self> {
        let gate = Gate::new();
        gate.begin(settings);
        Arc::new(Self { gate, known: Mutex::default() })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nobody panics under it")
    }

    fn admit(&self) -> Option<Stamp> {
        let passed = self.gate.pass().map(|pass| Stamp { epoch: pass.epoch(), started: None });
        passed.or_else(|| self.gate.admit().ok())
    }

    /// As a ticket does.
    fn settle(&self, stamp: Stamp, verdict: Verdict) {
        if verdict != Verdict::Success || !self.gate.ignores_successes_of(Pass::of(stamp.epoch)) {
            self.gate.settle(stamp, verdict);
        }
        if verdict != Verdict::Ignored {
            *self.known().counted.entry(stamp.epoch).or_default() += 1;
        }
    }

    /// A whole call; whatever else is on in the meantime.
    fn call(&self) {
        let Some(stamp) = self.admit() else { return };
        let is_probe = self
            .gate
            .with(|machine| machine.epoch() == stamp.epoch && machine.state() == State::HalfOpen);
        if is_probe {
            let mut known = self.known();
            let out = known.out.entry(stamp.epoch).or_default();
            *out += 1;
            assert!(*out <= PROBES, "{out} probes are out");
        }
        thread::yield_now();
        if is_probe {
            *self.known().out.entry(stamp.epoch).or_default() -= 1;
        }
        let verdicts = [Verdict::Success, Verdict::Failure, Verdict::Ignored];
        self.settle(stamp, verdicts[thread_rng().gen_range(0..3)]);
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
        let world = World::new(SETTINGS);
        world.run(|world| match thread_rng().gen_range(0..8) {
            0 => jump(),
            1 => {
                world.gate.with(Machine::force_open);
                assert_eq!(world.gate.state(), State::ForcedOpen);
                world.gate.with(Machine::release);
            }
            2 => world.gate.with(Machine::close),
            _ => world.call(),
        });
        let gate = &world.gate;
        jump();
        assert!(matches!(gate.state(), State::Closed | State::HalfOpen));
        assert_eq!(gate.with(|machine| machine.probes()), 0);
        // And it works as ever.
        for _ in 0..PROBES {
            gate.settle(world.admit().expect("a place is free"), Verdict::Success);
        }
        assert_eq!(gate.state(), State::Closed);
    });
}

#[test]
fn every_call_of_the_epoch_counts_once_and_none_of_another_epoch_or_life() {
    schedules(|| {
        let world = World::new(SETTINGS);
        world.run(|world| match thread_rng().gen_range(0..8) {
            0 => {
                world.gate.begin(Settings::DEFAULT);
                world.gate.begin(SETTINGS);
            }
            1 => jump(),
            2 => world.gate.with(Machine::close),
            _ => world.call(),
        });
        let (state, epoch, tally) =
            world.gate.with(|machine| (machine.state(), machine.epoch(), machine.tally()));
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
        let settings =
            Settings { window: Window::calls(2), failure_rate: 1.0, consecutive: None, ..SETTINGS };
        let world = World::new(settings);
        world.run(|world| {
            let stamp = world.admit();
            let verdict =
                [Verdict::Success, Verdict::Ignored][usize::from(thread_rng().gen_ratio(1, 8))];
            stamp.into_iter().for_each(|stamp| world.settle(stamp, verdict));
        });
        let tally = || world.gate.with(|machine| machine.tally());
        assert!(tally().calls <= 2 && tally().failures == 0);
        for failures in [1, 2] {
            assert_eq!(world.gate.state(), State::Closed);
            let stamp = world.admit().expect("it is closed");
            world.settle(stamp, Verdict::Failure);
            let opened = world.gate.with(|machine| machine.opened());
            assert_eq!(opened, u64::from(failures == 2));
        }
    });
}
