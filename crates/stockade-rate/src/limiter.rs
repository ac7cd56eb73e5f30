//! Which calls get tokens, which wait and which are refused: the queue of one bucket, with the time passed in.
//!
//! Calls get their tokens in FIFO order: the tokens of the call at the head gather while all others wait behind it. Where
//! there is a reserve, critical calls overtake the others, and may take more tokens than the bucket holds for these.
//! [`serve`](Limiter::serve) gives tokens to every call that is due, so it makes no difference what triggers it. Each wait
//! is known beforehand: it is what the call and those ahead of it cost, times the period.

use std::{
    cell::Cell,
    collections::BTreeSet,
    num::NonZeroU32,
    task::{Poll, Waker},
    time::Duration,
};

use governor::{Quota, nanos::Nanos};
use stockade_core::{
    Name, Reason, Rejected, deadline,
    internal::{
        Key, Queue, Refusals, Refuser,
        sync::atomic::{AtomicBool, Ordering},
    },
    priority::{self, Priority},
};
use tokio::time::Instant;

use crate::{Config, alarm::RuntimeId, backend::Bounds, bucket::Bucket};

/// What all buckets of one layer share: one, or one for each key.
#[derive(Debug)]
pub struct Common {
    pub(crate) config: Config,
    pub(crate) quota: Quota,
    name: Option<&'static str>,
    /// When the instants of the buckets begin.
    start: Instant,
    // It pairs with nothing.
    enabled: AtomicBool,
    pub(crate) refusals: Refusals,
}

/// What is under the lock of a bucket.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    queue: Queue<Entry>,
    /// The sum of what those in the queue cost.
    owed: u64,
    /// Those in the queue that may take the reserve, and the sum of what they cost.
    critical: BTreeSet<Key>,
    critical_owed: u64,
    /// The bucket in place of the first one, once the rate has been changed.
    changed: Option<Bucket>,
    /// The rate that was set last.
    rate: Option<(u32, Duration)>,
    /// The end of the last penalty.
    not_before: Nanos,
    /// The calls that left the queue without tokens, because the burst fell below what they cost.
    too_costly: BTreeSet<Key>,
}

/// When a call comes, to which bucket, and whether it may take the reserve.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    first: &'a Bucket,
    config: &'a Config,
    now: Nanos,
    is_critical: bool,
}

/// A call in the queue.
pub(crate) struct Entry {
    pub(crate) cost: NonZeroU32,
    is_critical: bool,
    /// The runtime on which it was last polled, unless that has ended since.
    pub(crate) runtime: Cell<Option<RuntimeId>>,
    /// Taken when it is woken.
    pub(crate) waker: Cell<Option<Waker>>,
}

// === impl Common ===

impl Common {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            quota: config.quota(),
            name: Name::known(config.name.as_ref()),
            config,
            start: Instant::now(),
            enabled: AtomicBool::new(true),
            refusals: Refusals::default(),
        }
    }

    /// The time on tokio's clock, which a test may have paused.
    #[inline]
    pub(crate) fn now(&self) -> Nanos {
        let since = self.start.elapsed().as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX / 2).into()
    }

    pub(crate) fn instant(&self, at: Nanos) -> Instant {
        deadline::saturating_add(self.start, at.into())
    }

    /// The call that is made here comes now.
    pub(crate) fn at<'a>(&'a self, first: &'a Bucket, now: Nanos) -> At<'a> {
        let is_critical = self.config.reserve > 0 && priority::current() == Priority::Critical;
        At { first, config: &self.config, now, is_critical }
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    pub(crate) fn enable(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::Relaxed);
    }

    /// A refusal, which is counted.
    pub(crate) fn refuse(&self, reason: Reason) -> Rejected {
        self.refusals.count(reason);
        self.rejected(reason)
    }

    /// Whether a call that found no token at once passes after all, or is refused; otherwise it waits.
    pub(crate) fn judge(
        &self,
        limiter: &Limiter,
        at: At<'_>,
        cost: NonZeroU32,
        bounds: Bounds,
    ) -> Poll<Result<(), Rejected>> {
        if self.passes(limiter, at, cost) {
            return Poll::Ready(Ok(()));
        }
        if cost > limiter.most(at) {
            return Poll::Ready(Err(self.refuse(Reason::TooCostly)));
        }
        let after = |tokens| limiter.after(at, tokens);
        let wait = after(limiter.ahead(at).saturating_add(cost.get().into()));
        let left = deadline::current().map(|end| end.saturating_duration_since(Instant::now()));
        // A place becomes free with the tokens of the head.
        let place = || limiter.head().map_or(wait, after);
        match bounds.judge(limiter.len(), wait, left, place) {
            Ok(()) => Poll::Pending,
            Err((reason, after)) => Poll::Ready(Err(self.refuse(reason).with_retry_after(after))),
        }
    }

    /// Whether a call passes at once.
    pub(crate) fn passes(&self, limiter: &Limiter, at: At<'_>, cost: NonZeroU32) -> bool {
        !self.is_enabled() || limiter.pass(at, cost)
    }
}

impl Refuser for Common {
    fn rejected(&self, reason: Reason) -> Rejected {
        Rejected::new(&"rate", reason).with_name(self.name)
    }
}

// === impl Limiter ===

impl Limiter {
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing is remembered of any call.
    pub(crate) fn is_unused(&self, now: Nanos) -> bool {
        self.queue.is_empty() && self.changed.is_none() && self.not_before <= now
    }

    pub(crate) fn bucket<'a>(&'a self, first: &'a Bucket) -> &'a Bucket {
        self.changed.as_ref().unwrap_or(first)
    }

    /// What the head of the queue costs.
    fn head(&self) -> Option<u64> {
        self.queue.front().map(|head| head.cost.get().into())
    }

    /// Takes the tokens for a call, if they are there and nobody is ahead of it.
    fn pass(&self, at: At<'_>, cost: NonZeroU32) -> bool {
        let bucket = self.bucket(at.first);
        self.ahead(at) == 0 && bucket.take_deep(at.now, cost, self.deep(at)).is_ok()
    }

    /// What those cost who are ahead of a call. One that may take the reserve overtakes those that may not.
    fn ahead(&self, at: At<'_>) -> u64 {
        if at.is_critical { self.critical_owed } else { self.owed }
    }

    /// How many tokens more than others a call may take. During a penalty there is no reserve.
    fn deep(&self, at: At<'_>) -> u32 {
        if self.not_before <= at.now { self.reserved(at) } else { 0 }
    }

    fn reserved(&self, at: At<'_>) -> u32 {
        if at.is_critical { at.config.reserved(self.rate(at.config).0) } else { 0 }
    }

    /// The most that a call may cost.
    fn most(&self, at: At<'_>) -> NonZeroU32 {
        self.bucket(at.first).burst().saturating_add(self.reserved(at))
    }

    /// After what time the last of so many tokens will be there.
    fn after(&self, at: At<'_>, tokens: u64) -> Duration {
        let due = self.bucket(at.first).due(at.now, tokens, self.deep(at));
        due.saturating_sub(at.now).into()
    }

    /// The tokens that are there for a call that comes now.
    pub(crate) fn available(&self, first: &Bucket, now: Nanos) -> u32 {
        if self.queue.is_empty() { self.bucket(first).available(now) } else { 0 }
    }

    pub(crate) fn enter(
        &mut self,
        at: At<'_>,
        cost: NonZeroU32,
        runtime: RuntimeId,
        waker: Waker,
    ) -> Key {
        self.owed += u64::from(cost.get());
        let (runtime, waker) = (Cell::new(Some(runtime)), Cell::new(Some(waker)));
        let is_critical = at.is_critical;
        let key = self.queue.push_back(Entry { cost, is_critical, runtime, waker });
        if is_critical {
            self.critical_owed += u64::from(cost.get());
            self.critical.insert(key);
        }
        key
    }

    pub(crate) fn entry(&mut self, key: Key) -> Option<&mut Entry> {
        self.queue.get_mut(key)
    }

    /// Gives tokens to all calls that are due, in their order, and takes them out of the queue. Returns when the next
    /// call is due.
    pub(crate) fn serve(
        &mut self,
        at: At<'_>,
        enabled: bool,
        served: &mut Vec<Entry>,
    ) -> Option<Nanos> {
        loop {
            let key = self.critical.first().copied().or_else(|| self.queue.front_key())?;
            let Entry { cost, is_critical, .. } = *self.queue.get(key)?;
            let at = At { is_critical, ..at };
            let bucket = self.bucket(at.first);
            if enabled && cost > self.most(at) {
                self.too_costly.insert(key);
            } else if enabled && let Err(due) = bucket.take_due(at.now, cost, self.deep(at)) {
                // With the end of a penalty the reserve is there again.
                let ends = is_critical && self.not_before > at.now;
                return Some(if ends { due.min(self.not_before) } else { due });
            }
            served.extend(self.remove(key));
        }
    }

    /// What has become of the call that entered with this key.
    pub(crate) fn turn(&mut self, key: Key) -> Poll<Result<(), Reason>> {
        if self.queue.get(key).is_some() {
            Poll::Pending
        } else if self.too_costly.remove(&key) {
            Poll::Ready(Err(Reason::TooCostly))
        } else {
            Poll::Ready(Ok(()))
        }
    }

    /// Takes a call out of the queue, if it is there.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Entry> {
        let entry = self.queue.remove(key)?;
        self.owed -= u64::from(entry.cost.get());
        if entry.is_critical {
            self.critical_owed -= u64::from(entry.cost.get());
            self.critical.remove(&key);
        }
        Some(entry)
    }

    /// This runtime has ended. Returns the wakers of the calls that were last polled on it.
    pub(crate) fn lose(&self, runtime: RuntimeId) -> Vec<Waker> {
        let there = self.queue.iter().filter(|entry| entry.runtime.get() == Some(runtime));
        there
            .inspect(|entry| entry.runtime.set(None))
            .filter_map(|entry| entry.waker.take())
            .collect()
    }

    /// Goes on with another quota, and with the tokens that are there.
    ///
    /// The first bucket is closed as long as another one is in its place, because calls that pass ask it without the
    /// lock.
    pub(crate) fn set_quota(&mut self, first: &Bucket, now: Nanos, quota: Quota) {
        let old = self.bucket(first);
        if old.quota() == quota {
            return;
        }
        let level = old.close(now);
        self.changed = (first.quota() != quota).then(|| Bucket::new(quota));
        self.bucket(first).open(level);
        self.keep_penalty(first, now);
    }

    pub(crate) fn remember_rate(&mut self, calls: u32, per: Duration) {
        self.rate = Some((calls, per));
    }

    pub(crate) fn rate(&self, config: &Config) -> (u32, Duration) {
        self.rate.unwrap_or((config.calls, config.per))
    }

    pub(crate) fn penalize(&mut self, first: &Bucket, until: Nanos) {
        self.not_before = self.not_before.max(until);
        self.bucket(first).penalize(until);
    }

    /// Takes tokens back. They do not end a penalty.
    pub(crate) fn give_back(&mut self, first: &Bucket, now: Nanos, tokens: u64) {
        self.bucket(first).give_back(tokens);
        self.keep_penalty(first, now);
    }

    fn keep_penalty(&self, first: &Bucket, now: Nanos) {
        if self.not_before > now {
            self.bucket(first).penalize(self.not_before);
        }
    }

    /// Whether nothing is counted for anybody.
    #[cfg(all(test, shuttle))]
    pub(crate) fn is_unowed(&self) -> bool {
        self.owed == 0 && self.critical.is_empty() && self.too_costly.is_empty()
    }
}
