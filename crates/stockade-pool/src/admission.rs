//! Whether there is a place for one more job, and what becomes of it if there is none.
//!
//! There is room for as many jobs as the queue holds plus the workers that could take one at once. A place counts from
//! when a job is queued, or a handle is ready to be called, until the job has ended. Places are given in the order in
//! which they were asked for, so nobody slips in before those who wait in line.

use std::time::Duration;

use stockade_core::Reason;
use tokio::time::Instant;

use crate::queue::{Queue, Tag};

/// What the queue of a pool may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission {
    /// How many jobs may be queued while all workers are busy.
    pub(crate) capacity: usize,
    /// What they may weigh together.
    pub(crate) budget: Option<u64>,
    /// How many may wait for a place.
    pub(crate) max_waiting: usize,
    pub(crate) when_full: WhenFull,
    /// How long a job may wait until it is started.
    pub(crate) max_wait: Option<Duration>,
}

/// What becomes of a job that is submitted when there is no place for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhenFull {
    /// It waits for a place, in line with others.
    #[default]
    Wait,
    /// It is refused with [`Reason::QueueFull`](stockade_core::Reason::QueueFull).
    Refuse,
    /// It takes the place of the job that was queued first, which ends with
    /// [`Reason::Shed`](stockade_core::Reason::Shed). While nothing is queued, the new one is refused.
    DropOldest,
}

/// What becomes of a job that wants a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Admit,
    Wait,
    Refuse(Reason),
    /// The job that was queued first makes room.
    DropOldest,
}

// === impl Admission ===

impl Admission {
    /// Whether there is a place for a job, or for a handle that does not know its job yet, when `takers` workers could
    /// take one at once.
    #[inline(always)]
    pub(crate) fn verdict<Req, T, E>(
        &self,
        queue: &Queue<Req, T, E>,
        takers: usize,
        tag: Tag,
    ) -> Verdict {
        let free = queue.is_line_free()
            && self.has_room(queue, takers, tag.weight)
            && queue.has_room_for(tag);
        if free && self.max_wait.is_none() {
            return Verdict::Admit;
        }
        self.verdict_otherwise(queue, free)
    }

    /// Whether there is a place for a job of this weight, whoever waits in line for it.
    #[inline]
    pub(crate) fn has_room<Req, T, E>(
        &self,
        queue: &Queue<Req, T, E>,
        takers: usize,
        weight: u64,
    ) -> bool {
        let most = self.capacity.saturating_add(takers);
        queue.len() + queue.held < most && self.fits(queue, weight)
    }

    fn verdict_otherwise<Req, T, E>(&self, queue: &Queue<Req, T, E>, free: bool) -> Verdict {
        if self.is_standing(queue) {
            return Verdict::Refuse(Reason::Shed);
        }
        match self.when_full {
            _ if free => Verdict::Admit,
            WhenFull::Wait if queue.waiting() < self.max_waiting => Verdict::Wait,
            WhenFull::DropOldest if !queue.is_empty() => Verdict::DropOldest,
            _ => Verdict::Refuse(Reason::QueueFull),
        }
    }

    /// Whether a job that was submitted then has waited for too long.
    #[inline]
    pub(crate) fn is_late(&self, since: Option<Instant>) -> bool {
        self.max_wait.zip(since).is_some_and(|(limit, since)| since.elapsed() > limit)
    }

    /// Whether a job of this weight fits into the budget; one that never does is let in alone.
    #[inline]
    fn fits<Req, T, E>(&self, queue: &Queue<Req, T, E>, weight: u64) -> bool {
        let Some(budget) = self.budget else { return true };
        let all = queue.weight() + queue.held as u128 + u128::from(weight);
        all <= u128::from(budget) || (queue.is_empty() && queue.held == 0)
    }

    /// Whether jobs wait for so long that a new one had better not wait at all: the first in the queue has waited for
    /// half of what it may. Refusing at half keeps those that are served well below the limit.
    fn is_standing<Req, T, E>(&self, queue: &Queue<Req, T, E>) -> bool {
        let Some(limit) = self.max_wait.filter(|_| queue.is_fifo()) else { return false };
        let in_line = queue.first_in_line().and_then(|(_, since, _)| since);
        let oldest = queue.oldest().or(in_line);
        oldest.is_some_and(|since| since.elapsed() > limit / 2)
    }
}
