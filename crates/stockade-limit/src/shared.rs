//! What all clones of a limit share.

use std::{sync::Arc, time::Duration};

use stockade_core::{
    Name, Reason, Rejected, Share, deadline,
    internal::{
        Refusals, Refuser, lock,
        sync::{Mutex, MutexGuard},
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
    bounds: Mutex<Bounds>,
    pub(crate) name: Option<&'static str>,
    pub(crate) refusals: Refusals,
}

/// How many calls may wait, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) queue: u32,
    pub(crate) max_wait: Option<Duration>,
}

// === impl Shared ===

impl Shared {
    /// With the maximum `max` and this order, and all else as in `config`, which was checked.
    pub(crate) fn new(config: &Config, max: u32, discipline: Discipline) -> Arc<Self> {
        Arc::new(Self {
            semaphore: Semaphore::take(max, discipline),
            discipline,
            bounds: Mutex::new(Bounds { queue: config.queue as u32, max_wait: config.max_wait }),
            name: Name::known(config.name.as_ref()),
            refusals: Refusals::default(),
        })
    }

    /// What holds for calls that begin to wait.
    pub(crate) fn bounds(&self) -> MutexGuard<'_, Bounds> {
        lock(&self.bounds)
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
        let Bounds { queue, max_wait } = *self.bounds();
        let waits = max_wait != Some(Duration::ZERO);
        let until = max_wait.map(|wait| deadline::saturating_add(Instant::now(), wait));
        self.enter(if waits { queue } else { 0 }, until, asked).map_err(|reason| match reason {
            Reason::QueueFull if !waits => self.refuse(Reason::WaitExceeded),
            reason => self.refuse(reason),
        })
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
