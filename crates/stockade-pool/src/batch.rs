//! Jobs that belong together: those of a run, or of a group. They share one place where they end, under the lock of
//! the pool: what a worker has done goes there in the visit in which it takes its next job, and the reader takes all
//! of it at once in the visit in which he submits more.

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

use stockade_core::{LayerError, Reason, deadline, internal::Key};

use crate::{
    Outcome, Status,
    board::{Entry, Owner},
    lease::Lease,
    places::Place,
    pool::Handles,
    rules::Tag,
    shared::{Shared, Wake, wake},
    span::Span,
};

/// The caller's end of jobs that belong together. Dropping it cancels them.
pub(crate) struct Batch<Req, T, E> {
    pool: Lease<Handles<Req, T, E>>,
    run: Key,
    place: Place,
    pub(crate) accepted: u64,
    pub(crate) read: u64,
    /// How many jobs may be under way, or have ended unread.
    most: u64,
    /// One less than the power of two of outcomes after which requests are submitted although there is more to read.
    pace: u64,
    /// How many requests can be taken from a source before they are submitted, as far as known.
    chunk: usize,
    /// What has ended, and was taken over to be read.
    ended: VecDeque<Outcome<T, E>>,
}

/// Where the jobs of a batch end.
pub(crate) struct Run<T, E> {
    ended: VecDeque<Outcome<T, E>>,
    reader: Option<Waker>,
}

/// Why a request was not submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotYet {
    /// The pool is closed.
    Closed,
    /// There is no place; the task is woken when there is.
    Waiting,
}

/// The most jobs of a batch at once, for each worker: enough that they lie ready when a worker has had its turn, and
/// not so many that they fill the queue of others or the processor's cache.
const SHARE: usize = 128;

/// How many jobs of a batch may be under way, or have ended unread.
fn most(capacity: usize, workers: usize) -> u64 {
    let room = capacity.saturating_add(workers).saturating_mul(2);
    room.min(workers.saturating_mul(SHARE)) as u64
}

/// The most requests that are submitted in one visit.
const CHUNK: usize = 32;

// === impl Batch ===

impl<Req, T, E: LayerError> Batch<Req, T, E> {
    pub(crate) fn new(pool: Lease<Handles<Req, T, E>>) -> Self {
        let mut core = pool.shared.lock();
        let most = most(pool.shared.settings.capacity, core.crew.size.max);
        let run = core.runs.push_back(Run { ended: VecDeque::new(), reader: None });
        drop(core);
        Self {
            pool,
            run,
            place: Place::None,
            accepted: 0,
            read: 0,
            most,
            pace: (most / 8).clamp(1, CHUNK as u64).next_power_of_two() - 1,
            chunk: 1,
            ended: VecDeque::new(),
        }
    }

    /// How many more jobs may be under way, or have ended unread.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        self.most.saturating_sub(self.accepted - self.read) as usize
    }

    /// How many requests to take from the source before they are submitted. No more than can be taken while the
    /// workers have work: to take requests may be slow.
    #[inline]
    pub(crate) fn chunk(&self) -> usize {
        self.chunk
    }

    /// Whether nothing that has ended is at hand.
    #[inline]
    pub(crate) fn is_read(&self) -> bool {
        self.ended.is_empty()
    }

    /// Submits the request, or leaves it where it is.
    pub(crate) fn submit(
        &mut self,
        request: &mut Option<Req>,
        cx: &mut Context<'_>,
    ) -> Result<(), NotYet> {
        let shared = &self.pool.shared;
        // Whoever waits looks whether he has been served before he makes a job of his request.
        if matches!(self.place, Place::Waiting(..))
            && shared.poll_place(&mut self.place, 0, cx).is_pending()
        {
            return Err(NotYet::Waiting);
        }
        while let Some(wanted) = request.take() {
            let entry = shared.entry(wanted);
            let weight = entry.tag.weight;
            match shared.push(entry, Owner::Run(self.run, self.accepted), &mut self.place) {
                Ok(_) => self.accepted += 1,
                Err((entry, reason)) => {
                    if reason == Reason::PoolClosed {
                        *request = Some(entry.request);
                        return Err(NotYet::Closed);
                    }
                    if shared.is_inside() {
                        // To wait here might be to wait for oneself.
                        let error = shared.rejected(reason).into_error();
                        let failed = Outcome::unstarted(self.accepted, Status::Failed, Err(error));
                        self.ended.push_back(failed);
                        self.accepted += 1;
                        return Ok(());
                    }
                    *request = Some(entry.request);
                    if shared.poll_place(&mut self.place, weight, cx).is_pending() {
                        return Err(NotYet::Waiting);
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether enough was read since requests were submitted, although there is more to read.
    #[inline]
    pub(crate) fn is_time_to_feed(&self) -> bool {
        self.read & self.pace == 0
    }

    /// Whether requests are to be submitted one by one, because each needs a closer look.
    #[inline]
    pub(crate) fn one_by_one(&self) -> bool {
        !self.pool.shared.rules.are_none() || self.pool.shared.is_inside()
    }

    /// Submits in one visit those requests for which there is room, if it is not others' turn, and takes over what has
    /// ended if everything has been read.
    pub(crate) fn visit(&mut self, requests: &mut VecDeque<Req>) -> Result<(), NotYet> {
        let shared = &self.pool.shared;
        let capacity = shared.settings.capacity;
        let (deadline, since) = (deadline::current(), shared.clock());
        // Whoever listens is asked for the span without the lock.
        let mut spans = [const { Span::NONE }; CHUNK];
        spans.iter_mut().take(requests.len()).for_each(|span| *span = Span::current());
        let mut core = shared.lock();
        if self.ended.is_empty()
            && let Some(run) = core.runs.get_mut(self.run)
        {
            std::mem::swap(&mut run.ended, &mut self.ended);
        }
        if core.closed {
            return Err(NotYet::Closed);
        }
        if let Place::Waiting(key, weight) = self.place
            && core.callers.get_mut(key).is_none()
        {
            self.place = Place::Held(weight);
        }
        let mut room = match self.place {
            Place::Waiting(..) => 0,
            Place::None if !core.callers.is_empty() => 0,
            Place::None => core.room(capacity),
            Place::Held(weight) => {
                core.unreserve(weight);
                self.place = Place::None;
                if core.callers.is_empty() { core.room(capacity).max(1) } else { 1 }
            }
        };
        let n = room.min(requests.len()).min(CHUNK);
        self.most = most(capacity, core.crew.size.max);
        for (request, span) in requests.drain(..n).zip(&mut spans) {
            let span = std::mem::replace(span, Span::NONE);
            let entry = Entry { request, deadline, since, tag: Tag::default(), span };
            core.enqueue(entry, Owner::Run(self.run, self.accepted));
            self.accepted += 1;
        }
        room -= n;
        self.chunk = (core.jobs.len() / 4).min(room).clamp(1, CHUNK);
        shared.see_to(core);
        if requests.is_empty() { Ok(()) } else { Err(NotYet::Waiting) }
    }

    /// Submits the requests, from the front on, or leaves them where they are and waits for a place.
    pub(crate) fn submit_all(
        &mut self,
        requests: &mut VecDeque<Req>,
        cx: &mut Context<'_>,
    ) -> Result<(), NotYet> {
        while let Some(request) = requests.pop_front() {
            let mut request = Some(request);
            let submitted = self.submit(&mut request, cx);
            if let Some(request) = request {
                requests.push_front(request);
            }
            submitted?;
        }
        Ok(())
    }

    /// The next job that has ended, in the order in which they end; none once all have that were submitted.
    #[inline]
    pub(crate) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Outcome<T, E>> {
        if let Some(outcome) = self.ended.pop_front() {
            return Poll::Ready(outcome);
        }
        let mut core = self.pool.shared.lock();
        let run = core.runs.get_mut(self.run).expect("a run is there until its batch is dropped");
        std::mem::swap(&mut run.ended, &mut self.ended);
        match self.ended.pop_front() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                match &mut run.reader {
                    Some(reader) => reader.clone_from(cx.waker()),
                    none => *none = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
        }
    }
}

impl<Req, T, E> Drop for Batch<Req, T, E> {
    fn drop(&mut self) {
        let shared = &self.pool.shared;
        shared.leave_place(&mut self.place);
        shared.leave_run(self.run, self.read + (self.ended.len() as u64) < self.accepted);
    }
}

// === impl Run ===

impl<T, E> Run<T, E> {
    /// A job has ended; returns whom to wake.
    #[inline]
    pub(crate) fn end(&mut self, outcome: Outcome<T, E>) -> Wake {
        self.ended.push_back(outcome);
        self.reader.take()
    }
}

impl<Req, T, E> Shared<Req, T, E> {
    /// Nobody will read what becomes of a run. If some of its jobs have not ended, they leave the queue, and those
    /// that run are cancelled.
    fn leave_run(&self, run: Key, unended: bool) {
        let mut core = self.lock();
        let ended = core.runs.remove(run);
        let (mut gone, mut running) = (Vec::new(), Vec::new());
        if unended {
            gone = core.jobs.leave_run(run, &mut running);
            core.counts.cancelled += gone.len() as u64;
        }
        let workers: Vec<Wake> = running.into_iter().map(|worker| core.cancel(worker)).collect();
        let callers = core.grant_all(self.settings.capacity);
        drop(core);
        workers.into_iter().chain(callers).for_each(wake);
        drop((gone, ended));
    }
}
