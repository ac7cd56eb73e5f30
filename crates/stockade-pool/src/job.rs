//! The caller's end of one job.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use stockade_core::{LayerError, Reason, Rejected};

use crate::{
    TrySubmitError,
    board::{Key, Owner},
    lease::Lease,
    places::{Place, Queued},
    pool::Handles,
};

/// The answer to a job: a future of what the service returns.
///
/// An answer of the pool itself is a refusal of the layer `"pool"`:
/// [`Panicked`](stockade_core::Reason::Panicked) if the service panicked,
/// [`Expired`](stockade_core::Reason::Expired) if its deadline had passed when its turn came, and
/// [`Closed`](stockade_core::Reason::PoolClosed) if the pool was stopped before it could run.
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
    Accepted { key: Key, pool: Lease<Handles<Req, T, E>>, known: Option<Known> },
    Refused(Rejected),
    Done,
}

/// A job that was not accepted, and the way to try again.
pub(crate) type Refused<Req, T, E> = (TrySubmitError<Req>, Lease<Handles<Req, T, E>>);

/// The waker that was left with the job when it was queued.
///
/// Whoever submits a job mostly awaits it next, in the same poll. Then his waker is there already, and the first
/// poll of the job needs no lock to leave it again.
struct Known {
    /// How many jobs had been answered then.
    answered: u64,
    waker: (usize, usize),
}

// === impl Job ===

impl<Req, T, E> Job<Req, T, E> {
    /// Queues a request in the held place, or in a free one.
    #[inline]
    pub(crate) fn submit(
        pool: Lease<Handles<Req, T, E>>,
        request: Req,
        place: &mut Place,
        waker: Option<Waker>,
    ) -> Result<Self, Refused<Req, T, E>> {
        let entry = pool.shared.entry(request);
        let known = waker.as_ref().map(identity);
        match pool.shared.push(entry, Owner::Caller(waker), place) {
            Ok(Queued { key, answered }) => {
                let known = known.map(|waker| Known { answered, waker });
                Ok(Self { state: JobState::Accepted { key, pool, known } })
            }
            Err((entry, Reason::PoolClosed)) => Err((TrySubmitError::Closed(entry.request), pool)),
            Err((entry, _)) => Err((TrySubmitError::Full(entry.request), pool)),
        }
    }

    pub(crate) fn refused(rejected: Rejected) -> Self {
        Self { state: JobState::Refused(rejected) }
    }
}

impl<Req, T, E: LayerError> Job<Req, T, E> {
    /// The answer to a job that was not accepted.
    #[cold]
    fn refusal(&mut self) -> E {
        match std::mem::replace(&mut self.state, JobState::Done) {
            JobState::Refused(rejected) => rejected.into_error(),
            _ => panic!("`Job` polled after it was ready"),
        }
    }
}

impl<Req, T, E: LayerError> Future for Job<Req, T, E> {
    type Output = Result<T, E>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let JobState::Accepted { key, pool, known } = &mut self.state else {
            return Poll::Ready(Err(self.refusal()));
        };
        if let Some(known) = known.take()
            // Not one is answered: the waker is still there, and so it cannot be another of the same address.
            && known.answered == pool.shared.answered()
            && known.waker == identity(cx.waker())
        {
            return Poll::Pending;
        }
        let answer = ready!(pool.shared.poll_answer(*key, cx));
        self.state = JobState::Done;
        Poll::Ready(answer)
    }
}

// Nothing in it is pinned.
impl<Req, T, E> Unpin for Job<Req, T, E> {}

impl<Req, T, E> Drop for Job<Req, T, E> {
    fn drop(&mut self) {
        if let JobState::Accepted { key, pool, .. } = &self.state {
            pool.shared.leave_job(*key);
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

/// Tells wakers apart that exist at the same time.
#[inline]
fn identity(waker: &Waker) -> (usize, usize) {
    (waker.data().addr(), std::ptr::from_ref(waker.vtable()).addr())
}
