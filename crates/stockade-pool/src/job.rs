//! One job, and the two ends of it: a oneshot channel is where the answer arrives, and how the worker learns
//! that the caller has gone. It is the only allocation of a job.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use stockade_core::{Key, LayerError, Reason, Rejected};
use tokio::sync::oneshot;

use crate::{
    TrySubmitError,
    batch::{Run, Ticket},
    lease::Lease,
    places::Place,
    pool::Handles,
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
/// that runs is dropped at its next await. With [`OnDrop::Detach`](crate::OnDrop::Detach) the job goes on
/// instead, and its answer is dropped.
#[must_use = "dropping a job cancels it"]
pub struct Job<Req, T, E> {
    state: JobState<Req, T, E>,
}

enum JobState<Req, T, E> {
    Accepted { answer: oneshot::Receiver<Result<T, E>>, key: Key, pool: Lease<Handles<Req, T, E>> },
    Refused(Rejected),
    Done,
}

/// A job that was not accepted, and the way to try again.
pub(crate) type Refused<Req, T, E> = (TrySubmitError<Req>, Lease<Handles<Req, T, E>>);

/// The worker's end: whom the answer goes to.
pub(crate) enum Reply<T, E> {
    One(oneshot::Sender<Result<T, E>>),
    Run(Ticket<T, E>),
}

// === impl Job ===

impl<Req, T, E> Job<Req, T, E> {
    /// Queues a request in the held place, or in a free one.
    #[inline]
    pub(crate) fn submit(
        pool: Lease<Handles<Req, T, E>>,
        request: Req,
        place: &mut Place,
    ) -> Result<Self, Refused<Req, T, E>> {
        let (reply, answer) = oneshot::channel();
        let entry = pool.shared.entry(request, Reply::One(reply));
        match pool.shared.push(entry, place) {
            Ok(key) => Ok(Self { state: JobState::Accepted { answer, key, pool } }),
            Err((entry, Reason::Closed)) => Err((TrySubmitError::Closed(entry.request), pool)),
            Err((entry, _)) => Err((TrySubmitError::Full(entry.request), pool)),
        }
    }

    pub(crate) fn refused(rejected: Rejected) -> Self {
        Self { state: JobState::Refused(rejected) }
    }
}

impl<Req, T, E: LayerError> Future for Job<Req, T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = match &mut self.state {
            JobState::Accepted { answer, .. } => match ready!(Pin::new(answer).poll(cx)) {
                Ok(result) => result,
                // A worker sends an answer whatever happens, so this is not reached.
                Err(_) => Err(Rejected::new(&"pool", Reason::Closed).into_error()),
            },
            JobState::Refused(rejected) => Err(rejected.into_error()),
            JobState::Done => panic!("`Job` polled after it was ready"),
        };
        self.state = JobState::Done;
        Poll::Ready(result)
    }
}

// Nothing in it is pinned.
impl<Req, T, E> Unpin for Job<Req, T, E> {}

impl<Req, T, E> Drop for Job<Req, T, E> {
    fn drop(&mut self) {
        if let JobState::Accepted { answer, key, pool } = &mut self.state
            // An answer that has arrived goes with the channel.
            && answer.is_empty()
        {
            // What runs already learns it from the channel, which is closed now.
            answer.close();
            if !pool.shared.settings.detach {
                pool.shared.withdraw(*key);
            }
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

// === impl Reply ===

impl<T, E> Reply<T, E> {
    /// Whether the caller has gone, and the job with him.
    pub(crate) fn is_cancelled(&self, detach: bool) -> bool {
        match self {
            Self::One(_) if detach => false,
            Self::One(answer) => answer.is_closed(),
            Self::Run(ticket) => ticket.run.is_cancelled(),
        }
    }

    /// The same; if he has not, the worker is woken when he goes.
    pub(crate) fn poll_cancelled(&mut self, detach: bool, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::One(_) if detach => Poll::Pending,
            Self::One(answer) => answer.poll_closed(cx),
            Self::Run(ticket) => ticket.poll_cancelled(cx),
        }
    }

    pub(crate) fn is_of(&self, run: &Arc<Run<T, E>>) -> bool {
        matches!(self, Self::Run(ticket) if Arc::ptr_eq(&ticket.run, run))
    }
}
