//! Jobs that belong together: those of a run, or of a group. They share one place where they end, so that none
//! of them allocates.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use stockade_core::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering::*},
};
use stockade_core::{Key, LayerError, Queue, Reason, lock};

use crate::{
    Outcome, Status, job::Reply, lease::Lease, places::Place, pool::Handles, worker::discard,
};

/// The caller's end of jobs that belong together. Dropping it cancels them.
pub(crate) struct Batch<Req, T, E> {
    pool: Lease<Handles<Req, T, E>>,
    run: Arc<Run<T, E>>,
    place: Place,
    pub(crate) accepted: u64,
    pub(crate) read: u64,
    /// How many jobs may be under way, or have ended unread.
    most: u64,
}

/// What jobs that belong together share.
pub(crate) struct Run<T, E> {
    inner: Mutex<Inner<T, E>>,
    /// Stored before the wakers of the workers are taken out of `inner`, and read after one was put there,
    /// both under its lock: so a worker that has seen `false` will be woken.
    cancelled: AtomicBool,
}

struct Inner<T, E> {
    ended: VecDeque<Outcome<T, E>>,
    reader: Option<Waker>,
    /// Those who run a job that has not ended at its first poll.
    workers: Queue<Waker>,
}

/// The worker's end of one job.
pub(crate) struct Ticket<T, E> {
    pub(crate) run: Arc<Run<T, E>>,
    id: u64,
    watched: Option<Key>,
}

/// Why a request was not submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotYet {
    /// The pool is closed.
    Closed,
    /// There is no place; the task is woken when there is.
    Waiting,
}

// === impl Batch ===

impl<Req, T, E: LayerError> Batch<Req, T, E> {
    pub(crate) fn new(pool: Lease<Handles<Req, T, E>>) -> Self {
        let room = pool.shared.settings.capacity.saturating_add(pool.shared.most_workers());
        let most = room.saturating_mul(2) as u64;
        Self { pool, run: Arc::new(Run::new()), place: Place::None, accepted: 0, read: 0, most }
    }

    /// Whether as many jobs are under way, or have ended unread, as may be.
    pub(crate) fn is_full(&self) -> bool {
        self.accepted - self.read >= self.most
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
            let ticket = Ticket { run: Arc::clone(&self.run), id: self.accepted, watched: None };
            let entry = shared.entry(wanted, Reply::Run(ticket));
            let weight = entry.tag.weight;
            match shared.push(entry, &mut self.place) {
                Ok(_) => self.accepted += 1,
                Err((entry, reason)) => {
                    *request = Some(entry.request);
                    if reason == Reason::Closed {
                        return Err(NotYet::Closed);
                    }
                    if shared.is_inside() {
                        // To wait here might be to wait for oneself.
                        drop(request.take());
                        entry.reply.refuse(Status::Failed, shared.rejected(reason).into_error());
                        self.accepted += 1;
                        return Ok(());
                    }
                    if shared.poll_place(&mut self.place, weight, cx).is_pending() {
                        return Err(NotYet::Waiting);
                    }
                }
            }
        }
        Ok(())
    }

    /// The next job that has ended, in the order in which they end; none once all have that were submitted.
    pub(crate) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Outcome<T, E>> {
        let mut inner = lock(&self.run.inner);
        if let Some(outcome) = inner.ended.pop_front() {
            return Poll::Ready(outcome);
        }
        match &mut inner.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl<Req, T, E> Drop for Batch<Req, T, E> {
    fn drop(&mut self) {
        let shared = &self.pool.shared;
        shared.leave_place(&mut self.place);
        self.run.cancel();
        if self.read < self.accepted {
            shared.withdraw_run(&self.run);
        }
    }
}

// === impl Run ===

impl<T, E> Run<T, E> {
    fn new() -> Self {
        let inner = Inner { ended: VecDeque::new(), reader: None, workers: Queue::new() };
        Self { inner: Mutex::new(inner), cancelled: AtomicBool::new(false) }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Acquire)
    }

    fn cancel(&self) {
        let mut inner = lock(&self.inner);
        self.cancelled.store(true, Release);
        let workers = std::mem::take(&mut inner.workers);
        let ended = std::mem::take(&mut inner.ended);
        drop(inner);
        workers.iter().for_each(Waker::wake_by_ref);
        drop(ended);
    }
}

// === impl Ticket ===

impl<T, E> Ticket<T, E> {
    /// Whether the reader has gone; if not, the worker is woken when he goes.
    pub(crate) fn poll_cancelled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.watched.is_none() {
            let mut inner = lock(&self.run.inner);
            if !self.run.cancelled.load(Relaxed) {
                self.watched = Some(inner.workers.push_back(cx.waker().clone()));
                return Poll::Pending;
            }
        }
        if self.run.is_cancelled() { Poll::Ready(()) } else { Poll::Pending }
    }

    pub(crate) fn send(self, outcome: impl FnOnce(u64) -> Outcome<T, E>) {
        let outcome = outcome(self.id);
        let mut inner = lock(&self.run.inner);
        if self.run.cancelled.load(Relaxed) {
            drop(inner);
            discard(outcome);
            return;
        }
        let watched = self.watched.and_then(|key| inner.workers.remove(key));
        inner.ended.push_back(outcome);
        let reader = inner.reader.take();
        drop(inner);
        drop(watched);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}
