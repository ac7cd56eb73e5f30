//! The state machine as many threads share it: a short lock, and one word in front of it.
//!
//! The word says what the machine was when it was last unlocked: its state, its epoch, and whether it is
//! *clean*, that is, closed and with a window full of successes. It is what makes the common call cheap:
//! a closed breaker admits by one load, and while it is clean, a success settles by one load too, because
//! pushing a success out of the window and another one in changes nothing. As long as the service inside
//! is well, the threads that call it only read a line that nobody writes. The lock is taken while the
//! window fills, while a failure is in it, and when the breaker is not closed.
//!
//! What the word races with is harmless. A call that is admitted by a word which changes at that moment
//! carries the epoch of that word, so what it reports counts for nothing. A success that is skipped by
//! a word which turns unclean at that moment came before the failure that turned it.

use std::time::Duration;

use stockade_core::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use stockade_core::{Reason, Rejected, lock};
use tokio::{sync::watch, time::Instant};

use crate::{
    handle::Snapshot,
    settings::Settings,
    state::{Machine, Stamp, State},
    window::Outcome,
};

/// What a call that was admitted turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Success,
    Failure,
    /// It does not count.
    Ignored,
}

/// The state of one breaker, which all its services and handles share.
#[derive(Debug)]
pub(crate) struct Gate {
    /// A [`Word`]. Stored under the lock of `machine` only, and read without. All of it is `Relaxed`: the
    /// word tells all there is to know in one piece, nothing else is read on the strength of it without
    /// taking the lock, and who has seen one value of it never sees an older one.
    word: AtomicU64,
    /// Counts calls that are refused, and pairs with nothing.
    refused: AtomicU64,
    machine: Mutex<Machine>,
    /// From when on a call is slow, if that matters: then the clock is read twice a call.
    slow_after: Option<Duration>,
    name: Option<&'static str>,
    watch: watch::Sender<State>,
}

/// From the low end: two bits for the state, one for timed, one for clean, the rest for the epoch.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Word(u64);

const STATE: u64 = 0b11;
/// Slow calls count, so every call needs to know when it began, and no success is like another.
const TIMED: u64 = 0b100;
const CLEAN: u64 = 0b1000;
const EPOCH_SHIFT: u32 = 4;

// === impl Word ===

impl Word {
    fn of(machine: &Machine) -> Self {
        let timed = if machine.is_timed() { TIMED } else { 0 };
        let clean = if machine.is_clean() { CLEAN } else { 0 };
        Self(machine.epoch() << EPOCH_SHIFT | clean | timed | machine.state() as u64)
    }

    const fn state(self) -> State {
        State::ALL[(self.0 & STATE) as usize]
    }

    const fn epoch(self) -> u64 {
        self.0 >> EPOCH_SHIFT
    }
}

// === impl Gate ===

impl Gate {
    pub(crate) fn new(settings: Settings) -> Self {
        let machine = Machine::new(settings);
        Self {
            word: AtomicU64::new(Word::of(&machine).0),
            refused: AtomicU64::new(0),
            machine: Mutex::new(machine),
            slow_after: settings.slow.map(|slow| slow.after),
            name: settings.name,
            watch: watch::Sender::new(State::Closed),
        }
    }

    /// Whether calls pass as things stand, without a look at the clock.
    pub(crate) fn is_closed(&self) -> bool {
        self.word().state() == State::Closed
    }

    /// Lets a call pass in the common case: closed, and nobody wants to know the time. Gives the epoch.
    #[inline]
    pub(crate) fn pass(&self) -> Option<u64> {
        let word = self.word();
        (word.0 & (STATE | TIMED) == State::Closed as u64).then_some(word.epoch())
    }

    /// Lets a call pass, or refuses it.
    #[cold]
    pub(crate) fn admit(&self) -> Result<Stamp, Rejected> {
        let word = self.word();
        match word.state() {
            State::Closed => {
                let started = self.slow_after.map(|_| Instant::now());
                Ok(Stamp { epoch: word.epoch(), started })
            }
            State::Isolated => Err(self.refuse(Reason::Isolated, None)),
            State::Open | State::HalfOpen => self.admit_locked(),
        }
    }

    fn admit_locked(&self) -> Result<Stamp, Rejected> {
        let (now, random) = (Instant::now(), fastrand::f64());
        let (admitted, state, remaining) = self
            .with(|machine| (machine.admit(now, random), machine.state(), machine.remaining(now)));
        let reason = if state == State::Isolated { Reason::Isolated } else { Reason::Open };
        admitted.ok_or_else(|| self.refuse(reason, remaining))
    }

    fn refuse(&self, reason: Reason, remaining: Option<Duration>) -> Rejected {
        self.refused.fetch_add(1, Relaxed);
        let rejected = Rejected::new(&"breaker", reason).with_name(self.name);
        remaining.map_or(rejected, |after| rejected.with_retry_after(after))
    }

    /// Whether a success of `epoch` would change nothing: then it needs not be settled.
    #[inline]
    pub(crate) fn ignores_successes_of(&self, epoch: u64) -> bool {
        self.word().0 == epoch << EPOCH_SHIFT | CLEAN | State::Closed as u64
    }

    /// Takes back an admitted call.
    #[inline(never)]
    pub(crate) fn settle(&self, stamp: Stamp, verdict: Verdict) {
        let word = self.word();
        let ignored = verdict == Verdict::Ignored;
        // Only a probe has a place to give back.
        if word.epoch() != stamp.epoch || ignored && word.state() != State::HalfOpen {
            return;
        }
        let mut now = None;
        let slow = match (self.slow_after, stamp.started) {
            (Some(limit), Some(started)) if !ignored => {
                now.insert(Instant::now()).saturating_duration_since(started) >= limit
            }
            _ => false,
        };
        let failed = verdict == Verdict::Failure;
        let outcome = (!ignored).then_some(Outcome { failed, slow });
        self.with(|machine| {
            if now.is_none() && machine.needs_clock() {
                now = Some(Instant::now());
            }
            if machine.settle(stamp, outcome, now) {
                machine.open(now.unwrap_or_else(Instant::now), fastrand::f64());
            }
        });
    }

    /// The state as it is now.
    pub(crate) fn state(&self) -> State {
        match self.word().state() {
            State::Open | State::HalfOpen => {
                let (now, random) = (Instant::now(), fastrand::f64());
                self.with(|machine| {
                    machine.tick(now, random);
                    machine.state()
                })
            }
            state @ (State::Closed | State::Isolated) => state,
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let (now, random) = (Instant::now(), fastrand::f64());
        self.with(|machine| {
            machine.tick(now, random);
            let tally = machine.tally();
            Snapshot {
                state: machine.state(),
                calls: tally.calls,
                failures: tally.failures,
                slow: tally.slow,
                consecutive: machine.consecutive(),
                probes: machine.probes(),
                remaining: machine.remaining(now),
                opened: machine.opened(),
                refused: self.refused.load(Relaxed),
            }
        })
    }

    pub(crate) fn isolate(&self) {
        self.with(Machine::isolate);
    }

    pub(crate) fn release(&self) {
        self.with(Machine::release);
    }

    pub(crate) fn reset(&self) {
        self.with(Machine::close);
    }

    pub(crate) fn watch(&self) -> watch::Receiver<State> {
        self.watch.subscribe()
    }

    #[inline]
    fn word(&self) -> Word {
        Word(self.word.load(Relaxed))
    }

    /// Does something to the machine under the lock, and tells of a transition after it.
    fn with<R>(&self, step: impl FnOnce(&mut Machine) -> R) -> R {
        let mut machine = lock(&self.machine);
        let before = machine.state();
        let result = step(&mut machine);
        let after = machine.state();
        self.word.store(Word::of(&machine).0, Relaxed);
        drop(machine);
        if before != after {
            self.announce(before, after);
        }
        result
    }

    /// The receivers are woken outside of the lock of the machine, so another thread may be first to
    /// tell of a later transition. That is why the state is read within: whoever comes last sees the
    /// newest.
    #[cold]
    fn announce(&self, from: State, to: State) {
        #[cfg(feature = "tracing")]
        tracing::info!(
            target: "stockade",
            layer = "breaker",
            name = self.name,
            from = from.as_str(),
            to = to.as_str(),
            "transition"
        );
        #[cfg(not(feature = "tracing"))]
        let _ = (from, to);
        self.watch.send_if_modified(|seen| {
            let state = self.word().state();
            std::mem::replace(seen, state) != state
        });
    }
}
