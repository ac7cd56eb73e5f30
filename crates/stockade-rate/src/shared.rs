//! The state that all clones share: a bucket, the queue in front of it, and the alarms that serve the queue.
//!
//! A call that finds a token takes it from the bucket alone, without a lock. All else ends in
//! [`settle`](Shared::settle): it gives tokens to all calls that are due, sets the alarms to when the next call is due, and
//! wakes the calls that were served once the lock is free. So it makes no difference what happens first when tokens are
//! due: an alarm goes off, a call that waits is polled, or another call comes, leaves or changes the rate.

use std::{
    num::NonZeroU32,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use governor::nanos::Nanos;
use stockade_core::{
    ConfigError, Reason, Rejected,
    config::{MAX_DURATION, MIN_DURATION, check},
    internal::{
        Key, Refusal, lock,
        sync::{
            Mutex, MutexGuard,
            atomic::{AtomicUsize, Ordering},
        },
        wake,
    },
};
use tokio::runtime::Handle;

use crate::{
    Config, RateHandle,
    alarm::{Alarms, Changes, RuntimeId},
    backend::{Admission, Backend, Bounds},
    bucket::{Bucket, MAX_FILL},
    limiter::{At, Common, Entry, Limiter},
    waiter::Waiter,
};

/// One bucket, and the queue of the calls that wait for its tokens.
#[derive(Debug)]
pub struct Shared {
    common: Arc<Common>,
    /// The bucket, unless the rate was changed. Then it is closed, so that all calls come to the lock, and with it to
    /// the bucket that took its place.
    first: Bucket,
    /// The length of the queue. Stored under the lock with release, and loaded with acquire by a call that passes
    /// without it: so a call that comes after one that waits sees it, and does not overtake it.
    waiting: AtomicUsize,
    state: Mutex<State>,
}

/// What is under the lock.
#[derive(Debug, Default)]
struct State {
    limiter: Limiter,
    alarms: Alarms,
}

// === impl Shared ===

impl Shared {
    pub(crate) fn new(common: Arc<Common>) -> Self {
        let first = Bucket::new(common.quota);
        Self::with_bucket(common, first)
    }

    pub(crate) fn with_bucket(common: Arc<Common>, first: Bucket) -> Self {
        Self { common, first, waiting: AtomicUsize::new(0), state: Mutex::default() }
    }

    pub(crate) fn common(&self) -> &Arc<Common> {
        &self.common
    }

    fn now(&self) -> Nanos {
        self.common.now()
    }

    fn at(&self, now: Nanos) -> At<'_> {
        self.common.at(&self.first, now)
    }

    /// Takes tokens, if there are enough and no call waits for them.
    #[inline]
    pub(crate) fn pass(&self, now: Nanos, cost: NonZeroU32) -> bool {
        self.waiting.load(Ordering::Acquire) == 0 && self.first.take(now, cost).is_ok()
    }

    /// What becomes of a call that did not pass.
    #[cold]
    #[inline(never)]
    fn judge(self: &Arc<Self>, now: Nanos, cost: NonZeroU32) -> Admission<Self> {
        // Calls that are due are served first, so that they do not count as waiting.
        let verdict = self.settle(lock(&self.state), now, Changes::default(), |limiter| {
            self.common.judge(limiter, self.at(now), cost, self.common.config.bounds())
        });
        match verdict {
            Poll::Ready(Ok(())) => Admission::Pass,
            Poll::Ready(Err(rejected)) => Admission::Refuse(Refusal::new(&self.common, rejected)),
            Poll::Pending => Admission::Wait(Waiter::new(Arc::clone(self), cost)),
        }
    }

    /// Takes tokens at once, or refuses.
    pub(crate) fn try_take(&self, cost: NonZeroU32) -> Result<(), Rejected> {
        let now = self.now();
        if self.pass(now, cost) {
            return Ok(());
        }
        let bounds = Bounds { queue: 0, max_wait: None };
        match self.common.judge(&lock(&self.state).limiter, self.at(now), cost, bounds) {
            Poll::Ready(taken) => taken,
            Poll::Pending => unreachable!("no call waits where there is no queue"),
        }
    }

    /// A call that waits takes its place in the queue, unless it passes or is refused after all. `bounded` says
    /// whether it may be refused.
    pub(crate) fn enter(
        self: &Arc<Self>,
        now: Nanos,
        cost: NonZeroU32,
        bounded: bool,
        (runtime, waker): (Option<Handle>, Waker),
        place: &mut Option<Key>,
    ) -> Poll<Result<(), Rejected>> {
        let mut state = lock(&self.state);
        let (common, at) = (&self.common, self.at(now));
        if bounded {
            let judged = common.judge(&state.limiter, at, cost, common.config.bounds());
            if judged.is_ready() {
                return judged;
            }
        } else if common.passes(&state.limiter, at, cost) {
            return Poll::Ready(Ok(()));
        }
        let Some(runtime) = runtime else {
            drop(state);
            panic!(
                "stockade: a call that waits for a token needs a tokio runtime with time, and there is none here"
            );
        };
        *place = Some(state.limiter.enter(at, cost, runtime.id(), waker));
        state.alarms.enter(&runtime, self);
        self.settle(state, now, Changes::default(), |_| ());
        Poll::Pending
    }

    /// A call in the queue is polled: it leaves the waker by which it is told when it has been served.
    pub(crate) fn turn(
        self: &Arc<Self>,
        now: Nanos,
        key: Key,
        (runtime, waker): (Option<Handle>, Waker),
    ) -> Poll<Result<(), Rejected>> {
        let mut state = lock(&self.state);
        let mut changes = Changes::default();
        let State { limiter, alarms } = &mut *state;
        // Its own waker is not called here.
        let old = limiter.entry(key).map(|entry| entry.waker.take());
        if let (Some(entry), Some(runtime)) = (limiter.entry(key), runtime)
            && entry.runtime.get() != Some(runtime.id())
        {
            alarms.leave(entry.runtime.replace(Some(runtime.id())), &mut changes);
            alarms.enter(&runtime, self);
        }
        let mut waker = Some(waker);
        let turn = self.settle(state, now, changes, |limiter| {
            if let Some(entry) = limiter.entry(key) {
                entry.waker.set(waker.take());
            }
            limiter.turn(key)
        });
        drop((old, waker));
        turn.map_err(|reason| self.common.refuse(reason))
    }

    /// A call that waits is dropped. If it had been served, its tokens go back.
    pub(crate) fn leave(&self, now: Nanos, key: Key, cost: NonZeroU32) {
        let mut state = lock(&self.state);
        let mut changes = Changes::default();
        // Dropped after the lock, because its waker may run code of its own then.
        let left: Option<Entry> = state.limiter.remove(key);
        if let Some(entry) = &left {
            state.alarms.leave(entry.runtime.get(), &mut changes);
        } else if let Poll::Ready(Ok(())) = state.limiter.turn(key) {
            state.limiter.give_back(&self.first, now, cost.get().into());
        }
        self.settle(state, now, changes, |_| ());
        drop(left);
    }

    /// An alarm has gone off.
    pub(crate) fn went_off(&self, now: Nanos, runtime: RuntimeId) {
        let mut state = lock(&self.state);
        let mut changes = Changes::default();
        let ended = state.alarms.went_off(runtime, now, &mut changes);
        // The calls that were last polled there have to be polled again, wherever they are now.
        let lost = if ended { state.limiter.lose(runtime) } else { Vec::new() };
        self.settle(state, now, changes, |_| ());
        lost.into_iter().for_each(wake);
    }

    /// Gives tokens to all calls that are due, and sets the alarms for the next one. `then` looks at the queue
    /// afterwards, under the lock.
    fn settle<R>(
        &self,
        mut state: MutexGuard<'_, State>,
        now: Nanos,
        mut changes: Changes,
        then: impl FnOnce(&mut Limiter) -> R,
    ) -> R {
        let mut served = Vec::new();
        let State { limiter, alarms } = &mut *state;
        let due = limiter.serve(self.at(now), self.common.is_enabled(), &mut served);
        for entry in &served {
            alarms.leave(entry.runtime.get(), &mut changes);
        }
        alarms.set(due, &mut changes);
        self.waiting.store(limiter.len(), Ordering::Release);
        let result = then(limiter);
        drop(state);
        served.into_iter().filter_map(|entry| entry.waker.take()).for_each(wake);
        changes.make(self);
        result
    }

    pub(crate) fn with_alarms<R>(&self, f: impl FnOnce(&mut Alarms) -> R) -> R {
        f(&mut lock(&self.state).alarms)
    }

    // === waiting in `poll_ready` ===

    /// Takes a token if there is one and nobody waits for it.
    pub(crate) fn try_reserve(&self) -> bool {
        self.pass(self.now(), NonZeroU32::MIN)
    }

    // === what a handle reads and changes ===

    /// The number of calls that would pass at once.
    pub(crate) fn available(&self) -> u32 {
        lock(&self.state).limiter.available(&self.first, self.now())
    }

    /// The number of calls that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// The configuration, with the rate that holds now.
    pub(crate) fn config(&self) -> Config {
        let (calls, per) = lock(&self.state).limiter.rate(&self.common.config);
        Config { calls, per, ..self.common.config.clone() }
    }

    pub(crate) fn set_rate(
        &self,
        now: Nanos,
        calls: u32,
        per: Duration,
    ) -> Result<(), ConfigError> {
        let config = Config { calls, per, ..self.common.config.clone() };
        config.check_rate("RateHandle::set_rate, n", "RateHandle::set_rate, per")?;
        if let Some(burst) = config.burst {
            let range = MIN_DURATION..=MAX_FILL / burst;
            check("RateHandle::set_rate, per / n", config.period(), range)?;
        }
        let mut state = lock(&self.state);
        state.limiter.set_quota(&self.first, now, config.quota());
        state.limiter.remember_rate(calls, per);
        self.settle(state, now, Changes::default(), |_| ());
        Ok(())
    }

    /// Gives no token until `pause` has passed.
    pub(crate) fn penalize(&self, now: Nanos, pause: Duration) {
        let mut state = lock(&self.state);
        state.limiter.penalize(&self.first, now + pause.min(MAX_DURATION));
        self.settle(state, now, Changes::default(), |_| ());
    }

    /// Takes more tokens, or gives some back.
    pub(crate) fn adjust(&self, now: Nanos, tokens: i64) {
        let mut state = lock(&self.state);
        if tokens < 0 {
            state.limiter.give_back(&self.first, now, tokens.unsigned_abs());
        } else {
            state.limiter.bucket(&self.first).charge(now, tokens.unsigned_abs());
        }
        self.settle(state, now, Changes::default(), |_| ());
    }

    /// Looks again, because the switch was turned.
    pub(crate) fn switched(&self) {
        self.settle(lock(&self.state), self.now(), Changes::default(), |_| ());
    }

    /// The instant at which the bucket will be full, if it is as if nobody had ever waited.
    pub(crate) fn unused(&self, now: Nanos) -> Option<Nanos> {
        lock(&self.state).limiter.is_unused(now).then(|| self.first.word())
    }

    #[cfg(all(test, shuttle))]
    pub(crate) fn is_waiting(&self, key: Key) -> bool {
        lock(&self.state).limiter.entry(key).is_some()
    }

    #[cfg(all(test, shuttle))]
    pub(crate) fn is_unowed(&self) -> bool {
        lock(&self.state).limiter.is_unowed()
    }
}

impl Backend for Shared {
    type Place = Key;
    type Refuser = Common;
    type Handle = RateHandle;
    type Plan = Config;

    fn build(config: &Config) -> Self {
        Self::new(Arc::new(Common::new(config.clone())))
    }

    fn handle(this: &Arc<Self>) -> RateHandle {
        RateHandle(Arc::clone(this))
    }

    #[inline]
    fn admit(this: &Arc<Self>, cost: NonZeroU32) -> Admission<Self> {
        let now = this.now();
        if this.pass(now, cost) { Admission::Pass } else { this.judge(now, cost) }
    }

    fn poll_served(
        this: &Arc<Self>,
        cost: NonZeroU32,
        bounded: bool,
        place: &mut Option<Key>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Rejected>> {
        let now = this.now();
        // The waker is cloned before the lock, because that may run foreign code.
        let from = (Handle::try_current().ok(), cx.waker().clone());
        match *place {
            None => this.enter(now, cost, bounded, from, place),
            Some(key) => this.turn(now, key, from),
        }
    }

    fn leave(this: &Arc<Self>, key: Key, cost: NonZeroU32) {
        this.leave(this.now(), key, cost);
    }

    fn refuse(&self, reason: Reason) -> Rejected {
        self.common.refuse(reason)
    }

    fn give_back(this: &Arc<Self>, cost: NonZeroU32) {
        if this.common.is_enabled() {
            this.adjust(this.now(), -i64::from(cost.get()));
        }
    }
}
