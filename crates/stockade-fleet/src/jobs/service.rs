//! The service.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use apalis_core::{error::BoxDynError, task::Task};
use stockade_core::{LayerError, deadline::Deadline};
use tower_service::Service;

use super::{Due, ResponseFuture};

/// A service for the workers of apalis. Made by [`JobsLayer`](super::JobsLayer).
///
/// Its response is that of the service inside, or `None` for a job that went back to the queue.
///
/// - `poll_ready` waits for the service inside, so that no job is taken that could not start, and never fails. When
///   a pool inside has been closed it waits for ever: then the worker takes no more jobs, until it is stopped.
/// - `call` takes the arguments out of the job and calls the service inside, under the job's deadline.
/// - A clone shares the knowledge that the pool is closed.
///
/// # Errors
///
/// The errors of the service inside, and refusals of jobs that have run, cannot run, or could not be put back.
pub struct Jobs<S, R> {
    inner: S,
    requeue: R,
    shared: Arc<Shared>,
    /// The error by which the service inside was not ready, for the next job.
    unready: Option<BoxDynError>,
}

#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Whether the pool inside is closed. It is only ever set, and orders nothing else.
    closed: AtomicBool,
}

stockade_core::accessors!(Jobs<S, R>);

// === impl Jobs ===

impl<S, R> Jobs<S, R> {
    pub(crate) const fn new(inner: S, requeue: R, shared: Arc<Shared>) -> Self {
        Self { inner, requeue, shared, unready: None }
    }
}

impl<S, R, F, Args> Service<Task<Args>> for Jobs<S, R>
where
    S: Service<Args>,
    S::Error: LayerError + Into<BoxDynError>,
    R: Fn(Task<Args>, Duration) -> F + Clone,
    F: Future<Output = Result<(), BoxDynError>>,
    Args: Clone,
{
    type Response = Option<S::Response>;
    type Error = BoxDynError;
    type Future = ResponseFuture<S::Future, R, F, Args>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxDynError>> {
        if self.shared.is_closed() {
            return Poll::Pending;
        }
        if self.unready.is_none()
            && let Poll::Ready(result) = self.inner.poll_ready(cx)
        {
            self.unready = result.err().map(Into::into);
            return Poll::Ready(Ok(()));
        }
        if self.unready.is_some() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn call(&mut self, job: Task<Args>) -> Self::Future {
        if let Some(error) = self.unready.take() {
            return ResponseFuture::failed(error);
        }
        let due = job.metadata().extract_as::<Due>().ok();
        if due.is_some_and(|due| due.left() == Duration::ZERO) {
            return ResponseFuture::expired();
        }
        let mut deadline = due.map(|due| Deadline::after(due.left()));
        let args = job.args.clone();
        let running = match &mut deadline {
            Some(deadline) => deadline.enter(|| self.inner.call(args)),
            None => self.inner.call(args),
        };
        let shared = Arc::clone(&self.shared);
        ResponseFuture::running(running, job, deadline, self.requeue.clone(), shared)
    }
}

impl<S: Clone, R: Clone> Clone for Jobs<S, R> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.requeue.clone(), Arc::clone(&self.shared))
    }
}

impl<S: fmt::Debug, R> fmt::Debug for Jobs<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs").field("inner", &self.inner).finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    pub(crate) fn close(&self) {
        self.closed.store(true, Relaxed);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }
}
