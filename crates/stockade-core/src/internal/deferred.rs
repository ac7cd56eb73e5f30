//! The slow path of every layer: wait to be admitted, get the service ready, then call it.
//!
//! A call that is not admitted at once gives up the inner service's readiness ([`release`]), because
//! readiness may hold a permit that others need, and moves into a [`Deferred`] on the heap. So the
//! response future of a call that passes has no room for any of this.

use std::{
    fmt, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{LayerError, Reason, Rejected, deadline, waits::Wait};

/// Waits until a layer admits a call.
///
/// Dropping it gives back its place in the queue, or the permit that was handed to it.
pub trait Waiter {
    /// What an admitted call holds; dropping it gives it back.
    type Permit;

    /// Ready with a permit, or with the layer's refusal. Not polled again after that.
    fn poll_admit(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Permit, Rejected>>;

    /// The call was admitted, and is refused all the same: its deadline passed before it could start. For
    /// a layer that counts its refusals.
    fn expired(self: Pin<&mut Self>) {}
}

pin_project! {
    /// A call that waits to be admitted, and then for the service inside to be ready.
    pub struct Deferred<W: Waiter, S, Req> {
        #[pin]
        waiter: W,
        permit: Option<W::Permit>,
        // Taken when the call may start.
        call: Option<(S, Req)>,
        wait: Option<Wait>,
        // Who refuses if the deadline has passed by the time the call could start.
        refuser: Rejected,
    }
}

/// A call on the slow path.
pub enum Slow<W: Waiter, S, Req> {
    /// It waits.
    Deferred(Pin<Box<Deferred<W, S, Req>>>),
    /// It is refused.
    Refused(Rejected),
}

/// A call that may start: its permit, a ready service, and the request.
pub type Admitted<W, S, Req> = (<W as Waiter>::Permit, S, Req);

const AFTER: &str = "it is not polled again once it is ready";

/// Gives up the readiness that `service` holds.
pub fn let_go<S: Clone>(service: &mut S) {
    let fresh = service.clone();
    drop(mem::replace(service, fresh));
}

/// Gives up the readiness that `service` holds, and returns a clone for a later call.
pub fn release<S: Clone>(service: &mut S) -> S {
    let_go(service);
    service.clone()
}

// === impl Slow ===

impl<W, S, Req> Slow<W, S, Req>
where
    W: Waiter,
    S: Service<Req>,
    S::Error: LayerError,
{
    /// A call that waits. `refuser` names the layer: it becomes an [`Expired`](Reason::Expired) refusal
    /// if the deadline has passed after a wait.
    pub fn deferred(waiter: W, service: S, request: Req, refuser: Rejected) -> Self {
        let (call, wait) = (Some((service, request)), Some(Wait::start()));
        Self::Deferred(Box::pin(Deferred { waiter, permit: None, call, wait, refuser }))
    }

    /// Ready when the call may start, or with what ends it. Not polled again after that.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Admitted<W, S, Req>, S::Error>> {
        match self {
            Self::Deferred(deferred) => deferred.as_mut().poll_ready(cx),
            Self::Refused(rejected) => Poll::Ready(Err(rejected.into_error())),
        }
    }
}

// === impl Deferred ===

impl<W, S, Req> Deferred<W, S, Req>
where
    W: Waiter,
    S: Service<Req>,
    S::Error: LayerError,
{
    fn poll_ready(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Admitted<W, S, Req>, S::Error>> {
        let mut this = self.project();
        if this.permit.is_none() {
            let admitted = ready!(this.waiter.as_mut().poll_admit(cx));
            *this.wait = None;
            match admitted {
                Ok(permit) => *this.permit = Some(permit),
                Err(rejected) => return Poll::Ready(Err(rejected.into_error())),
            }
        }
        let (service, _) = this.call.as_mut().expect(AFTER);
        ready!(service.poll_ready(cx))?;
        // Time may have passed since the last look, above all where the thread was blocked.
        if deadline::has_passed() {
            this.waiter.as_mut().expired();
            let expired = this.refuser.with_reason(Reason::Expired);
            return Poll::Ready(Err(expired.into_error()));
        }
        let permit = this.permit.take().expect(AFTER);
        let (service, request) = this.call.take().expect(AFTER);
        Poll::Ready(Ok((permit, service, request)))
    }
}

impl<W: Waiter, S, Req> fmt::Debug for Slow<W, S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deferred(deferred) if deferred.permit.is_none() => "waiting",
            Self::Deferred(_) => "getting ready",
            Self::Refused(_) => "refused",
        })
    }
}
