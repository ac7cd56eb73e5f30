//! What all clones of a limit share.

use std::{sync::Arc, time::Duration};

use stockade_core::{
    Reason, Rejected, Share, deadline,
    internal::{Refusals, Refuser},
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
    pub(crate) queue: u32,
    pub(crate) max_wait: Option<Duration>,
    pub(crate) name: Option<&'static str>,
    pub(crate) refusals: Refusals,
}

// === impl Shared ===

impl Shared {
    /// With the maximum `max` and this order, and all else as in `config`, which was checked.
    pub(crate) fn new(config: &Config, max: u32, discipline: Discipline) -> Arc<Self> {
        let name = config.name.clone().and_then(|name| name.check("LimitLayer::name").ok());
        Arc::new(Self {
            semaphore: Semaphore::take(max, discipline),
            discipline,
            queue: config.queue as u32,
            max_wait: config.max_wait,
            name,
            refusals: Refusals::default(),
        })
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
        match self.max_wait {
            Some(Duration::ZERO) => self.enter(0, None, asked).map_err(|reason| match reason {
                Reason::QueueFull => Reason::WaitExceeded,
                closed => closed,
            }),
            wait => {
                let until = wait.map(|wait| deadline::saturating_add(Instant::now(), wait));
                self.enter(self.queue, until, asked)
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
