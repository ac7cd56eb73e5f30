//! The caller's end of one job.

use std::{
    fmt,
    future::poll_fn,
    mem::replace,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use stockade_core::{LayerError, Reason, Rejected, deadline::saturating_add, waits};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    contain::discard,
    lease::Lease,
    queue::{Key, Left, Seen},
    shared::{Handles, Shared, Submitted},
};

/// A job of a pool: a future of what the service returns. Made by [`Pool::submit`](crate::Pool::submit),
/// [`try_submit`](crate::Pool::try_submit), and by calling the pool.
///
/// It is queued from the beginning if there was a place for it. Otherwise it waits for one, in line with others;
/// [`accepted`](Self::accepted) waits for that alone.
///
/// What the pool itself answers is a refusal of the layer `"pool"`:
///
/// - [`Panicked`](Reason::Panicked): the service panicked.
/// - [`Expired`](Reason::Expired): the deadline had passed when the job's turn came.
/// - [`QueueFull`](Reason::QueueFull), [`Shed`](Reason::Shed), [`WaitExceeded`](Reason::WaitExceeded): the pool has too
///   much to do.
/// - [`PoolClosed`](Reason::PoolClosed): the pool was closed before the job was accepted, or stopped before it ran. In
///   the second case [`accepted`](Self::accepted) has returned `Ok`, and the drain has the request.
/// - [`Cancelled`](Reason::Cancelled): the pool was stopped while the job ran.
///
/// # Cancel safety
///
/// Dropping it cancels the job: one that waits or is queued leaves at once, and its request is dropped; one that runs is
/// dropped at its next await. With [`OnDrop::Detach`](crate::OnDrop::Detach), or after [`detach`](Self::detach), the
/// job goes on, and its answer is dropped.
#[must_use = "dropping a job cancels it"]
pub struct Job<Req, T, E> {
    state: State<Req, T, E>,
    /// Fires when it has waited for too long.
    limit: Option<Pin<Box<Sleep>>>,
}

enum State<Req, T, E> {
    Submitted {
        key: Key,
        pool: Lease<Handles<Req, T, E>>,
        known: Option<Known>,
    },
    /// With the request if there is somebody who may ask for it, until it is asked for.
    Refused(Rejected, Option<Box<Req>>),
    Done,
}

/// What is known of a job that was submitted with the waker of its caller, until it is polled.
struct Known {
    waker: (usize, usize),
    answered: u64,
}

/// A job that was not accepted. The request comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused<Req> {
    /// Why: `refused.rejected.reason()` in one word.
    pub rejected: Rejected,
    /// The request.
    pub request: Req,
}

// === impl Job ===

impl<Req, T, E> Job<Req, T, E> {
    /// A job that was submitted, with a waker of this [identity] if there is one.
    pub(crate) fn submitted(
        submitted: Submitted,
        pool: Lease<Handles<Req, T, E>>,
        waker: Option<(usize, usize)>,
    ) -> Self {
        let Submitted { key, answered, .. } = submitted;
        let limit = pool.shared.config.max_wait;
        let limit = limit.map(|limit| Box::pin(sleep_until(saturating_add(Instant::now(), limit))));
        let known = waker.map(|waker| Known { waker, answered });
        Self { state: State::Submitted { key, pool, known }, limit }
    }

    /// A job that was refused, with its request if [`accepted`](Self::accepted) may ask for it.
    #[cold]
    pub(crate) fn refused(rejected: Rejected, request: Option<Req>) -> Self {
        Self { state: State::Refused(rejected, request.map(Box::new)), limit: None }
    }

    /// Waits until the job has a place in the queue.
    ///
    /// # Errors
    ///
    /// [`Refused`] with the request, if there is no place for it: the pool is closed, or has too much to do. The job
    /// itself ends with the same refusal.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing; the job goes on waiting.
    ///
    /// # Panics
    ///
    /// If the job has been refused before.
    pub async fn accepted(&mut self) -> Result<(), Refused<Req>> {
        poll_fn(|cx| self.poll_accepted(cx)).await
    }

    fn poll_accepted(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refused<Req>>> {
        self.poll_limit(cx);
        let refused = match &mut self.state {
            State::Submitted { key, pool, .. } => ready!(pool.shared.poll_accepted(*key, cx)).err(),
            State::Refused(rejected, request) => {
                let request = request.take();
                let request = request.expect("the request of this `Job` has been returned already");
                Some(Refused::new(*rejected, *request))
            }
            State::Done => panic!("`Job` polled after it was ready"),
        };
        let Some(refused) = refused else { return Poll::Ready(Ok(())) };
        self.state = State::Refused(refused.rejected, None);
        Poll::Ready(Err(refused))
    }

    /// Lets the job go on without waiting for its answer, which is dropped. A job that waits for a place goes on
    /// waiting, and if the pool closes before it has one, it is queued all the same: it runs, or a drain hands its
    /// request back.
    pub fn detach(mut self) {
        if let State::Submitted { key, pool, .. } = replace(&mut self.state, State::Done) {
            pool.shared.leave(key, true);
        }
    }

    /// Gives up a job that has waited for too long.
    #[cold]
    fn poll_limit(&mut self, cx: &mut Context<'_>) {
        if let Some(limit) = &mut self.limit
            && limit.as_mut().poll(cx).is_ready()
        {
            self.limit = None;
            if let State::Submitted { key, pool, .. } = &self.state {
                pool.shared.give_up(*key);
            }
        }
    }
}

impl<Req, T, E: LayerError> Job<Req, T, E> {
    /// The error of a job that was not accepted.
    #[cold]
    fn refusal(&mut self) -> E {
        match replace(&mut self.state, State::Done) {
            State::Refused(rejected, _) => E::from_rejected(rejected),
            _ => panic!("`Job` polled after it was ready"),
        }
    }
}

impl<Req, T, E: LayerError> Future for Job<Req, T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.limit.is_some() {
            self.poll_limit(cx);
        }
        let State::Submitted { key, pool, known } = &mut self.state else {
            return Poll::Ready(Err(self.refusal()));
        };
        // While no job is answered the waker is still there, so it cannot be another of the same identity.
        if let Some(known) = known.take()
            && known.answered == pool.shared.answered()
            && known.waker == identity(cx.waker())
        {
            return Poll::Pending;
        }
        let polled = pool.shared.lock().queue.poll(*key, cx.waker());
        let polled = polled.unwrap_or_else(|| pool.shared.poll_otherwise(*key, cx));
        if polled.is_ready() {
            self.state = State::Done;
        }
        polled
    }
}

// Nothing in it is pinned.
impl<Req, T, E> Unpin for Job<Req, T, E> {}

impl<Req, T, E> Drop for Job<Req, T, E> {
    fn drop(&mut self) {
        if let State::Submitted { key, pool, .. } = &self.state {
            pool.shared.leave(*key, pool.shared.config.detach);
        }
    }
}

impl<Req, T, E> fmt::Debug for Job<Req, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").finish_non_exhaustive()
    }
}

/// Tells wakers apart that exist at the same time.
pub(crate) fn identity(waker: &Waker) -> (usize, usize) {
    (waker.data().addr(), std::ptr::from_ref(waker.vtable()).addr())
}

// === impl Refused ===

impl<Req> Refused<Req> {
    pub(crate) fn new(rejected: Rejected, request: Req) -> Self {
        Self { rejected, request }
    }
}

impl<Req> fmt::Display for Refused<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rejected.fmt(f)
    }
}

impl<Req> fmt::Debug for Refused<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").field("rejected", &self.rejected).finish_non_exhaustive()
    }
}

impl<Req> std::error::Error for Refused<Req> {}

// === impl Shared ===

impl<Req, T, E> Shared<Req, T, E> {
    /// Ready when a job has ended that the service had not answered a moment ago, when no waker was kept. The caller is
    /// woken then.
    #[inline(never)]
    fn poll_otherwise(&self, key: Key, cx: &mut Context<'_>) -> Poll<Result<T, E>>
    where
        E: LayerError,
    {
        let mut waker = Some(cx.waker().clone());
        let seen = self.lock().queue.look(key, true, &mut waker);
        waker.into_iter().for_each(discard);
        match seen {
            Seen::Waiting | Seen::Accepted => Poll::Pending,
            Seen::Answered => {
                let answer = self.lock().queue.poll(key, cx.waker());
                answer.expect("what has been answered stays until it is read")
            }
            // It was told of where the job ended.
            Seen::Ended(reason) => Poll::Ready(Err(E::from_rejected(self.rejected(reason)))),
            Seen::Refused(reason, request, details) => {
                discard((request, details));
                Poll::Ready(Err(self.rejected(reason).into_error()))
            }
            Seen::Gone => panic!("`Job` polled after it was ready"),
        }
    }

    /// Ready when a job has a place, or is refused one. The caller is woken then.
    ///
    /// # Errors
    ///
    /// The refusal, and the request.
    pub(crate) fn poll_accepted(
        &self,
        key: Key,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Refused<Req>>> {
        let mut waker = Some(cx.waker().clone());
        let seen = self.lock().queue.look(key, false, &mut waker);
        waker.into_iter().for_each(discard);
        match seen {
            Seen::Waiting => Poll::Pending,
            Seen::Refused(reason, Some(request), details) => {
                discard(details);
                Poll::Ready(Err(Refused::new(self.refuse(reason), request)))
            }
            _ => Poll::Ready(Ok(())),
        }
    }

    /// The caller of a job has gone. It is cancelled, unless it is to `stay`. Who counts waits learns if it was not started.
    pub(crate) fn leave(self: &Arc<Self>, key: Key, stay: bool) {
        let mut core = self.lock();
        let (left, gone) = core.queue.leave(key, stay);
        if !stay {
            core.cancel(&left);
        }
        self.see_to(core);
        if matches!(left, Left::Queued | Left::Waiting) && waits::is_counted() {
            let since = gone.details.as_ref().and_then(|details| details.since);
            let waited = since.map(|since| since.elapsed()).unwrap_or_default();
            waits::record(waited.max(Duration::from_nanos(1)));
        }
        discard(gone);
    }

    /// Ends a job that has waited for too long, if it has not been started. Its caller looks at it again then.
    pub(crate) fn give_up(self: &Arc<Self>, key: Key) {
        let rejected = self.rejected(Reason::WaitExceeded);
        let mut core = self.lock();
        let mut ended = None;
        if core.queue.is_waiting(key) {
            core.refuse(key, Reason::WaitExceeded);
        } else if let Some(job) = core.queue.take_out(key) {
            ended = Some(core.end_unstarted(key, job, rejected));
        }
        self.see_to(core);
        discard(ended.map(|job| job.into_request(rejected)));
    }
}
