//! The jobs of a pool: who waits for a place, what is queued and which is next, what runs, what is answered.
//!
//! A job keeps one key from when it is submitted until its answer is read. Everything here happens under the lock of
//! the pool, so nothing of the user's runs here: what has to be dropped or woken is returned. The queue knows neither
//! the workers nor how many jobs there may be.

mod affinity;
mod callers;
mod discipline;
mod line;
mod order;
mod record;
mod slab;

use std::{num::NonZeroU64, task::Waker, time::Duration};

use stockade_core::{Reason, Rejected, priority::Priority};
use tokio::time::Instant;

pub use order::Order;
pub(crate) use record::{Carried, Details, Extra, Left, New, Owner, Seen, Tag, Taken};
pub(crate) use slab::Key;

use crate::{config::OrderBy, span::Span};
use discipline::{Discipline, any};
use line::Line;
use record::{Record, State};
use slab::{List, Slab};

/// The jobs of a pool.
pub(crate) struct Queue<Req, T, E> {
    records: Slab<Record<Req, T, E>>,
    /// The queued jobs, in the order in which they were queued.
    queued: List,
    /// Those who wait for a place in the queue.
    line: Line,
    discipline: Discipline,
    /// How many places are held for jobs that are about to come.
    pub(crate) held: usize,
    /// What the queued jobs weigh together. Wide enough that it never overflows.
    pub(crate) weight: u128,
}

/// In place of the number of a worker, where a job is answered without one.
const NO_WORKER: usize = usize::MAX;

// === impl Queue ===

impl<Req, T, E> Queue<Req, T, E> {
    /// A queue for usually so many jobs, of which `per_key` have the same key.
    pub(crate) fn new(order_by: OrderBy, per_key: usize, usual: usize) -> Self {
        Self {
            records: Slab::new(usual),
            queued: List::new(),
            line: Line::new(order_by),
            discipline: Discipline::new(order_by, per_key),
            held: 0,
            weight: 0,
        }
    }

    /// How many jobs are queued.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.queued.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.queued.len() == 0
    }

    /// How many queued jobs could be taken at once, by as many workers.
    #[inline]
    pub(crate) fn ready(&self) -> usize {
        match &self.discipline {
            Discipline::Lanes(lanes) => lanes.ready(),
            _ => self.queued.len(),
        }
    }

    /// How many wait for a place.
    #[inline]
    pub(crate) fn waiting(&self) -> usize {
        self.line.len()
    }

    /// Whether nobody waits who could be given a place before a newcomer.
    #[inline]
    pub(crate) fn is_line_free(&self) -> bool {
        self.line.len() == 0 || self.first_in_line().is_none()
    }

    pub(crate) fn is_fifo(&self) -> bool {
        matches!(self.discipline, Discipline::Fifo)
    }

    /// Whether jobs have shares, by which they wait for a place and give way to others.
    pub(crate) fn is_fair(&self) -> bool {
        matches!(self.discipline, Discipline::Fair(_))
    }

    /// Which job gives way to a new one in a full queue, or in a full line for it.
    pub(crate) fn give_way(&mut self, new: Tag, in_line: bool) -> Option<Key> {
        match (&mut self.discipline, &mut self.line) {
            (Discipline::Fair(_), Line::Fair(line)) if in_line => line.give_way(new.share, any),
            (Discipline::Fair(queued), _) => queued.give_way(new.share, any),
            _ => None,
        }
    }

    /// The job that was queued first of those that have the share of a new one, where jobs have shares.
    pub(crate) fn oldest_like(&self, new: Tag) -> Option<Key> {
        match &self.discipline {
            Discipline::Fair(queued) => queued.first(|flow| flow == new.share.flow()),
            _ => self.queued.front(&self.records),
        }
    }

    /// Whether there may be one more job of this key.
    #[inline]
    pub(crate) fn has_room_for(&self, tag: Tag) -> bool {
        self.discipline.has_room(tag.share.flow())
    }

    /// Whether a job of this key would wait for another one that is in the pool.
    pub(crate) fn is_behind(&self, tag: Tag) -> bool {
        match &self.discipline {
            Discipline::Lanes(lanes) => lanes.is_taken(tag.share.flow()),
            _ => false,
        }
    }

    /// When the job that was queued first was submitted.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.records.get(self.queued.front(&self.records)?)?.details()?.since
    }

    /// Who is first in line: since when it waits, and what its job weighs. Those whose key has no room are passed over.
    pub(crate) fn first_in_line(&self) -> Option<(Key, Option<Instant>, u64)> {
        let key = self.line.first(&self.records, |flow| self.discipline.has_room(flow))?;
        let record = self.records.get(key)?;
        Some((key, record.details().and_then(|details| details.since), record.tag().weight))
    }

    /// A handle stands in line, to hold a place.
    pub(crate) fn wait_to_hold(&mut self, waker: Waker, since: Option<Instant>) -> Key {
        let (key, record) = self.records.claim();
        (record.state, record.owner) = (State::Waiting(None), Owner::Caller(Some(waker)));
        let details = record.details_mut();
        (details.tag, details.since) = (Tag::HANDLE, since);
        self.line.push(&mut self.records, key, Tag::HANDLE.share);
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
        let share = new.tag().share;
        let (key, record) = self.records.claim();
        record.state = State::Waiting(Some(record.write(new, owner)));
        self.line.push(&mut self.records, key, share);
        key
    }

    /// Gives a place to the one who is first in line: a job is queued, a handle holds it. Returns whether it was a
    /// job, and whom to tell.
    pub(crate) fn admit(&mut self, key: Key) -> Option<(bool, Owner)> {
        let Self { line, records, discipline, .. } = self;
        line.serve(records, key, |flow| discipline.has_room(flow));
        let record = records.get_mut(key)?;
        let State::Waiting(request) = &mut record.state else { return None };
        let request = request.take();
        let tag = record.tag();
        let told = record.owner.told();
        match request {
            Some(request) => {
                record.state = State::Queued(request);
                self.enqueue(key, tag);
                Some((true, told))
            }
            None => {
                record.state = State::Held;
                self.held += 1;
                Some((false, told))
            }
        }
    }

    /// Refuses a place to one who waits for it. Returns its class if it is a job, and whom to tell.
    pub(crate) fn refuse(&mut self, key: Key, reason: Reason) -> Option<(Option<Priority>, Owner)> {
        let record = self.records.get_mut(key)?;
        let State::Waiting(request) = &mut record.state else { return None };
        let request = request.take();
        let priority = request.is_some().then_some(record.priority);
        record.state = State::Refused(request, reason);
        let told = record.owner.told();
        self.line.remove(&mut self.records, key);
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
        let key = match &self.discipline {
            Discipline::Fifo => self.queued.front(&self.records)?,
            Discipline::Lanes(_) => self.discipline.pop()?,
            _ if overdue => self.queued.front(&self.records)?,
            _ => self.discipline.pop()?,
        };
        Some((key, self.take(key, worker, now)?))
    }

    /// Ends a job that runs, with a result or with a refusal. If they are for a caller they are left where they are read.
    /// Returns whom to tell, and what is left of the job.
    #[inline(always)]
    pub(crate) fn end(
        &mut self,
        key: Key,
        result: &mut Option<Result<T, E>>,
        refusal: &mut Option<Rejected>,
        queued_for: Option<Duration>,
    ) -> (Owner, Option<Box<Extra<Req>>>) {
        let Some(record) = self.records.get_mut(key) else { return (Owner::Nobody, None) };
        if let (State::Running(worker), Discipline::Lanes(lanes)) =
            (&record.state, &mut self.discipline)
            && *worker != NO_WORKER
        {
            lanes.finish(record.tag().share.flow());
        }
        let extra = if record.detailed { record.details_mut().extra.take() } else { None };
        if let Owner::Caller(waker) = &mut record.owner {
            let waker = waker.take();
            record.state = State::Ended(refusal.take().map(|rejected| rejected.reason()));
            record.result = result.take();
            if let Some(queued_for) = queued_for {
                let nanos = u64::try_from(queued_for.as_nanos()).unwrap_or(u64::MAX);
                record.details_mut().queued_for = NonZeroU64::new(nanos);
            }
            return (Owner::Caller(waker), extra);
        }
        let owner = std::mem::replace(&mut record.owner, Owner::Nobody);
        record.clear();
        self.records.release(key);
        (owner, extra)
    }

    /// Takes the job that was queued first out of the queue, to be answered without a worker.
    pub(crate) fn hand_back(&mut self) -> Option<(Key, Taken<Req>)> {
        let key = self.queued.front(&self.records)?;
        Some((key, self.take(key, NO_WORKER, None)?))
    }

    /// The same for one that its caller gives up, if it is still queued.
    pub(crate) fn take_out(&mut self, key: Key) -> Option<Taken<Req>> {
        let is_queued = matches!(self.records.get(key)?.state, State::Queued(_));
        is_queued.then(|| self.take(key, NO_WORKER, None)).flatten()
    }

    /// The jobs that run, each with its worker.
    pub(crate) fn running(&self) -> impl Iterator<Item = (Key, usize, &Details<Req>)> {
        self.records.iter().filter_map(|(key, record)| match record.state {
            State::Running(worker) => Some((key, worker, &record.details)),
            _ => None,
        })
    }

    #[inline(always)]
    fn enqueue(&mut self, key: Key, tag: Tag) {
        self.queued.push_back(&mut self.records, key);
        self.weight += u128::from(tag.weight);
        if !self.is_fifo() {
            self.discipline.push(key, tag);
        }
    }

    /// Gives a queued job away.
    #[inline(always)]
    fn take(&mut self, key: Key, worker: usize, now: Option<Instant>) -> Option<Taken<Req>> {
        self.dequeue(key);
        let record = self.records.get_mut(key)?;
        if !matches!(record.state, State::Queued(_)) {
            return None;
        }
        let State::Queued(request) = std::mem::replace(&mut record.state, State::Running(worker))
        else {
            return None;
        };
        let priority = record.priority;
        let (mut deadline, mut since, mut span, mut carried) = (None, None, Span::NONE, None);
        if record.detailed || now.is_some() {
            let details = record.details_mut();
            deadline = details.deadline;
            since = std::mem::replace(&mut details.since, now);
            span = std::mem::replace(&mut details.span, Span::NONE);
            carried = details.extra.as_mut().and_then(|extra| extra.carried.take());
        }
        Some(Taken { request, priority, deadline, since, span, carried })
    }

    #[inline(always)]
    fn dequeue(&mut self, key: Key) {
        self.queued.remove(&mut self.records, key);
        let Some(record) = self.records.get(key) else { return };
        let tag = record.tag();
        self.weight -= u128::from(tag.weight);
        if !self.is_fifo() {
            self.discipline.remove(key, tag);
        }
    }
}
