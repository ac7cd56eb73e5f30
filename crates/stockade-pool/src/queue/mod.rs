//! The jobs of a pool: who waits for a place, what is queued and which is next, what runs, what is answered.
//!
//! A job keeps one key from when it is submitted until its answer is read. Everything here happens under the lock of
//! the pool, so nothing of the user's runs here: what has to be dropped or woken is returned. The queue knows neither
//! the workers nor how many jobs there may be.

mod affinity;
mod callers;
mod line;
mod order;
mod record;
mod slab;

use std::{task::Waker, time::Duration};

use stockade_core::{Reason, Rejected, priority::Priority};
use tokio::time::Instant;

pub use order::Order;
pub(crate) use record::{Carried, Details, Extra, Left, New, Owner, Seen, Tag, Taken};
pub(crate) use slab::Key;

use crate::{config::OrderBy, span::Span};
use line::{Discipline, Line, any};
use record::{Record, State};
use slab::Slab;

/// The jobs of a pool.
pub(crate) struct Queue<Req, T, E> {
    records: Slab<Record<Req, T, E>>,
    queued: Line,
    /// Those who wait for a place in the queue.
    waiting: Line,
    /// How many places are held for jobs that are about to come.
    pub(crate) held: usize,
    /// What the queued jobs weigh together. Wide enough that it never overflows.
    pub(crate) weight: u128,
}

/// In place of the number of a worker, where a job is answered without one.
pub(crate) const NO_WORKER: usize = usize::MAX;

// === impl Queue ===

impl<Req, T, E> Queue<Req, T, E> {
    /// A queue for usually so many jobs, of which `per_key` have the same key.
    pub(crate) fn new(order_by: OrderBy, per_key: usize, usual: usize) -> Self {
        Self {
            records: Slab::new(usual),
            queued: Line::of_queued(order_by, per_key),
            waiting: Line::of_waiting(order_by),
            held: 0,
            weight: 0,
        }
    }

    /// How many jobs are queued.
    pub(crate) fn len(&self) -> usize {
        self.queued.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queued.len() == 0
    }

    /// How many queued jobs could be taken at once, by as many workers.
    pub(crate) fn ready(&self) -> usize {
        match &self.queued.order {
            Discipline::Lanes(lanes) => lanes.ready(),
            _ => self.queued.len(),
        }
    }

    /// How many wait for a place.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits who could be given a place before a newcomer.
    pub(crate) fn is_line_free(&self) -> bool {
        self.waiting.len() == 0 || self.first_in_line().is_none()
    }

    pub(crate) fn is_fifo(&self) -> bool {
        self.queued.is_fifo()
    }

    /// Which job gives way to a new one in a full queue, or in a full line for it.
    pub(crate) fn give_way(&mut self, new: Tag, in_line: bool) -> Option<Key> {
        let line = if in_line { &mut self.waiting } else { &mut self.queued };
        match &mut line.order {
            Discipline::Fair(order) => order.give_way(new.share, any),
            _ => None,
        }
    }

    /// The job that was queued first of those that have the share of a new one, where jobs have shares.
    pub(crate) fn oldest_like(&self, new: Tag) -> Option<Key> {
        self.queued.next(&self.records, |flow| flow == new.share.flow())
    }

    /// Whether there may be one more job of this key.
    pub(crate) fn has_room_for(&self, tag: Tag) -> bool {
        has_room(&self.queued, tag.share.flow())
    }

    /// Whether a job of this key would wait for another one that is in the pool.
    pub(crate) fn is_behind(&self, tag: Tag) -> bool {
        match &self.queued.order {
            Discipline::Lanes(lanes) => lanes.is_taken(tag.share.flow()),
            _ => false,
        }
    }

    /// When the job that was queued first was submitted.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        let oldest = self.queued.oldest(&self.records)?;
        self.records.get(oldest)?.details.as_ref()?.since
    }

    /// Who has waited longest for a place.
    pub(crate) fn oldest_waiting(&self) -> Option<Key> {
        self.waiting.oldest(&self.records)
    }

    /// Who is first in line: since when it waits, and what its job weighs. Those whose key has no room are passed over.
    pub(crate) fn first_in_line(&self) -> Option<(Key, Option<Instant>, u64)> {
        let key = self.waiting.next(&self.records, |flow| has_room(&self.queued, flow))?;
        let record = self.records.get(key)?;
        Some((key, record.details.as_ref().and_then(|details| details.since), record.tag().weight))
    }

    /// A handle stands in line, to hold a place.
    pub(crate) fn wait_to_hold(&mut self, waker: Waker, since: Option<Instant>) -> Key {
        let (key, record) = self.records.claim();
        (record.state, record.owner) = (State::Waiting(None), Owner::Caller(Some(waker)));
        record.details = Some(Details { tag: Tag::HANDLE, since, ..Details::default() });
        self.waiting.push(&mut self.records, key, Tag::HANDLE);
        key
    }

    /// Queues a job.
    #[inline(always)]
    pub(crate) fn push(&mut self, new: New<Req>, owner: Owner) -> Key {
        let tag = new.tag();
        let (key, record) = self.records.claim();
        record.state = State::Queued(record.write(new, owner));
        self.enqueue(key, tag);
        key
    }

    /// Puts a job in line.
    pub(crate) fn wait(&mut self, new: New<Req>, owner: Owner) -> Key {
        let tag = new.tag();
        let (key, record) = self.records.claim();
        record.state = State::Waiting(Some(record.write(new, owner)));
        self.waiting.push(&mut self.records, key, tag);
        key
    }

    /// Gives a place to one who waits for it: a job is queued, a handle holds it. Returns whether it was a job, and who is
    /// to be told.
    pub(crate) fn admit(&mut self, key: Key) -> Option<(bool, Owner)> {
        let may = |flow| has_room(&self.queued, flow);
        if self.waiting.next(&self.records, may) == Some(key) {
            self.waiting.serve(&self.records, may);
        }
        let record = self.records.get_mut(key)?;
        let State::Waiting(request) = &mut record.state else { return None };
        let request = request.take();
        let (tag, told, is_job) = (record.tag(), record.owner.told(), request.is_some());
        record.state = request.map_or(State::Held, State::Queued);
        self.waiting.remove(&mut self.records, key, tag);
        match is_job {
            true => self.enqueue(key, tag),
            false => self.held += 1,
        }
        Some((is_job, told))
    }

    /// Refuses a place to one who waits for it. Returns its class if it is a job, and who is to be told.
    pub(crate) fn refuse(&mut self, key: Key, reason: Reason) -> Option<(Option<Priority>, Owner)> {
        let record = self.records.get_mut(key)?;
        let State::Waiting(request) = &mut record.state else { return None };
        let request = request.take();
        let priority = request.is_some().then_some(record.priority);
        record.state = State::Refused(request, reason);
        let (tag, told) = (record.tag(), record.owner.told());
        self.waiting.remove(&mut self.records, key, tag);
        Some((priority, told))
    }

    /// Gives the next job to a worker: the one that was queued first, if it is `overdue` and jobs have no keys.
    #[inline(always)]
    pub(crate) fn pop(
        &mut self,
        worker: usize,
        now: Option<Instant>,
        overdue: bool,
    ) -> Option<(Key, Taken<Req>)> {
        let by_key = matches!(self.queued.order, Discipline::Lanes(_));
        let key = match overdue && !by_key {
            true => self.queued.oldest(&self.records)?,
            false => self.queued.serve(&self.records, any)?,
        };
        Some((key, self.take(key, worker, now)?))
    }

    /// Ends a job that runs, with a result or with a refusal. If they are for a caller they are left where they are read.
    /// Returns who is to be told, and the copy of the request.
    #[inline(always)]
    pub(crate) fn end(
        &mut self,
        key: Key,
        result: &mut Option<Result<T, E>>,
        refusal: &mut Option<Rejected>,
        queued_for: Option<Duration>,
    ) -> (Owner, Option<Req>) {
        let Some(record) = self.records.get_mut(key) else { return (Owner::Nobody, None) };
        if let Discipline::Lanes(lanes) = &mut self.queued.order
            && !matches!(record.state, State::Running(NO_WORKER))
        {
            lanes.finish(record.tag().share.flow());
        }
        let kept = record.extra().and_then(|extra| extra.kept.take());
        if let Owner::Caller(waker) = &mut record.owner {
            let waker = waker.take();
            let reason = refusal.take().map(|rejected| rejected.reason());
            record.state = State::Ended(reason, queued_for);
            record.result = result.take();
            return (Owner::Caller(waker), kept);
        }
        let owner = std::mem::replace(&mut record.owner, Owner::Nobody);
        record.clear();
        self.records.release(key);
        (owner, kept)
    }

    /// Takes the job that was queued first out of the queue, to be answered without a worker.
    pub(crate) fn hand_back(&mut self) -> Option<(Key, Taken<Req>)> {
        let key = self.queued.oldest(&self.records)?;
        Some((key, self.take_out(key)?))
    }

    /// The same for one that its caller gives up, if it is still queued.
    pub(crate) fn take_out(&mut self, key: Key) -> Option<Taken<Req>> {
        let is_queued = matches!(self.records.get(key)?.state, State::Queued(_));
        is_queued.then(|| self.take(key, NO_WORKER, None)).flatten()
    }

    /// The jobs that run, each with its worker.
    pub(crate) fn running(&self) -> impl Iterator<Item = (Key, usize, Option<&Details<Req>>)> {
        self.records.iter().filter_map(|(key, record)| match record.state {
            State::Running(worker) => Some((key, worker, record.details.as_ref())),
            _ => None,
        })
    }

    fn enqueue(&mut self, key: Key, tag: Tag) {
        self.queued.push(&mut self.records, key, tag);
        self.weight += u128::from(tag.weight);
    }

    /// A job is queued no more.
    fn dequeue(&mut self, key: Key, tag: Tag) {
        self.queued.remove(&mut self.records, key, tag);
        self.weight -= u128::from(tag.weight);
    }

    /// Gives a queued job away.
    #[inline(always)]
    fn take(&mut self, key: Key, worker: usize, now: Option<Instant>) -> Option<Taken<Req>> {
        let record = self.records.get_mut(key)?;
        if !matches!(record.state, State::Queued(_)) {
            return None;
        }
        let State::Queued(request) = std::mem::replace(&mut record.state, State::Running(worker))
        else {
            return None;
        };
        let (tag, priority) = (record.tag(), record.priority);
        let (mut deadline, mut since, mut span, mut carried) = (None, None, Span::NONE, None);
        if record.details.is_some() || now.is_some() {
            let details = record.details.get_or_insert_default();
            deadline = details.deadline;
            since = std::mem::replace(&mut details.since, now);
            span = std::mem::replace(&mut details.span, Span::NONE);
            carried = details.extra.as_mut().and_then(|extra| extra.carried.take());
        }
        self.dequeue(key, tag);
        Some(Taken { request, priority, deadline, since, span, carried })
    }
}

/// Whether there may be one more job of this flow in the queue.
#[inline]
fn has_room(queued: &Line, flow: u64) -> bool {
    match &queued.order {
        Discipline::Lanes(lanes) => lanes.has_room(flow),
        _ => true,
    }
}
