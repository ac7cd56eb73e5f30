//! Which calls get tokens, which wait and which are refused: the queue of one bucket, with the time passed in.
//!
//! Calls get their tokens in FIFO order: the tokens of the call at the head gather while all others wait behind it. Where
//! there is a reserve, critical calls overtake the others, and may take more tokens than the bucket holds for these.
//! [`serve`](Limiter::serve) gives tokens to every call that is due, so it makes no difference what triggers it. Each wait
//! is known beforehand: it is what the call and those ahead of it cost, times the period.

use std::{cell::Cell, collections::BTreeSet, num::NonZeroU32, task::Waker, time::Duration};

use governor::{Quota, nanos::Nanos};
use stockade_core::{
    Reason, Rejected, deadline,
    internal::{
        Key, Queue, Refusals, Refuser,
        sync::atomic::{AtomicBool, Ordering},
    },
    priority::{self, Priority},
};
use tokio::time::Instant;

use crate::{Config, alarm::RuntimeId, bucket::Bucket};

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
    refusals: Refusals,
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

/// A call in the queue.
pub(crate) struct Entry {
    pub(crate) cost: NonZeroU32,
    is_critical: bool,
    /// The runtime on which it was last polled, unless that has ended since.
    pub(crate) runtime: Cell<Option<RuntimeId>>,
    /// Taken when it is woken.
    pub(crate) waker: Cell<Option<Waker>>,
}

/// What a call that waits is told.
pub(crate) enum Turn {
    Waits,
    Served,
    TooCostly,
}

/// What a call that comes and is not refused is told.
pub(crate) enum Verdict {
    Pass,
    Wait,
}

// === impl Common ===

impl Common {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            quota: config.quota(),
            name: config.static_name(),
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

    /// Whether the call that is made here may take the reserve, if there is one.
    pub(crate) fn is_critical(&self) -> bool {
        self.config.reserve > 0 && priority::current() == Priority::Critical
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

    pub(crate) fn refused(&self, reason: Reason) -> u64 {
        self.refusals.get(reason)
    }

    pub(crate) fn refused_of(&self, priority: Priority) -> u64 {
        self.refusals.of(priority)
    }

    /// What becomes of a call that found no token at once.
    pub(crate) fn judge(
        &self,
        limiter: &Limiter,
        first: &Bucket,
        now: Nanos,
        cost: NonZeroU32,
    ) -> Result<Verdict, Rejected> {
        if !self.is_enabled() {
            return Ok(Verdict::Pass);
        }
        if cost > limiter.most(first, &self.config, self.is_critical()) {
            return Err(self.refuse(Reason::TooCostly));
        }
        let refuse = |(reason, after)| self.refuse(reason).with_retry_after(after);
        let wait = limiter.judge(first, self, now, cost).map_err(refuse)?;
        let Some(wait) = wait else { return Ok(Verdict::Pass) };
        let Some(deadline) = deadline::current() else { return Ok(Verdict::Wait) };
        let left = deadline.saturating_duration_since(Instant::now());
        match wait.checked_sub(left) {
            // What is due at the deadline is late, so it has to come earlier by more than the difference.
            Some(late) => Err(refuse((Reason::Expired, late + Duration::from_nanos(1)))),
            None => Ok(Verdict::Wait),
        }
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

    /// How long a call that comes has to wait, if it does not pass; or why it may not, and after what time it could.
    fn judge(
        &self,
        first: &Bucket,
        common: &Common,
        now: Nanos,
        cost: NonZeroU32,
    ) -> Result<Option<Duration>, (Reason, Duration)> {
        let (config, is_critical) = (&common.config, common.is_critical());
        let bucket = self.bucket(first);
        let head = self.queue.front();
        if self.pass(first, config, now, cost, is_critical) {
            return Ok(None);
        }
        let deep = self.deep(config, now, is_critical);
        let after = |tokens: u64| Duration::from(bucket.due(now, tokens, deep).saturating_sub(now));
        let cost = u64::from(cost.get());
        let wait = after(self.ahead(is_critical).saturating_add(cost));
        let too_long = config.max_wait.map_or(Duration::ZERO, |max| wait.saturating_sub(max));
        if self.queue.len() >= config.queue {
            let full = if config.queue == 0 { Reason::RateLimited } else { Reason::QueueFull };
            // A place becomes free with the head's tokens. Without any place, the wait is one's own.
            let place = head.map_or(cost, |head| head.cost.get().into());
            return Err((full, after(place).max(too_long)));
        }
        if too_long > Duration::ZERO {
            return Err((Reason::WaitExceeded, too_long));
        }
        Ok(Some(wait))
    }

    /// Takes the tokens for a call that comes now, if they are there and nobody is ahead of it.
    pub(crate) fn pass(
        &self,
        first: &Bucket,
        config: &Config,
        now: Nanos,
        cost: NonZeroU32,
        is_critical: bool,
    ) -> bool {
        let deep = self.deep(config, now, is_critical);
        self.ahead(is_critical) == 0 && self.bucket(first).take_deep(now, cost, deep).is_ok()
    }

    /// What those cost who are ahead of a call that comes now. One that may take the reserve overtakes those that may not.
    fn ahead(&self, is_critical: bool) -> u64 {
        if is_critical { self.critical_owed } else { self.owed }
    }

    /// How many tokens more than others a call may take. During a penalty there is no reserve.
    fn deep(&self, config: &Config, now: Nanos, is_critical: bool) -> u32 {
        if is_critical && self.not_before <= now { config.reserved(self.rate(config).0) } else { 0 }
    }

    /// The most that a call may cost.
    pub(crate) fn most(&self, first: &Bucket, config: &Config, is_critical: bool) -> NonZeroU32 {
        let reserved = if is_critical { config.reserved(self.rate(config).0) } else { 0 };
        self.bucket(first).burst().saturating_add(reserved)
    }

    /// After what time a call that comes now would get its tokens.
    pub(crate) fn wait(
        &self,
        first: &Bucket,
        config: &Config,
        now: Nanos,
        cost: NonZeroU32,
        is_critical: bool,
    ) -> Duration {
        let tokens = self.ahead(is_critical).saturating_add(cost.get().into());
        let due = self.bucket(first).due(now, tokens, self.deep(config, now, is_critical));
        due.saturating_sub(now).into()
    }

    /// The tokens that are there for a call that comes now.
    pub(crate) fn available(&self, first: &Bucket, now: Nanos) -> u32 {
        if self.queue.is_empty() { self.bucket(first).available(now) } else { 0 }
    }

    pub(crate) fn enter(
        &mut self,
        cost: NonZeroU32,
        is_critical: bool,
        runtime: RuntimeId,
        waker: Waker,
    ) -> Key {
        self.owed += u64::from(cost.get());
        let key = self.queue.push_back(Entry {
            cost,
            is_critical,
            runtime: Cell::new(Some(runtime)),
            waker: Cell::new(Some(waker)),
        });
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
        first: &Bucket,
        config: &Config,
        now: Nanos,
        enabled: bool,
        served: &mut Vec<Entry>,
    ) -> Option<Nanos> {
        loop {
            let key = self.critical.first().copied().or_else(|| self.queue.front_key())?;
            let Entry { cost, is_critical, .. } = *self.queue.get(key)?;
            let deep = self.deep(config, now, is_critical);
            if enabled && cost > self.most(first, config, is_critical) {
                self.too_costly.insert(key);
            } else if enabled && let Err(due) = self.bucket(first).take_due(now, cost, deep) {
                // With the end of a penalty the reserve is there again.
                let ends = is_critical && self.not_before > now;
                return Some(if ends { due.min(self.not_before) } else { due });
            }
            served.extend(self.remove(key));
        }
    }

    /// What has become of the call that entered with this key.
    pub(crate) fn turn(&mut self, key: Key) -> Turn {
        if self.queue.get(key).is_some() {
            Turn::Waits
        } else if self.too_costly.remove(&key) {
            Turn::TooCostly
        } else {
            Turn::Served
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
