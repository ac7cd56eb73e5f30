//! The gate: who passes at once, who waits, and the one queue in which they wait.
//!
//! A bucket that many sleepers ask for tokens is asked by all of them at each token, and is won by whoever
//! happens to be first. Here only the head of the queue asks: it sleeps until its token is due, takes it,
//! leaves, and wakes the next head. So calls pass in the order in which they came, each is polled about
//! three times, and each wait is known beforehand: what those ahead cost, and oneself, times the period.
//! Nobody takes a part of its tokens: a costly head lets them gather, while all others are behind it.
//!
//! A call takes its place when its future is first polled, because a place that nobody polls would hold
//! up all behind it. It gives the place back by a guard, the [`Waiter`], whether it is served or dropped.

use std::{num::NonZeroU32, sync::Arc, task::Waker, time::Duration};

use governor::{Quota, nanos::Nanos};
use stockade_core::internal::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicUsize, Ordering},
};
use stockade_core::{
    Reason, Rejected, deadline,
    internal::{Key, Queue, lock},
};
use tokio::time::Instant;

use crate::{bucket::Bucket, clock::Clock, waiter::Waiter};

/// What all services of a layer share.
///
/// Who passes at once does so by `bucket` alone, without a lock. When the [rate is
/// changed](Self::set_rate), that bucket is closed for ever (or until the old rate comes back), so that all
/// calls come to the lock, and with it to the bucket that is there.
#[derive(Debug)]
pub(crate) struct Gate {
    bucket: Bucket,
    clock: Clock,
    rules: Rules,
    /// The length of the queue, for those who pass without its lock. Stored under the lock, with release;
    /// the load in `pass` acquires, so that a call which comes after a waiter sees it and does not
    /// overtake it, and a call which sees nobody wait also sees the tokens that were taken meanwhile.
    waiting: AtomicUsize,
    /// How often the head was told to look again. Stored under the lock before the head is woken; the
    /// waker orders it.
    told: AtomicU32,
    line: Mutex<Line>,
}

/// What is under the lock.
#[derive(Debug, Default)]
struct Line {
    queue: Queue<Waiting>,
    /// The sum of what those in the queue cost.
    owed: u64,
    /// The bucket in place of the gate's own, if the rate is not the first.
    bucket: Option<Bucket>,
    /// The end of the last penalty.
    not_before: Nanos,
}

#[derive(Debug)]
struct Waiting {
    waker: Waker,
    cost: NonZeroU32,
}

/// Who may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// The burst, if it is not to follow the rate.
    pub(crate) burst: Option<NonZeroU32>,
    pub(crate) queue: usize,
    pub(crate) max_wait: Option<Duration>,
    pub(crate) name: Option<&'static str>,
}

/// What the gate says to a call.
pub(crate) enum Verdict<W> {
    Pass,
    Wait(W),
    Refuse(Rejected),
}

/// What the gate says to one who waits.
pub(crate) enum Turn {
    /// Somebody is ahead, who will wake this one.
    Behind,
    /// It is the head, its tokens are due after this time, and it has been told to look so often.
    Due(Duration, u32),
    /// It has its tokens, and has left.
    Served,
    /// It will never have its tokens, and has left.
    Refused(Rejected),
}

// === impl Gate ===

impl Gate {
    pub(crate) fn new(quota: Quota, rules: Rules, clock: Clock) -> Self {
        Self {
            bucket: Bucket::new(quota),
            clock,
            rules,
            waiting: AtomicUsize::new(0),
            told: AtomicU32::new(0),
            line: Mutex::default(),
        }
    }

    /// The present, as this gate counts it.
    #[inline]
    pub(crate) fn now(&self) -> Nanos {
        self.clock.now()
    }

    /// A call comes: it passes if there are tokens, one unless the cost is said, and nobody waits for
    /// them. If not, it was asked at this instant, for [`knock`](Self::knock).
    #[inline]
    pub(crate) fn pass(&self, now: Nanos, cost: Option<NonZeroU32>) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
            && match cost {
                None => self.bucket.take(now).is_ok(),
                Some(cost) => self.bucket.take_many(now, cost).is_ok(),
            }
    }

    /// A call that did not pass at once asks what to do.
    pub(crate) fn knock(self: &Arc<Self>, now: Nanos, cost: NonZeroU32) -> Verdict<Waiter> {
        match self.judge(&lock(&self.line), now, cost) {
            Verdict::Pass => Verdict::Pass,
            Verdict::Refuse(rejected) => Verdict::Refuse(rejected),
            Verdict::Wait(()) => Verdict::Wait(Waiter::new(Arc::clone(self), cost)),
        }
    }

    /// The number of calls that would pass at once.
    pub(crate) fn available(&self) -> u32 {
        let line = lock(&self.line);
        if line.queue.is_empty() { self.bucket(&line).available(self.now()) } else { 0 }
    }

    /// The number of calls that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Whether it is as if nobody had ever come: the first bucket is full, and nobody waits.
    pub(crate) fn is_idle(&self, now: Nanos) -> bool {
        self.waiting() == 0 && self.bucket.is_full(now)
    }

    /// A call that may wait does so.
    pub(crate) fn enter(&self, now: Nanos, cost: NonZeroU32, waker: &Waker) -> Verdict<Key> {
        let mut line = lock(&self.line);
        match self.judge(&line, now, cost) {
            Verdict::Pass => Verdict::Pass,
            Verdict::Refuse(rejected) => Verdict::Refuse(rejected),
            Verdict::Wait(()) => {
                let key = self.push(&mut line, cost, waker);
                Verdict::Wait(key)
            }
        }
    }

    /// One who waits in `poll_ready` takes its place, for one token, unless it gets it at once. No rule
    /// keeps it out, because it could only be told so by an error that its caller takes for the end.
    pub(crate) fn join(&self, now: Nanos, waker: &Waker) -> Option<Key> {
        let mut line = lock(&self.line);
        if line.queue.is_empty() && self.bucket(&line).take_many(now, NonZeroU32::MIN).is_ok() {
            return None;
        }
        Some(self.push(&mut line, NonZeroU32::MIN, waker))
    }

    fn push(&self, line: &mut Line, cost: NonZeroU32, waker: &Waker) -> Key {
        let key = line.queue.push_back(Waiting { waker: waker.clone(), cost });
        line.owed += u64::from(cost.get());
        self.waiting.store(line.queue.len(), Ordering::Release);
        key
    }

    /// Whether nothing is counted for anybody.
    #[cfg(all(test, shuttle))]
    pub(crate) fn is_unowed(&self) -> bool {
        lock(&self.line).owed == 0
    }

    fn bucket<'a>(&'a self, line: &'a Line) -> &'a Bucket {
        line.bucket.as_ref().unwrap_or(&self.bucket)
    }

    fn judge(&self, line: &Line, now: Nanos, cost: NonZeroU32) -> Verdict<()> {
        let bucket = self.bucket(line);
        if cost > bucket.burst() {
            return Verdict::Refuse(self.too_costly());
        }
        let head = line.queue.front();
        if head.is_none() && bucket.take_many(now, cost).is_ok() {
            return Verdict::Pass;
        }
        let after = |tokens: u64| Duration::from(bucket.due(now, tokens).saturating_sub(now));
        let cost = u64::from(cost.get());
        let wait = after(line.owed.saturating_add(cost));
        let too_long = self.rules.max_wait.map_or(Duration::ZERO, |max| wait.saturating_sub(max));
        if line.queue.len() >= self.rules.queue {
            let full = if self.rules.queue == 0 { Reason::RateLimited } else { Reason::QueueFull };
            // The place becomes free with the head's tokens; without any place, it is one's own.
            let first = head.map_or(cost, |head| head.cost.get().into());
            return self.refuse(full, after(first).max(too_long));
        }
        if too_long > Duration::ZERO {
            return self.refuse(Reason::WaitExceeded, too_long);
        }
        if let Some(deadline) = deadline::current() {
            let left = deadline.saturating_duration_since(Instant::now());
            if wait > left {
                return self.refuse(Reason::Expired, wait - left);
            }
        }
        Verdict::Wait(())
    }

    fn refuse(&self, reason: Reason, retry_after: Duration) -> Verdict<()> {
        Verdict::Refuse(self.rejected(reason).with_retry_after(retry_after))
    }

    /// The refusal of one who does not wait, behind those who do.
    pub(crate) fn turn_away(&self, now: Nanos) -> Rejected {
        let line = lock(&self.line);
        let due = self.bucket(&line).due(now, line.owed.saturating_add(1));
        self.rejected(Reason::RateLimited).with_retry_after(due.saturating_sub(now).into())
    }

    /// The refusal that says no time, because at no time would it be different.
    fn too_costly(&self) -> Rejected {
        self.rejected(Reason::TooCostly)
    }

    fn rejected(&self, reason: Reason) -> Rejected {
        Rejected::new(&"rate", reason).with_name(self.rules.name)
    }

    /// One who waits asks whether it is its turn, and leaves the waker by which it is told.
    pub(crate) fn turn(&self, key: Key, waker: &Waker, now: impl FnOnce() -> Nanos) -> Turn {
        let mut line = lock(&self.line);
        let (cost, old) = match line.queue.get_mut(key) {
            Some(kept) if kept.waker.will_wake(waker) => (kept.cost, None),
            Some(kept) => (kept.cost, Some(std::mem::replace(&mut kept.waker, waker.clone()))),
            None => return Turn::Served,
        };
        let turn = if line.queue.front_key() != Some(key) {
            drop(line);
            Turn::Behind
        } else if cost > self.bucket(&line).burst() {
            self.leave(line, key);
            Turn::Refused(self.too_costly())
        } else {
            let now = now();
            match self.bucket(&line).take_due(now, cost) {
                Ok(()) => {
                    self.leave(line, key);
                    Turn::Served
                }
                Err(due) => {
                    let told = self.told();
                    drop(line);
                    Turn::Due(due.saturating_sub(now).into(), told)
                }
            }
        };
        // A waker may run code of its own when it is dropped, so that comes after the lock.
        drop(old);
        turn
    }

    /// Takes one who waits out of the queue, if it is there; if it was the head, the next one is woken.
    pub(crate) fn remove(&self, key: Key) {
        self.leave(lock(&self.line), key);
    }

    fn leave(&self, mut line: MutexGuard<'_, Line>, key: Key) {
        let was_head = line.queue.front_key() == Some(key);
        let Some(gone) = line.queue.remove(key) else { return };
        line.owed -= u64::from(gone.cost.get());
        self.waiting.store(line.queue.len(), Ordering::Release);
        let next = if was_head { line.head() } else { None };
        drop(line);
        drop(gone);
        if let Some(next) = next {
            next.wake();
        }
    }

    /// How often the head was told to look again.
    pub(crate) fn told(&self) -> u32 {
        self.told.load(Ordering::Acquire)
    }

    /// The head looks again, although the instant it sleeps for has not come.
    fn tell(&self, line: MutexGuard<'_, Line>) {
        self.told.fetch_add(1, Ordering::Release);
        let head = line.head();
        drop(line);
        if let Some(head) = head {
            head.wake();
        }
    }

    /// Goes on with another quota, and with the tokens that are there.
    pub(crate) fn set_quota(&self, now: Nanos, quota: Quota) {
        let mut line = lock(&self.line);
        let old = self.bucket(&line);
        if old.quota() == quota {
            return;
        }
        let level = old.close(now);
        line.bucket = (self.bucket.quota() != quota).then(|| Bucket::new(quota));
        let new = self.bucket(&line);
        new.open(level);
        if line.not_before > now {
            new.penalize(line.not_before);
        }
        self.tell(line);
    }

    /// Gives no token before `until`.
    pub(crate) fn penalize(&self, until: Nanos) {
        let mut line = lock(&self.line);
        line.not_before = line.not_before.max(until);
        self.bucket(&line).penalize(until);
        self.tell(line);
    }

    /// Takes a token back that was not used.
    pub(crate) fn give_back(&self) {
        let line = lock(&self.line);
        let bucket = self.bucket(&line);
        bucket.give_back();
        if line.not_before > self.now() {
            bucket.penalize(line.not_before);
        }
        self.tell(line);
    }

    /// A gate like this one, with the rate it was made with, a full bucket and nobody who waits.
    pub(crate) fn afresh(&self) -> Self {
        Self::new(self.bucket.quota(), self.rules, self.clock.clone())
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }
}

// === impl Line ===

impl Line {
    /// The waker of the head.
    fn head(&self) -> Option<Waker> {
        self.queue.front().map(|head| head.waker.clone())
    }
}
