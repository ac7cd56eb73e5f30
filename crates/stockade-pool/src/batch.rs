//! Jobs that belong together: those of a run, or of a group. They share one place where they end, under the lock of
//! the pool: what a worker has done goes there in the visit in which it takes its next job, and the reader takes all
//! of it at once in the visit in which he submits more.

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

use stockade_core::{Key, LayerError, Reason};

use crate::{
    Outcome, Status,
    board::Owner,
    lease::Lease,
    places::Place,
    pool::Handles,
    shared::{Shared, Wake, wake},
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

/// The most requests that are submitted in one visit.
const CHUNK: usize = 32;

// === impl Batch ===

impl<Req, T, E: LayerError> Batch<Req, T, E> {
    pub(crate) fn new(pool: Lease<Handles<Req, T, E>>) -> Self {
        let mut core = pool.shared.lock();
        let room = pool.shared.settings.capacity.saturating_add(core.crew.size.max);
        let run = core.runs.push_back(Run { ended: VecDeque::new(), reader: None });
        drop(core);
        Self {
            pool,
            run,
            place: Place::None,
            accepted: 0,
            read: 0,
            most: room.saturating_mul(2) as u64,
            chunk: 1,
            ended: VecDeque::new(),
        }
    }

    /// How many more jobs may be under way, or have ended unread.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        (self.most - (self.accepted - self.read)) as usize
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
                    if reason == Reason::Closed {
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

    /// Submits the requests, from the front on, or leaves them where they are.
    pub(crate) fn submit_all(
        &mut self,
        requests: &mut VecDeque<Req>,
        cx: &mut Context<'_>,
    ) -> Result<(), NotYet> {
        if matches!(self.place, Place::None) {
            self.submit_together(requests);
        }
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

    /// Submits in one visit those for which there is room, if nobody waits for it.
    fn submit_together(&mut self, requests: &mut VecDeque<Req>) {
        let shared = &self.pool.shared;
        if !shared.rules.are_none() || shared.is_inside() {
            return;
        }
        let capacity = shared.settings.capacity;
        let mut core = shared.lock();
        let mut room = core.room(capacity);
        if core.closed || !core.callers.is_empty() {
            room = 0;
        }
        for request in requests.drain(..room.min(requests.len())) {
            core.enqueue(shared.entry(request), Owner::Run(self.run, self.accepted));
            self.accepted += 1;
            room -= 1;
        }
        self.chunk = (core.jobs.len() / 4).min(room).clamp(1, CHUNK);
        shared.see_to(core);
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
