//! The gate: who passes at once, who waits, and the one queue in which they wait.
//!
//! A bucket that many sleepers ask for tokens is asked by all of them at each token, and is won by whoever
//! happens to be first. Here only the head of the queue asks: it sleeps until its token is due, takes it,
//! leaves, and wakes the next head. So calls pass in the order in which they came, each is polled about
//! three times, and each wait is known beforehand: one's place in the queue times the period.
//!
//! A call takes its place when its future is first polled, because a place that nobody polls would hold
//! up all behind it. It gives the place back by a guard, [`Place`], whether it is served or dropped.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use governor::{Quota, nanos::Nanos};
use pin_project_lite::pin_project;
use stockade_core::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicUsize, Ordering},
};
use stockade_core::{Key, Queue, Reason, Rejected, deadline, lock};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{bucket::Bucket, clock::Clock};

/// What all services of a layer share.
#[derive(Debug)]
pub(crate) struct Gate {
    bucket: Bucket,
    clock: Clock,
    rules: Rules,
    /// The length of the queue, for those who pass without its lock. Stored under the lock, with release;
    /// the load in `pass` acquires, so that a call which comes after a waiter sees it and does not
    /// overtake it, and a call which sees nobody wait also sees the tokens that were taken meanwhile.
    waiting: AtomicUsize,
    queue: Mutex<Queue<Waker>>,
}

/// Who may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
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
enum Turn {
    /// Somebody is ahead, who will wake this one.
    Behind,
    /// It is the head, and its token is due after this time.
    Due(Duration),
    /// It has its token, and has left.
    Served,
}

// === impl Gate ===

impl Gate {
    pub(crate) fn new(quota: Quota, rules: Rules) -> Self {
        Self {
            bucket: Bucket::new(quota),
            clock: Clock::new(),
            rules,
            waiting: AtomicUsize::new(0),
            queue: Mutex::default(),
        }
    }

    /// A call comes: it passes if there is a token and nobody waits for it. If not, it was asked at this
    /// instant, for [`knock`](Self::knock).
    #[inline]
    pub(crate) fn pass(&self) -> Result<(), Nanos> {
        let now = self.clock.now();
        if self.waiting.load(Ordering::Acquire) == 0 && self.bucket.take(now).is_ok() {
            return Ok(());
        }
        Err(now)
    }

    /// A call that did not pass at once asks what to do.
    pub(crate) fn knock(&self, now: Nanos) -> Verdict<()> {
        self.judge(&lock(&self.queue), now)
    }

    /// The number of calls that would pass at once.
    pub(crate) fn available(&self) -> u32 {
        match self.waiting() {
            0 => self.bucket.available(self.clock.now()),
            _ => 0,
        }
    }

    /// The number of calls that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// A call that may wait does so.
    fn enter(&self, waker: &Waker) -> Verdict<Key> {
        let now = self.clock.now();
        let mut queue = lock(&self.queue);
        match self.judge(&queue, now) {
            Verdict::Pass => Verdict::Pass,
            Verdict::Refuse(rejected) => Verdict::Refuse(rejected),
            Verdict::Wait(()) => {
                let key = queue.push_back(waker.clone());
                self.waiting.store(queue.len(), Ordering::Release);
                Verdict::Wait(key)
            }
        }
    }

    fn judge(&self, queue: &Queue<Waker>, now: Nanos) -> Verdict<()> {
        let ahead = queue.len();
        if ahead == 0 && self.bucket.take(now).is_ok() {
            return Verdict::Pass;
        }
        let after = |due: Nanos| Duration::from(due.saturating_sub(now));
        let wait = after(self.bucket.due(now, ahead));
        let too_long = self.rules.max_wait.map_or(Duration::ZERO, |max| wait.saturating_sub(max));
        if ahead >= self.rules.queue {
            let full = if self.rules.queue == 0 { Reason::RateLimited } else { Reason::QueueFull };
            return self.refuse(full, after(self.bucket.due(now, 0)).max(too_long));
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
        let rejected = Rejected::new(&"rate", reason).with_name(self.rules.name);
        Verdict::Refuse(rejected.with_retry_after(retry_after))
    }

    /// One who waits asks whether it is its turn, and leaves the waker by which it is told.
    fn turn(&self, key: Key, waker: &Waker) -> Turn {
        let mut queue = lock(&self.queue);
        let old = match queue.get_mut(key) {
            Some(kept) if !kept.will_wake(waker) => Some(std::mem::replace(kept, waker.clone())),
            _ => None,
        };
        let turn = if queue.front_key() == Some(key) {
            let now = self.clock.now();
            match self.bucket.take_due(now) {
                Ok(()) => {
                    self.remove(queue, key);
                    Turn::Served
                }
                Err(due) => {
                    drop(queue);
                    Turn::Due(due.saturating_sub(now).into())
                }
            }
        } else {
            drop(queue);
            Turn::Behind
        };
        // A waker may run code of its own when it is dropped, so that comes after the lock.
        drop(old);
        turn
    }

    /// Takes one who waits out of the queue; if it was the head, the next one is woken.
    fn remove(&self, mut queue: MutexGuard<'_, Queue<Waker>>, key: Key) {
        let was_head = queue.front_key() == Some(key);
        let gone = queue.remove(key);
        self.waiting.store(queue.len(), Ordering::Release);
        let next = if was_head { queue.front().cloned() } else { None };
        drop(queue);
        drop(gone);
        if let Some(next) = next {
            next.wake();
        }
    }
}

// === Waiter ===

pin_project! {
    /// The wait of one call.
    #[derive(Debug)]
    pub(crate) struct Waiter {
        place: Place,
        // Only the head sleeps.
        #[pin]
        sleep: Option<Sleep>,
    }
}

/// A place in the queue, taken at the first poll.
#[derive(Debug)]
struct Place {
    gate: Arc<Gate>,
    key: Option<Key>,
}

impl Waiter {
    pub(crate) fn new(gate: Arc<Gate>) -> Self {
        Self { place: Place { gate, key: None }, sleep: None }
    }

    /// Ready when the call has its token, or is refused after all.
    pub(crate) fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Rejected>> {
        let mut this = self.project();
        let key = match this.place.key {
            Some(key) => key,
            None => match this.place.gate.enter(cx.waker()) {
                Verdict::Pass => return Poll::Ready(Ok(())),
                Verdict::Refuse(rejected) => return Poll::Ready(Err(rejected)),
                Verdict::Wait(key) => *this.place.key.insert(key),
            },
        };
        loop {
            if let Some(sleep) = this.sleep.as_mut().as_pin_mut() {
                ready!(sleep.poll(cx));
            }
            let due = match this.place.gate.turn(key, cx.waker()) {
                Turn::Behind => return Poll::Pending,
                Turn::Served => return Poll::Ready(Ok(())),
                Turn::Due(after) => deadline::saturating_add(Instant::now(), after),
            };
            match this.sleep.as_mut().as_pin_mut() {
                Some(sleep) => sleep.reset(due),
                None => this.sleep.set(Some(sleep_until(due))),
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.gate.remove(lock(&self.gate.queue), key);
        }
    }
}
