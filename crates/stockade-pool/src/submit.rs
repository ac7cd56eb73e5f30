use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use stockade_core::{LayerError, Lease};

use crate::{Job, pool::Handles, shared::Place};

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
/// [`Closed`] with the request, if the pool is closed before there is a place.
///
/// # Cancel safety
///
/// Dropping it gives the place, or the wait for it, to the next, and drops the request.
#[must_use = "futures do nothing unless polled"]
pub struct Submit<Req, T, E> {
    pool: Lease<Handles<Req, T, E>>,
    place: Place,
    request: Option<Req>,
}

// === impl Submit ===

impl<Req, T, E> Submit<Req, T, E> {
    pub(crate) fn new(pool: Lease<Handles<Req, T, E>>, request: Req) -> Self {
        Self { pool, place: Place::None, request: Some(request) }
    }
}

impl<Req, T, E: LayerError> Future for Submit<Req, T, E> {
    type Output = Result<Job<Req, T, E>, Closed<Req>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            let request = this.request.take().expect("`Submit` polled after it was ready");
            match Handles::try_submit(&this.pool, request, &mut this.place) {
                Ok(job) => return Poll::Ready(Ok(job)),
                Err(TrySubmitError::Closed(request)) => {
                    return Poll::Ready(Err(Closed(request)));
                }
                Err(TrySubmitError::Full(request)) => {
                    this.request = Some(request);
                    ready!(this.pool.shared.poll_place(&mut this.place, cx));
                }
            }
        }
    }
}

// Nothing in it is pinned.
impl<Req, T, E> Unpin for Submit<Req, T, E> {}

impl<Req, T, E> Drop for Submit<Req, T, E> {
    fn drop(&mut self) {
        if !matches!(self.place, Place::None) {
            self.pool.shared.leave_place(&mut self.place);
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
