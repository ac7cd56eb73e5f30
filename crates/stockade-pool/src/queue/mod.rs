//! The jobs of a pool: who waits for a place, what is queued and which is next, what runs, what is answered.
//!
//! A job keeps one key from when it is submitted until its answer is read. Everything here happens under the lock of
//! the pool, so nothing of the user's runs here: what has to be dropped or woken is returned. The queue knows neither
//! the workers nor how many jobs there may be.

mod affinity;
mod callers;
mod discipline;
mod fair;
mod order;
mod record;
mod slab;

use std::{num::NonZeroU64, task::Waker, time::Duration};

use stockade_core::{Reason, Rejected};
use tokio::time::Instant;

pub(crate) use affinity::{Binding, Lanes};
pub(crate) use discipline::Discipline;
pub(crate) use fair::Fair;
pub use order::Order;
pub(crate) use order::Ranked;
pub(crate) use record::{Carried, Details, Extra, Left, New, Owner, Running, Seen, Tag, Taken};
pub(crate) use slab::Key;

use crate::span::Span;
use record::{Record, State};
use slab::{List, Slab};

/// The jobs of a pool.
pub(crate) struct Queue<Req, T, E> {
    records: Slab<Record<Req, T, E>>,
    /// The queued jobs, in the order in which they were queued.
    queued: List,
    /// Those who wait for a place in the queue.
    line: List,
    /// How many wait behind others of their key, and are not in line.
    in_lanes: usize,
    discipline: Discipline,
    /// How many places are held for jobs that are about to come.
    pub(crate) held: usize,
    /// What the queued jobs weigh together. Wide enough that it never overflows.
    weight: u128,
    /// How many were ever queued.
    count: u64,
}

// === impl Queue ===

impl<Req, T, E> Queue<Req, T, E> {
    pub(crate) fn new(discipline: Discipline, usual: usize) -> Self {
        Self {
            records: Slab::new(usual),
            queued: List::new(),
            line: List::new(),
            in_lanes: 0,
            discipline,
            held: 0,
            weight: 0,
            count: 0,
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

    /// How many stand in line for a place.
    #[inline]
    pub(crate) fn line(&self) -> usize {
        self.line.len()
    }

    /// How many wait for a place, in line or behind others of their key.
    #[inline]
    pub(crate) fn waiting(&self) -> usize {
        self.line.len() + self.in_lanes
    }

    pub(crate) fn weight(&self) -> u128 {
        self.weight
    }

    pub(crate) fn is_fifo(&self) -> bool {
        matches!(self.discipline, Discipline::Fifo)
    }

    /// Whether jobs have shares, by which they wait for a place and give way to others.
    pub(crate) fn is_fair(&self) -> bool {
        matches!(self.discipline, Discipline::Fair(_))
    }

    /// Which job gives way to a new one in a full queue, or in a full line for it.
    pub(crate) fn give_way(&mut self, new: &New<Req>, in_line: bool) -> Option<Key> {
        let Discipline::Fair(fair) = &mut self.discipline else { return None };
        fair.give_way(in_line, new.priority, new.share())
    }

    /// The job that was queued first of those that have the share of a new one.
    pub(crate) fn oldest_like(&self, new: &New<Req>) -> Option<Key> {
        let Discipline::Fair(fair) = &self.discipline else { return None };
        fair.oldest_like(new.priority, new.share())
    }

    /// Whether there may be one more job of this key.
    #[inline]
    pub(crate) fn has_room_for(&self, tag: Tag) -> bool {
        match &self.discipline {
            Discipline::Lanes(lanes) => lanes.has_room(tag.sort),
            _ => true,
        }
    }

    /// Whether a job of this key would wait for another one that is in the pool.
    pub(crate) fn is_behind(&self, tag: Tag) -> bool {
        match &self.discipline {
            Discipline::Lanes(lanes) => lanes.is_taken(tag.sort),
            _ => false,
        }
    }

    /// When the job that was queued first was submitted.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.records.get(self.queued.front(&self.records)?)?.details()?.since
    }

    /// Who is first in line: since when it waits, and what its job weighs.
    pub(crate) fn first_in_line(&self) -> Option<(Key, Option<Instant>, u64)> {
        let key = match &self.discipline {
            Discipline::Fair(fair) => fair.first_in_line()?,
            _ => self.line.front(&self.records)?,
        };
        let record = self.records.get(key)?;
        Some((key, record.details().and_then(|details| details.since), record.tag().weight))
    }

    /// A handle stands in line, to hold a place.
    pub(crate) fn wait_to_hold(&mut self, waker: Waker, since: Option<Instant>) -> Key {
        let state = State::Waiting { request: None, in_lane: false };
        let (key, record) = self.records.claim();
        record.write_handle(state, Owner::Caller(Some(waker)));
        record.details_mut().since = since;
        self.line.push_back(&mut self.records, key);
        key
    }

    /// Queues a job.
    #[inline(always)]
    pub(crate) fn push(&mut self, new: New<Req>, owner: Owner) -> Key {
        let tag = new.details.tag;
        let (key, record) = self.records.claim();
        record.state = State::Queued(record.write(new, owner));
        if let Discipline::Lanes(lanes) = &mut self.discipline {
            lanes.claim(tag.sort);
        }
        self.enqueue(key, tag);
        key
    }

    /// Puts a job in line, or behind others of its key.
    pub(crate) fn wait(&mut self, new: New<Req>, owner: Owner) -> Key {
        let tag = new.details.tag;
        let in_lane = !self.has_room_for(tag);
        let (key, record) = self.records.claim();
        record.state = State::Waiting { request: Some(record.write(new, owner)), in_lane };
        match &mut self.discipline {
            Discipline::Lanes(lanes) if in_lane => {
                lanes.wait(tag.sort, key, &mut self.records);
                self.in_lanes += 1;
            }
            Discipline::Lanes(lanes) => lanes.claim(tag.sort),
            Discipline::Fair(fair) => {
                if let Some(record) = self.records.get(key) {
                    fair.wait(key, record.priority, record.share());
                }
            }
            _ => {}
        }
        if !in_lane {
            self.line.push_back(&mut self.records, key);
        }
        key
    }

    /// Keeps the request of a job that is refused a place, until its caller asks.
    pub(crate) fn keep_refused(&mut self, request: Req, reason: Reason) -> Key {
        let (key, record) = self.records.claim();
        record.write_handle(State::Refused(Some(request), reason), Owner::Caller(None));
        key
    }

    /// Gives a place to the one who is first in line: a job is queued, a handle holds it. Returns whether it was a
    /// job, and whom to tell.
    pub(crate) fn admit(&mut self, key: Key) -> Option<(bool, Owner)> {
        self.line.remove(&mut self.records, key);
        if let Discipline::Fair(fair) = &mut self.discipline {
            fair.leave_line(key, true);
        }
        let record = self.records.get_mut(key)?;
        let State::Waiting { request, .. } = &mut record.state else { return None };
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

    /// Refuses a place to one who waits for it. Returns whether it is a job, and whom to tell.
    pub(crate) fn refuse(&mut self, key: Key, reason: Reason) -> Option<(bool, Owner)> {
        self.unwait(key);
        let record = self.records.get_mut(key)?;
        let State::Waiting { request, .. } = &mut record.state else { return None };
        let request = request.take();
        let is_job = request.is_some();
        record.state = State::Refused(request, reason);
        Some((is_job, record.owner.told()))
    }

    /// Gives the next job to a worker: the one that was queued first, if it is `overdue` and jobs have no keys.
    #[inline(always)]
    pub(crate) fn pop(
        &mut self,
        binding: &mut Binding,
        worker: usize,
        now: Option<Instant>,
        overdue: bool,
    ) -> Option<(Key, Taken<Req>)> {
        let key = match &self.discipline {
            Discipline::Fifo => self.queued.front(&self.records)?,
            Discipline::Lanes(_) => self.discipline.first(binding)?,
            _ if overdue => self.queued.front(&self.records)?,
            _ => self.discipline.first(binding)?,
        };
        Some((key, self.take(key, worker, now)?))
    }

    /// The worker that is bound has ended its job.
    #[inline]
    pub(crate) fn finish(&mut self, binding: &mut Binding) {
        if let (Some(_), Discipline::Lanes(lanes)) = (binding.lane, &mut self.discipline) {
            lanes.finish(binding);
        }
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
        Some((key, self.take(key, usize::MAX, None)?))
    }

    /// The same for one that its caller gives up, if it is still queued.
    pub(crate) fn take_out(&mut self, key: Key) -> Option<Taken<Req>> {
        let is_queued = matches!(self.records.get(key)?.state, State::Queued(_));
        is_queued.then(|| self.take(key, usize::MAX, None)).flatten()
    }

    /// The jobs that run.
    pub(crate) fn running(&self) -> impl Iterator<Item = (Key, Running<'_>)> {
        self.records.iter().filter_map(|(key, record)| {
            let State::Running(worker) = record.state else { return None };
            let details = record.details();
            let extra = details.and_then(|details| details.extra.as_ref());
            let name = extra.and_then(|extra| extra.name.as_ref());
            Some((key, Running { worker, name, since: details.and_then(|details| details.since) }))
        })
    }

    #[inline(always)]
    fn enqueue(&mut self, key: Key, tag: Tag) {
        self.queued.push_back(&mut self.records, key);
        self.weight += u128::from(tag.weight);
        self.count += 1;
        if let Discipline::Fair(fair) = &mut self.discipline {
            if let Some(record) = self.records.get(key) {
                fair.push(key, record.priority, record.share());
            }
        } else if !self.is_fifo() {
            let sort = self.discipline.add(key, tag.sort, self.count);
            if let Some(record) = self.records.get_mut(key)
                && sort != tag.sort
            {
                record.details_mut().tag.sort = sort;
            }
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
            self.discipline.remove(key, tag.sort);
            self.unclaim(tag);
        }
    }

    /// Takes one who waits for a place out of the line, or the lane.
    fn unwait(&mut self, key: Key) {
        let Some(record) = self.records.get(key) else { return };
        let (State::Waiting { in_lane, request }, tag) = (&record.state, record.tag()) else {
            return;
        };
        let (in_lane, is_job) = (*in_lane, request.is_some());
        if !in_lane {
            self.line.remove(&mut self.records, key);
            if let Discipline::Fair(fair) = &mut self.discipline {
                fair.leave_line(key, false);
            }
            if is_job {
                self.unclaim(tag);
            }
        } else if let Discipline::Lanes(lanes) = &mut self.discipline {
            lanes.give_up(tag.sort, key, &mut self.records);
            self.in_lanes -= 1;
        }
    }

    /// A job has left the queue or the line: the next of its key may stand in line.
    fn unclaim(&mut self, tag: Tag) {
        let Discipline::Lanes(lanes) = &mut self.discipline else { return };
        if let Some(next) = lanes.unclaim(tag.sort, &mut self.records) {
            self.line.push_back(&mut self.records, next);
            self.in_lanes -= 1;
            if let Some(State::Waiting { in_lane, .. }) =
                self.records.get_mut(next).map(|record| &mut record.state)
            {
                *in_lane = false;
            }
        }
    }
}
