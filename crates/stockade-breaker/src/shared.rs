//! The state that clones share: the machine under a short lock, and one word in front of it.
//!
//! The word says what the machine was when it was last unlocked: its state, its epoch, the number of answers, and
//! whether it is *clean*, that is, closed with a window full of successes. It makes the common call cheap: a
//! closed breaker admits a call by one load, and while it is clean a success is settled by one load too, because
//! one success leaves the window as the other comes in. So threads that call a healthy service only read a
//! line of memory that nobody writes. The lock is taken while the window fills, while a failure is in
//! it, and while the breaker is not closed.
//!
//! What races with the word is harmless. A call that is admitted by a word that changes at that moment carries the
//! epoch of that word, so what it reports counts for nothing. A success that is skipped by a word that
//! turns unclean at that moment came before the failure that turned it.
//!
//! A call refers to [`Shared`] without counting a reference, which would cost more than all the rest when two
//! threads call. So [`Shared`] is never freed. What the long-lived parts of a breaker share is the [`Lease`]; when the
//! last of them goes, the next breaker takes over the memory. Calls of the former breaker may still end then.
//! They change nothing, because the next breaker begins a new epoch.

use std::{mem, time::Duration};

use stockade_core::internal::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use stockade_core::{
    Reason, Rejected,
    internal::{Refusals, Refuser, StaticPool, lock},
};
use tokio::{
    sync::{Notify, futures::Notified, watch},
    time::Instant,
};

use crate::{
    Config, Snapshot, State, Status,
    call::{End, Stamp},
    state::Machine,
};

/// The state of one breaker.
#[derive(Debug)]
pub(crate) struct Shared {
    /// A [`Word`], stored under the lock of `life` and read without. All of it is `Relaxed`: the word tells
    /// everything in one piece, and nothing else is read on the strength of it without taking the lock.
    word: AtomicU64,
    life: Mutex<Life>,
    /// Notified when calls may pass that could not before.
    changed: Notify,
}

/// What belongs to one breaker, and not to the next.
#[derive(Debug)]
struct Life {
    machine: Machine,
    watch: watch::Sender<Status>,
}

/// From the low end: two bits for the state, one for timed, one for clean, and 60 for the mark of a [`Stamp`].
#[derive(Clone, Copy, PartialEq, Eq)]
struct Word(u64);

/// Keeps the state of a breaker for its layer, services and handles. Calls do not have it.
#[derive(Debug)]
pub(crate) struct Lease {
    shared: &'static Shared,
    refused: Refusals,
}

const STATE: u64 = 0b11;
/// Slow calls count, so every call has to know when it began, and no success is like another.
const TIMED: u64 = 0b100;
const CLEAN: u64 = 0b1000;
const MARK_SHIFT: u32 = 4;

pub(crate) static POOL: StaticPool<Shared> = StaticPool::new();

// === impl Word ===

impl Word {
    fn of(machine: &Machine) -> Self {
        let timed = if machine.config().is_timed() { TIMED } else { 0 };
        let clean = if machine.is_clean() { CLEAN } else { 0 };
        Self(machine.mark() << MARK_SHIFT | clean | timed | machine.state() as u64)
    }

    /// The word as it has to be if a success of this call is to change nothing.
    const fn clean(stamp: Stamp) -> Self {
        Self(stamp.mark << MARK_SHIFT | CLEAN | State::Closed as u64)
    }

    const fn state(self) -> State {
        State::ALL[(self.0 & STATE) as usize]
    }

    const fn stamp(self, admitted: Option<Instant>) -> Stamp {
        Stamp { mark: self.0 >> MARK_SHIFT, admitted }
    }
}

// === impl Life ===

impl Life {
    fn new(config: Config, epoch: u32) -> Self {
        let machine = Machine::new(config, epoch);
        let watch = watch::Sender::new(machine.status());
        Self { machine, watch }
    }
}

// === impl Shared ===

impl Shared {
    pub(crate) fn new() -> Self {
        let life = Life::new(Config::DEFAULT, 0);
        let word = AtomicU64::new(Word::of(&life.machine).0);
        Self { word, life: Mutex::new(life), changed: Notify::new() }
    }

    /// Begins another life, closed and with a new epoch. The receivers of the former one see that it is over.
    pub(crate) fn begin(&self, config: Config) {
        let mut life = lock(&self.life);
        let next = Life::new(config, life.machine.epoch() + 1);
        self.word.store(Word::of(&next.machine).0, Relaxed);
        let former = mem::replace(&mut *life, next);
        drop(life);
        // It wakes the receivers, which may come back here.
        drop(former);
    }

    /// Whether all calls pass, without a look at the clock.
    pub(crate) fn is_closed(&self) -> bool {
        self.word().state() == State::Closed
    }

    /// Lets a call pass in the common case: the breaker is closed, and nobody needs the time.
    #[inline]
    pub(crate) fn pass(&self) -> Option<Stamp> {
        let word = self.word();
        (word.0 & (STATE | TIMED) == State::Closed as u64).then(|| word.stamp(None))
    }

    /// Lets a call pass, or refuses it. A `reserved` call has been [let](Self::reserve) onto the ramp before.
    pub(crate) fn admit(&self, reserved: bool) -> Result<Stamp, Rejected> {
        let word = self.word();
        let now = Instant::now();
        if word.state() == State::Closed {
            return Ok(word.stamp(Some(now).filter(|_| word.0 & TIMED != 0)));
        }
        let random = fastrand::f64();
        self.with(|machine| {
            machine.admit(now, random, reserved).ok_or_else(|| {
                let forced = machine.state() == State::ForcedOpen;
                let reason = if forced { Reason::ForcedOpen } else { Reason::BreakerOpen };
                let rejected = Rejected::new(&"breaker", reason).with_name(machine.config().name);
                let after = machine.retry_after(now, random);
                after.map_or(rejected, |after| rejected.with_retry_after(after))
            })
        })
    }

    /// Whether a call could pass, and else in what time to ask again, if that is known.
    pub(crate) fn reserve(&self, take_share: bool) -> Result<(), Option<Duration>> {
        if self.is_closed() {
            return Ok(());
        }
        let (now, random) = (Instant::now(), fastrand::f64());
        self.with(|machine| {
            let passable = machine.passable(now, random, take_share);
            if passable { Ok(()) } else { Err(machine.next_change(now, random)) }
        })
    }

    /// Waits until calls may pass that could not when this was first polled.
    pub(crate) fn changed(&'static self) -> Notified<'static> {
        self.changed.notified()
    }

    /// Whether a success of this call would change nothing, so that it need not be settled.
    #[inline]
    pub(crate) fn ignores_successes_of(&self, stamp: Stamp) -> bool {
        self.word() == Word::clean(stamp)
    }

    /// Takes back an admitted call, maybe one of a former life. `waited` is what it waited for inside the stack.
    pub(crate) fn settle(&self, stamp: Stamp, end: End, waited: Duration) {
        let word = self.word();
        // Only a probe has a place to give back.
        let says_nothing = end == End::Nothing && word.state() != State::HalfOpen;
        if word.stamp(None).epoch() != stamp.epoch() || says_nothing {
            return;
        }
        let hint = if let End::Failure { after, .. } = end { after } else { None };
        let timed = stamp.admitted.is_some() || hint.is_some();
        let mut now = timed.then(Instant::now);
        let took = stamp
            .admitted
            .zip(now)
            .map(|(admitted, now)| now.saturating_duration_since(admitted).saturating_sub(waited));
        let was_probing = self.with(|machine| {
            let was_probing = machine.is_probing();
            if now.is_none() && machine.needs_clock() {
                now = Some(Instant::now());
            }
            if let Some((hint, now)) = hint.zip(now) {
                machine.heed(stamp, hint, now, fastrand::f64());
            }
            // It looks at the epoch again, now that it cannot change.
            if let Some(trip) = machine.settle(stamp, end, took, now) {
                machine.open(trip, now.unwrap_or_else(Instant::now), fastrand::f64());
            }
            was_probing
        });
        if was_probing {
            self.changed.notify_waiters();
        }
    }

    /// The state as it is now.
    pub(crate) fn status(&self) -> Status {
        self.ticked(|machine, _| machine.status())
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Status> {
        lock(&self.life).watch.subscribe()
    }

    /// Looks at the machine after it has noticed what the time has brought.
    pub(crate) fn ticked<R>(&self, look: impl FnOnce(&Machine, Instant) -> R) -> R {
        let now = Instant::now();
        self.with(|machine| {
            machine.tick(now, fastrand::f64());
            look(machine, now)
        })
    }

    /// Does something to the machine under the lock, and tells of a transition after it.
    pub(crate) fn with<R>(&self, step: impl FnOnce(&mut Machine) -> R) -> R {
        let mut life = lock(&self.life);
        let before = life.machine.state();
        let result = step(&mut life.machine);
        self.word.store(Word::of(&life.machine).0, Relaxed);
        if before != life.machine.state() {
            self.announce(life, before);
        }
        result
    }

    #[inline]
    fn word(&self) -> Word {
        Word(self.word.load(Relaxed))
    }

    /// The receivers are woken outside the lock of the machine, so another thread may be first to tell of a
    /// later transition. That is why the status is read again: whoever comes last sees the newest.
    #[cold]
    fn announce(&self, life: MutexGuard<'_, Life>, from: State) {
        let watch = life.watch.clone();
        let (to, name) = (life.machine.status(), life.machine.config().name);
        drop(life);
        event(name, from, to);
        self.changed.notify_waiters();
        // Its lock is not one of the model checker's, under which a thread that takes ours within it may stop.
        #[cfg(shuttle)]
        drop(watch);
        #[cfg(not(shuttle))]
        watch.send_if_modified(|seen| {
            let life = lock(&self.life);
            // If the life has ended, there is nobody left to tell.
            if !life.watch.same_channel(&watch) {
                return false;
            }
            let status = life.machine.status();
            mem::replace(seen, status) != status
        });
    }
}

#[cfg(feature = "tracing")]
fn event(name: Option<&'static str>, from: State, to: Status) {
    let cause = to.cause.filter(|_| to.state != State::HalfOpen);
    tracing::info!(
        target: "stockade",
        layer = "breaker",
        name,
        from = from.label(),
        to = to.state.label(),
        cause = cause.map(|cause| cause.trip.label()),
        calls = cause.map(|cause| cause.calls),
        failures = cause.map(|cause| cause.failures),
        slow = cause.map(|cause| cause.slow),
        ratio = cause.map(|cause| cause.ratio),
        "transition"
    );
}

#[cfg(not(feature = "tracing"))]
const fn event(_: Option<&'static str>, _: State, _: Status) {}

// === impl Lease ===

impl Lease {
    pub(crate) fn new(config: Config) -> Self {
        let shared = POOL.take(Shared::new);
        shared.begin(config);
        Self { shared, refused: Refusals::default() }
    }

    pub(crate) const fn shared(&self) -> &'static Shared {
        self.shared
    }

    /// Lets a call pass or refuses it, and counts it then.
    #[cold]
    pub(crate) fn admit(&self, reserved: bool) -> Result<Stamp, Rejected> {
        let admitted = self.shared.admit(reserved);
        if let Err(rejected) = &admitted {
            self.refused.count(rejected.reason());
        }
        admitted
    }

    pub(crate) fn config(&self) -> Config {
        *lock(&self.shared.life).machine.config()
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let [open, forced] =
            [Reason::BreakerOpen, Reason::ForcedOpen].map(|reason| self.refused.get(reason));
        self.shared.ticked(|machine, now| Snapshot {
            refused: open + forced,
            refused_forced_open: forced,
            ..machine.snapshot(now)
        })
    }
}

impl Refuser for Lease {
    fn rejected(&self, reason: Reason) -> Rejected {
        Rejected::new(&"breaker", reason).with_name(self.config().name)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Ends the life now, so that its window does not stay in memory and its receivers do not wait.
        self.shared.begin(Config::DEFAULT);
        POOL.give_back(self.shared);
    }
}
