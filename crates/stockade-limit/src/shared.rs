//! What all clones of a limit share.

use std::{sync::Arc, time::Duration};

use stockade_core::{
    Reason, Rejected, Share, deadline,
    internal::{
        Refusals, Refuser,
        sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};
use tokio::time::Instant;

use crate::{
    Config,
    discipline::Discipline,
    permit::{Permit, Place, Waiter},
    semaphore::Semaphore,
};

#[derive(Debug)]
pub struct Shared {
    /// Not counted: a call that runs keeps its place in the semaphore, and nothing of the rest.
    pub(crate) semaphore: &'static Semaphore,
    pub(crate) discipline: Discipline,
    /// How many may wait. It orders nothing, as little as the next one does.
    queue: AtomicU32,
    /// How long one may wait, in nanoseconds, or [`NO_LIMIT`].
    max_wait: AtomicU64,
    pub(crate) name: Option<&'static str>,
    pub(crate) refusals: Refusals,
}

/// No wait that can be set is as long.
const NO_LIMIT: u64 = u64::MAX;

/// Ten years, the longest wait, fit.
fn nanos(wait: Option<Duration>) -> u64 {
    wait.and_then(|wait| u64::try_from(wait.as_nanos()).ok()).unwrap_or(NO_LIMIT)
}

// === impl Shared ===

impl Shared {
    /// With the maximum `max` and this order, and all else as in `config`, which was checked.
    pub(crate) fn new(config: &Config, max: u32, discipline: Discipline) -> Arc<Self> {
        let name = config.name.clone().and_then(|name| name.check("LimitLayer::name").ok());
        Arc::new(Self {
            semaphore: Semaphore::take(max, discipline),
            discipline,
            queue: AtomicU32::new(config.queue as u32),
            max_wait: AtomicU64::new(nanos(config.max_wait)),
            name,
            refusals: Refusals::default(),
        })
    }

    pub(crate) fn queue(&self) -> u32 {
        self.queue.load(Relaxed)
    }

    pub(crate) fn set_queue(&self, queue: u32) {
        self.queue.store(queue, Relaxed);
    }

    pub(crate) fn max_wait(&self) -> Option<Duration> {
        let nanos = self.max_wait.load(Relaxed);
        (nanos != NO_LIMIT).then(|| Duration::from_nanos(nanos))
    }

    pub(crate) fn set_max_wait(&self, max_wait: Option<Duration>) {
        self.max_wait.store(nanos(max_wait), Relaxed);
    }

    /// A permit, if there is one at once for a call of the class that is set here.
    pub(crate) fn try_acquire(&self) -> Option<Permit> {
        match self.discipline {
            Discipline::Capped => Permit::try_new_as(self.semaphore, self.share(None).flow()),
            _ => Permit::try_new(self.semaphore),
        }
    }

    /// The share of a call whose request says `asked`.
    fn share(&self, asked: Option<Share>) -> Share {
        self.discipline.share(asked)
    }

    /// Joins the queue of a call that has found no place.
    pub(crate) fn join(self: &Arc<Self>, asked: Option<Share>) -> Result<Waiter, Rejected> {
        if deadline::has_passed() {
            return Err(self.refuse(Reason::Expired));
        }
        match self.max_wait() {
            Some(Duration::ZERO) => self.enter(0, None, asked).map_err(|reason| match reason {
                Reason::QueueFull => Reason::WaitExceeded,
                closed => closed,
            }),
            wait => {
                let until = wait.map(|wait| deadline::saturating_add(Instant::now(), wait));
                self.enter(self.queue(), until, asked)
            }
        }
        .map_err(|reason| self.refuse(reason))
    }

    /// Enters, or joins the queue if fewer than `capacity` wait there.
    pub(crate) fn enter(
        self: &Arc<Self>,
        capacity: u32,
        until: Option<Instant>,
        asked: Option<Share>,
    ) -> Result<Waiter, Reason> {
        let key = self.semaphore.enter_or_queue(capacity, self.share(asked))?;
        Ok(Waiter::new(self, key.map_or(Place::Entered, Place::Queued), until))
    }

    /// A refusal, which is counted.
    pub(crate) fn refuse(&self, reason: Reason) -> Rejected {
        self.refusals.count(reason);
        self.rejected(reason)
    }
}

impl Refuser for Shared {
    fn rejected(&self, reason: Reason) -> Rejected {
        Rejected::new(&"limit", reason).with_name(self.name)
    }
}

/// Nobody waits any more, because a waiter keeps this. Calls in flight may leave later.
impl Drop for Shared {
    fn drop(&mut self) {
        self.semaphore.give_back();
    }
}
