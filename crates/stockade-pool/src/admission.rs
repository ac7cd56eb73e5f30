//! Whether there is a place for one more job, and what becomes of it if there is none.
//!
//! There is room for as many jobs as the queue holds plus the workers that could take one at once. A place counts from
//! when a job is queued, or a handle is ready to be called, until the job has ended. Places are given in the order in
//! which they were asked for, so nobody slips in before those who wait in line.

use stockade_core::{Reason, Rejected};

use crate::{
    config::{Checked, WhenFull},
    in_flight::InFlight,
    locked::Core,
    queue::Tag,
    roster::Size,
};

/// What becomes of a job that wants a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Admit,
    Wait,
    Refuse(Reason),
    /// The job that was queued first makes room.
    DropOldest,
}

// === impl Core ===

impl<Req, T, E> Core<Req, T, E> {
    /// Whether there is a place for this job, or for a handle that does not know its job yet.
    #[inline(always)]
    pub(crate) fn verdict(&self, tag: Tag, held: bool, inside: bool) -> Verdict {
        if self.closed || inside {
            return self.verdict_inside(tag, held);
        }
        match held {
            true if self.queue.has_room_for(tag) => Verdict::Admit,
            true => Verdict::Wait,
            false => {
                let free = self.queue.is_line_free()
                    && self.has_room(tag.weight)
                    && self.queue.has_room_for(tag);
                match free && self.config.max_wait.is_none() {
                    true => Verdict::Admit,
                    false => self.verdict_otherwise(free),
                }
            }
        }
    }

    fn verdict_otherwise(&self, free: bool) -> Verdict {
        if self.is_standing() {
            return Verdict::Refuse(Reason::Shed);
        }
        let Checked { when_full, max_waiting, .. } = self.config;
        match when_full {
            _ if free => Verdict::Admit,
            WhenFull::Wait if self.queue.waiting() < max_waiting => Verdict::Wait,
            WhenFull::DropOldest if !self.queue.is_empty() => Verdict::DropOldest,
            _ => Verdict::Refuse(Reason::QueueFull),
        }
    }

    /// Of a pool that is closed, or from inside one of its jobs: there it must not wait, because it might wait for
    /// itself, and it needs a worker that is free.
    #[cold]
    fn verdict_inside(&self, tag: Tag, held: bool) -> Verdict {
        if self.closed {
            return Verdict::Refuse(Reason::PoolClosed);
        }
        let claimed = self.queue.len() + self.queue.held - usize::from(held);
        let behind = self.queue.is_behind(tag);
        let max = if self.per_job { self.roster.size.max } else { 0 };
        let growth = max.saturating_sub(self.roster.alive());
        let free = if self.paused { 0 } else { self.roster.available() + growth };
        match claimed < free && !behind && self.queue.is_line_free() {
            true => Verdict::Admit,
            false => Verdict::Refuse(Reason::QueueFull),
        }
    }

    /// How many jobs would be taken out of the queue at once. Workers that are starting count, so that a new pool
    /// accepts what it can hold.
    pub(crate) fn takers(&self) -> usize {
        if self.paused {
            return 0;
        }
        let Size { max, .. } = self.roster.size;
        let workers = if self.per_job { max } else { max.min(self.roster.alive()) };
        workers.saturating_sub(self.counts.running)
    }

    /// Whether there is a place for a job of this weight, although others may wait in line for it. One that is heavier than the budget
    /// is let in alone.
    fn has_room(&self, weight: u64) -> bool {
        let (Checked { capacity, budget, .. }, queue) = (&self.config, &self.queue);
        if queue.len() + queue.held >= capacity.saturating_add(self.takers()) {
            return false;
        }
        let Some(budget) = *budget else { return true };
        let all = queue.weight + queue.held as u128 + u128::from(weight);
        all <= u128::from(budget) || (queue.is_empty() && queue.held == 0)
    }

    /// Whether jobs wait for so long that a new one had better not wait at all: the first in the queue has waited for
    /// half of what it may. Refusing at half keeps those that are served well below the limit.
    fn is_standing(&self) -> bool {
        let limit = self.config.max_wait.filter(|_| self.queue.is_fifo());
        let in_line = || self.queue.first_in_line().and_then(|(_, since, _)| since);
        let oldest = self.queue.oldest().or_else(in_line);
        limit.zip(oldest).is_some_and(|(limit, since)| since.elapsed() > limit / 2)
    }

    /// Gives the free places to those who wait.
    pub(crate) fn admit(&mut self) {
        if self.queue.waiting() > 0 && !self.closed {
            self.admit_line();
        }
    }

    #[cold]
    fn admit_line(&mut self) {
        while let Some((key, since, weight)) = self.queue.first_in_line() {
            if self.config.is_late(since) {
                self.refuse(key, Reason::WaitExceeded);
            } else if self.has_room(weight) {
                self.enter(key);
            } else {
                return;
            }
        }
    }

    /// Looks for jobs that give way to a new one for which there is no place, and ends them. Where it waits in line with
    /// others, one of those gives way.
    pub(crate) fn make_room(
        &mut self,
        new: Tag,
        (verdict, waits): (Verdict, bool),
        shed: Rejected,
        ended: &mut Vec<InFlight<Req, T, E>>,
    ) -> Verdict {
        let in_line = waits && self.config.when_full == WhenFull::Wait;
        if in_line && self.queue.waiting() > 0 {
            let Some(last) = self.queue.give_way(new, true) else { return verdict };
            self.refuse(last, Reason::Shed);
            return Verdict::Wait;
        }
        loop {
            let last = match self.queue.give_way(new, false) {
                None if verdict == Verdict::DropOldest => self.queue.oldest_like(new),
                last => last,
            };
            let Some((key, job)) = last.and_then(|key| Some((key, self.queue.take_out(key)?)))
            else {
                return Verdict::Refuse(Reason::QueueFull);
            };
            ended.push(self.end_unstarted(key, job, shed));
            if self.has_room(new.weight) {
                return Verdict::Admit;
            }
        }
    }
}
