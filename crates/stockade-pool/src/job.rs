//! One job: the cell in which its answer arrives, and the two ends of it.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::*},
    },
    task::{Context, Poll, Waker},
};

use stockade_core::{Key, LayerError, Lease, Reason, Rejected, lock};

use crate::{
    Outcome,
    pool::Handles,
    run::{self, Run},
};

/// The answer to a job: a future of what the service returns.
///
/// An answer of the pool itself is a refusal of the layer `"pool"`:
/// [`Panicked`](stockade_core::Reason::Panicked) if the service panicked,
/// [`Expired`](stockade_core::Reason::Expired) if its deadline had passed when its turn came, and
/// [`Closed`](stockade_core::Reason::Closed) if the pool was stopped before it could run.
///
/// # Cancel safety
///
/// Dropping it cancels the job: one that is queued leaves the queue at once, and its request is dropped; one
/// that runs is dropped at its next await.
#[must_use = "dropping a job cancels it"]
pub struct Job<Req, T, E> {
    state: JobState<Req, T, E>,
}

enum JobState<Req, T, E> {
    Accepted { cell: Arc<Cell<T, E>>, key: Key, pool: Lease<Handles<Req, T, E>> },
    Refused(Rejected),
    Done,
}

/// Where the answer arrives. The only allocation of a job.
pub(crate) struct Cell<T, E> {
    inner: Mutex<Inner<T, E>>,
    /// Stored before the worker's waker is taken out of `inner`, and read after it was put there, both under
    /// its lock: so a worker that has seen `false` will be woken.
    cancelled: AtomicBool,
}

struct Inner<T, E> {
    result: Option<Result<T, E>>,
    caller: Option<Waker>,
    worker: Option<Waker>,
}

/// The worker's end: whom the outcome goes to.
pub(crate) enum Reply<T, E> {
    One(Arc<Cell<T, E>>),
    Run(run::Ticket<T, E>),
}

// === impl Job ===

impl<Req, T, E> Job<Req, T, E> {
    pub(crate) fn new(cell: Arc<Cell<T, E>>, key: Key, pool: Lease<Handles<Req, T, E>>) -> Self {
        Self { state: JobState::Accepted { cell, key, pool } }
    }

    pub(crate) fn refused(rejected: Rejected) -> Self {
        Self { state: JobState::Refused(rejected) }
    }
}

impl<Req, T, E: LayerError> Future for Job<Req, T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = match &self.state {
            JobState::Accepted { cell, .. } => std::task::ready!(cell.poll(cx)),
            JobState::Refused(rejected) => Err(rejected.into_error()),
            JobState::Done => panic!("`Job` polled after it was ready"),
        };
        self.state = JobState::Done;
        Poll::Ready(result)
    }
}

// Nothing in it is pinned.
impl<Req, T, E> Unpin for Job<Req, T, E> {}

impl<Req, T, E> Drop for JobState<Req, T, E> {
    fn drop(&mut self) {
        if let Self::Accepted { cell, key, pool } = self
            && !pool.shared.withdraw(*key)
        {
            cell.cancel();
        }
    }
}

impl<Req, T, E> fmt::Debug for Job<Req, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            JobState::Accepted { .. } => "accepted",
            JobState::Refused(_) => "refused",
            JobState::Done => "done",
        };
        f.debug_tuple("Job").field(&state).finish()
    }
}

// === impl Cell ===

impl<T, E> Cell<T, E> {
    pub(crate) fn new() -> Self {
        let inner = Inner { result: None, caller: None, worker: None };
        Self { inner: Mutex::new(inner), cancelled: AtomicBool::new(false) }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<T, E>> {
        let mut inner = lock(&self.inner);
        if let Some(result) = inner.result.take() {
            return Poll::Ready(result);
        }
        match &mut inner.caller {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn cancel(&self) {
        let mut inner = lock(&self.inner);
        self.cancelled.store(true, Release);
        let left = (inner.result.take(), inner.caller.take(), inner.worker.take());
        drop(inner);
        if let (_, _, Some(worker)) = left {
            worker.wake();
        }
    }

    fn answer(&self, result: Result<T, E>) {
        let mut inner = lock(&self.inner);
        if self.cancelled.load(Relaxed) {
            // Dropped after the lock: it may run code of the user's.
            drop(inner);
            drop(result);
            return;
        }
        inner.result = Some(result);
        inner.worker = None;
        let caller = inner.caller.take();
        drop(inner);
        if let Some(caller) = caller {
            caller.wake();
        }
    }
}

// === impl Reply ===

impl<T, E> Reply<T, E> {
    /// Whether the caller has gone.
    pub(crate) fn is_cancelled(&self) -> bool {
        match self {
            Self::One(cell) => cell.cancelled.load(Acquire),
            Self::Run(ticket) => ticket.run.is_cancelled(),
        }
    }

    /// Has the worker woken when the caller goes.
    pub(crate) fn watch(&mut self, worker: &Waker) {
        match self {
            Self::One(cell) => {
                let mut inner = lock(&cell.inner);
                if !cell.cancelled.load(Relaxed) {
                    inner.worker = Some(worker.clone());
                }
            }
            Self::Run(ticket) => ticket.watch(worker),
        }
    }

    pub(crate) fn is_of(&self, run: &Arc<Run<T, E>>) -> bool {
        matches!(self, Self::Run(ticket) if Arc::ptr_eq(&ticket.run, run))
    }

    pub(crate) fn send(self, outcome: Outcome<T, E>) {
        match self {
            Self::One(cell) => cell.answer(outcome.result),
            Self::Run(ticket) => ticket.send(outcome),
        }
    }
}

impl<T, E: LayerError> Reply<T, E> {
    /// Answers a job that was never started.
    pub(crate) fn refuse(self, status: crate::Status, name: Option<&'static str>, reason: Reason) {
        let rejected = Rejected::new(&"pool", reason).with_name(name);
        self.send(Outcome {
            id: 0,
            status,
            result: Err(rejected.into_error()),
            queued_for: None,
            ran_for: None,
            worker: None,
            attempts: 0,
        });
    }
}
