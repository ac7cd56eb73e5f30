use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use stockade_core::{LayerError, Reason};

use crate::{Job, lease::Lease, places::Place, pool::Handles};

/// The pool is closed; the request comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Closed<Req>(pub Req);

/// Why a job was not accepted; the request comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TrySubmitError<Req> {
    /// There is no room now.
    Full(Req),
    /// The pool is closed, and there will be none.
    Closed(Req),
}

/// Waits for a place in the queue, and submits the request.
///
/// # Errors
///
/// [`Closed`] with the request, if the pool is closed before there is a place. From inside a job of the same pool
/// it does not wait: without a free worker the job is refused, and its answer is
/// [`Reason::QueueFull`].
///
/// # Cancel safety
///
/// Dropping it gives the place, or the wait for it, to the next, and drops the request.
#[must_use = "futures do nothing unless polled"]
pub struct Submit<Req, T, E> {
    /// None once the job is accepted.
    wanted: Option<Wanted<Req, T, E>>,
    place: Place,
}

type Wanted<Req, T, E> = (Req, Lease<Handles<Req, T, E>>);

// === impl Submit ===

impl<Req, T, E> Submit<Req, T, E> {
    pub(crate) fn new(pool: Lease<Handles<Req, T, E>>, request: Req) -> Self {
        Self { wanted: Some((request, pool)), place: Place::None }
    }
}

impl<Req, T, E: LayerError> Future for Submit<Req, T, E> {
    type Output = Result<Job<Req, T, E>, Closed<Req>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { wanted, place } = &mut *self;
        loop {
            let (request, pool) = wanted.take().expect("`Submit` polled after it was ready");
            match Job::submit(pool, request, place, Some(cx.waker().clone())) {
                Ok(job) => return Poll::Ready(Ok(job)),
                Err((TrySubmitError::Closed(request), pool)) => {
                    pool.shared.rejected(Reason::PoolClosed).tell();
                    return Poll::Ready(Err(Closed(request)));
                }
                Err((TrySubmitError::Full(request), pool)) => {
                    if pool.shared.is_inside() {
                        // To wait here might be to wait for oneself.
                        pool.shared.leave_place(place);
                        return Poll::Ready(Ok(Job::refused(
                            pool.shared.rejected(Reason::QueueFull),
                        )));
                    }
                    let (request, pool) = wanted.insert((request, pool));
                    let weight = pool.shared.rules.tag(request).weight;
                    ready!(pool.shared.poll_place(place, weight, cx));
                }
            }
        }
    }
}

// Nothing in it is pinned.
impl<Req, T, E> Unpin for Submit<Req, T, E> {}

impl<Req, T, E> Drop for Submit<Req, T, E> {
    fn drop(&mut self) {
        if let Some((_, pool)) = &self.wanted
            && !matches!(self.place, Place::None)
        {
            pool.shared.leave_place(&mut self.place);
        }
    }
}

impl<Req, T, E> fmt::Debug for Submit<Req, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submit").field("place", &self.place).finish_non_exhaustive()
    }
}

// === impl Closed ===

impl<Req> fmt::Display for Closed<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the pool is closed")
    }
}

impl<Req> fmt::Debug for Closed<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closed(..)")
    }
}

impl<Req> std::error::Error for Closed<Req> {}

// === impl TrySubmitError ===

impl<Req> TrySubmitError<Req> {
    pub(crate) const fn reason(&self) -> Reason {
        match self {
            Self::Full(_) => Reason::QueueFull,
            Self::Closed(_) => Reason::PoolClosed,
        }
    }

    /// The request.
    pub fn into_request(self) -> Req {
        match self {
            Self::Full(request) | Self::Closed(request) => request,
        }
    }
}

impl<Req> fmt::Display for TrySubmitError<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the queue of the pool is full",
            Self::Closed(_) => "the pool is closed",
        })
    }
}

impl<Req> fmt::Debug for TrySubmitError<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

impl<Req> std::error::Error for TrySubmitError<Req> {}
