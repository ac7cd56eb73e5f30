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

use stockade_core::internal::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use stockade_core::{Reason, internal::lock};
use tokio::{sync::watch, time::Instant};

use crate::{
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

/// The state of one breaker, which its [owner](crate::owner::Owner) and its calls share.
///
/// Calls refer to it without being counted, so it is never freed: when its owner goes, the next breaker that is
/// made gets it, for another *life*. Calls of the former life may still end then. They change nothing, because
/// a new life is a new epoch, as any other time that they do not belong to.
#[derive(Debug)]
pub(crate) struct Gate {
    /// A [`Word`]. Stored under the lock of `life` only, and read without. All of it is `Relaxed`: the
    /// word tells all there is to know in one piece, nothing else is read on the strength of it without
    /// taking the lock, and who has seen one value of it never sees an older one.
    word: AtomicU64,
    life: Mutex<Life>,
}

/// What a gate is to one breaker.
#[derive(Debug)]
struct Life {
    machine: Machine,
    watch: watch::Sender<State>,
}

/// What a call that was admitted remembers of the word: its epoch, and what the word has to be for a success of
/// this call to change nothing. So that is one comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pass(u64);

/// Why a call is refused, and for how long yet, if that is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    pub(crate) remaining: Option<Duration>,
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

// === impl Pass ===

impl Pass {
    pub(crate) const fn of(epoch: u64) -> Self {
        Self(epoch << EPOCH_SHIFT | CLEAN | State::Closed as u64)
    }

    pub(crate) const fn epoch(self) -> u64 {
        Word(self.0).epoch()
    }
}

// === impl Life ===

impl Life {
    fn new(settings: Settings, epoch: u64) -> Self {
        Self { machine: Machine::new(settings, epoch), watch: watch::Sender::new(State::Closed) }
    }
}

// === impl Gate ===

impl Gate {
    pub(crate) fn new() -> Self {
        let life = Life::new(Settings::default(), 0);
        Self { word: AtomicU64::new(Word::of(&life.machine).0), life: Mutex::new(life) }
    }

    /// Begins another life, closed and with a new epoch. The receivers of the former one see that it is over.
    pub(crate) fn begin(&self, settings: Settings) {
        let mut life = lock(&self.life);
        let next = Life::new(settings, life.machine.epoch() + 1);
        self.word.store(Word::of(&next.machine).0, Relaxed);
        let former = std::mem::replace(&mut *life, next);
        drop(life);
        // It wakes the receivers, which may come back here.
        drop(former);
    }

    /// Whether calls pass as things stand, without a look at the clock.
    pub(crate) fn is_closed(&self) -> bool {
        self.word().state() == State::Closed
    }

    /// Lets a call pass in the common case: closed, and nobody wants to know the time.
    #[inline]
    pub(crate) fn pass(&self) -> Option<Pass> {
        let word = self.word();
        (word.0 & (STATE | TIMED) == State::Closed as u64).then_some(Pass(word.0 | CLEAN))
    }

    /// Lets a call pass, or refuses it.
    pub(crate) fn admit(&self) -> Result<Stamp, Refusal> {
        let word = self.word();
        match word.state() {
            State::Closed => {
                let started = (word.0 & TIMED != 0).then(Instant::now);
                Ok(Stamp { epoch: word.epoch(), started })
            }
            State::ForcedOpen => Err(Refusal { reason: Reason::ForcedOpen, remaining: None }),
            State::Open | State::HalfOpen => self.admit_locked(),
        }
    }

    fn admit_locked(&self) -> Result<Stamp, Refusal> {
        let (now, random) = (Instant::now(), fastrand::f64());
        self.with(|machine| {
            machine.admit(now, random).ok_or_else(|| {
                let forced_open = machine.state() == State::ForcedOpen;
                let reason = if forced_open { Reason::ForcedOpen } else { Reason::BreakerOpen };
                Refusal { reason, remaining: machine.remaining(now) }
            })
        })
    }

    /// Whether a success of this call would change nothing: then it needs not be settled.
    #[inline]
    pub(crate) fn ignores_successes_of(&self, pass: Pass) -> bool {
        self.word().0 == pass.0
    }

    /// Takes back an admitted call, maybe one of a former life.
    #[inline(never)]
    pub(crate) fn settle(&self, stamp: Stamp, verdict: Verdict) {
        let word = self.word();
        let ignored = verdict == Verdict::Ignored;
        // Only a probe has a place to give back.
        if word.epoch() != stamp.epoch || ignored && word.state() != State::HalfOpen {
            return;
        }
        // Whoever knows when it began is a probe or may be slow, so the time will be asked for.
        let mut now = stamp.started.map(|_| Instant::now());
        self.with(|machine| {
            if now.is_none() && machine.needs_clock() {
                now = Some(Instant::now());
            }
            let (failed, slow) = (verdict == Verdict::Failure, machine.is_slow(stamp, now));
            let outcome = (!ignored).then_some(Outcome { failed, slow });
            // It looks at the epoch again, now that it cannot change.
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
            state @ (State::Closed | State::ForcedOpen) => state,
        }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<State> {
        lock(&self.life).watch.subscribe()
    }

    #[inline]
    fn word(&self) -> Word {
        Word(self.word.load(Relaxed))
    }

    /// Does something to the machine under the lock, and tells of a transition after it.
    pub(crate) fn with<R>(&self, step: impl FnOnce(&mut Machine) -> R) -> R {
        let mut life = lock(&self.life);
        let before = life.machine.state();
        let result = step(&mut life.machine);
        let after = life.machine.state();
        self.word.store(Word::of(&life.machine).0, Relaxed);
        if before != after {
            self.announce(life, before, after);
        }
        result
    }

    /// The receivers are woken outside of the lock of the machine, so another thread may be first to
    /// tell of a later transition. That is why the state is read within: whoever comes last sees the
    /// newest. If the life has ended meanwhile, there is nobody left to tell.
    #[cold]
    fn announce(&self, life: MutexGuard<'_, Life>, from: State, to: State) {
        let watch = life.watch.clone();
        #[cfg(feature = "tracing")]
        let name = life.machine.name();
        drop(life);
        #[cfg(feature = "tracing")]
        tracing::info!(
            target: "stockade",
            layer = "breaker",
            name,
            from = from.as_str(),
            to = to.as_str(),
            "transition"
        );
        #[cfg(not(feature = "tracing"))]
        let _ = (from, to);
        // Its lock is not one of the model checker's, under which a thread that takes ours within it may stop.
        #[cfg(shuttle)]
        drop(watch);
        #[cfg(not(shuttle))]
        watch.send_if_modified(|seen| {
            let life = lock(&self.life);
            if !life.watch.same_channel(&watch) {
                return false;
            }
            let state = life.machine.state();
            std::mem::replace(seen, state) != state
        });
    }
}

#[cfg(test)]
#[cfg(not(shuttle))]
mod tests {
    use super::*;

    /// Opens at the first failure, for a moment only.
    const SETTINGS: Settings =
        Settings { consecutive: Some(1), open_for: Duration::from_nanos(1), ..Settings::DEFAULT };

    /// A gate that has just opened, and is half-open.
    fn half_open() -> Gate {
        let gate = Gate::new();
        gate.begin(SETTINGS);
        trip(&gate);
        gate
    }

    fn trip(gate: &Gate) {
        gate.settle(gate.admit().unwrap(), Verdict::Failure);
        while gate.state() != State::HalfOpen {}
    }

    /// As between two breakers.
    fn next_life(gate: &Gate) {
        gate.begin(Settings::default());
        gate.begin(SETTINGS);
    }

    fn known(gate: &Gate) -> (State, u32, u32, usize, u64) {
        gate.with(|machine| {
            let (tally, consecutive) = (machine.tally(), machine.consecutive());
            (machine.state(), tally.calls, consecutive, machine.probes(), machine.opened())
        })
    }

    const ALL: [Verdict; 3] = [Verdict::Success, Verdict::Failure, Verdict::Ignored];

    #[test]
    fn a_gate_that_is_used_again_does_not_know_its_former_life() {
        for verdict in ALL {
            let gate = half_open();
            let probes = [(); 2].map(|()| gate.admit().unwrap());
            next_life(&gate);
            assert_eq!(known(&gate), (State::Closed, 0, 0, 0, 0));
            gate.settle(probes[0], verdict);
            assert_eq!(known(&gate), (State::Closed, 0, 0, 0, 0));
            trip(&gate);
            let _probe = gate.admit().unwrap();
            gate.settle(probes[1], verdict);
            assert_eq!(known(&gate), (State::HalfOpen, 0, 0, 1, 1));
        }
    }

    #[test]
    fn no_two_lives_have_an_epoch_in_common() {
        let gate = Gate::new();
        let mut last = None;
        for _ in 0..50 {
            gate.begin(SETTINGS);
            let first = gate.pass();
            assert!(first > last);
            trip(&gate);
            last = Some(Pass::of(gate.admit().unwrap().epoch));
            assert!(last > first);
        }
    }

    #[test]
    fn a_success_of_a_former_life_looks_at_the_lock_although_the_new_one_is_clean() {
        let gate = Gate::new();
        gate.begin(SETTINGS);
        let late = gate.pass().unwrap();
        next_life(&gate);
        for _ in 0..100 {
            gate.settle(gate.admit().unwrap(), Verdict::Success);
        }
        assert!(gate.ignores_successes_of(gate.pass().unwrap()));
        assert!(!gate.ignores_successes_of(late));
    }

    #[test]
    fn the_receivers_of_a_former_life_see_its_end_and_nothing_of_the_next() {
        let gate = half_open();
        let watch = gate.watch();
        next_life(&gate);
        trip(&gate);
        assert!(watch.has_changed().is_err());
        assert_eq!(*watch.borrow(), State::HalfOpen);
        assert_eq!(*gate.watch().borrow(), State::HalfOpen);
        gate.with(Machine::close);
        assert_eq!(*watch.borrow(), State::HalfOpen);
    }

    #[test]
    fn settings_begin_with_the_life() {
        let gate = Gate::new();
        let slow = Some(crate::settings::Slow { after: Duration::from_secs(1), rate: 0.5 });
        gate.begin(Settings { slow, ..SETTINGS });
        assert_eq!(gate.pass(), None, "every call needs to know when it began");
        assert!(gate.admit().unwrap().started.is_some());
        gate.begin(SETTINGS);
        assert!(gate.pass().is_some());
        assert_eq!(gate.admit().unwrap().started, None);
    }
}
