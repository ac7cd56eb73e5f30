//! The future of a call.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use stockade_core::{
    Classify, LayerError, Reason, Rejected,
    internal::{CallWaiter, Refuser, Slow, Waiter},
    waits::Counting,
};
use tower_service::Service;

use crate::{permit::Permit, shared::Lease};

pin_project! {
    /// The response of a [`Breaker`](crate::Breaker). `F` is the future of the service `S` inside.
    ///
    /// A call never waits here, except where the breaker began to let calls pass after the service inside was
    /// found not ready: then it waits for that first.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the call, and gives a probe's place back. What the call counts as is on the page of
    /// [`BreakerLayer`](crate::BreakerLayer).
    pub struct ResponseFuture<F, S, Req, C> {
        #[pin]
        state: State<S, Req, F>,
        permit: Permit,
        classify: C,
    }

    impl<F, S, Req, C> PinnedDrop for ResponseFuture<F, S, Req, C> {
        #[inline]
        fn drop(this: Pin<&mut Self>) {
            if !this.as_ref().permit.is_settled() {
                this.dropped();
            }
        }
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, Req, F> {
        // Also when the call has ended: then the permit is settled.
        Running { #[pin] future: F },
        // The call is refused, or waits for the service inside to be ready.
        Slow { slow: Slow<AtOnce, S, Req> },
    }
}

/// Waits for nothing: a call that waits for the service inside has been admitted.
pub(crate) struct AtOnce(pub(crate) Arc<Lease>);

// === impl AtOnce ===

impl Waiter for AtOnce {
    type Permit = ();

    fn poll_admit(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Rejected>> {
        Poll::Ready(Ok(()))
    }
}

impl CallWaiter for AtOnce {
    type Refuser = Lease;

    fn expired(&self) -> Rejected {
        self.0.rejected(Reason::Expired)
    }
}

// === impl State ===

impl<S, Req, F> State<S, Req, F> {
    const DONE: Self = Self::Slow { slow: Slow::ENDED };
}

// === impl ResponseFuture ===

impl<F, S, Req, C> ResponseFuture<F, S, Req, C> {
    #[inline]
    pub(crate) const fn running(future: F, permit: Permit, classify: C) -> Self {
        Self { state: State::Running { future }, permit, classify }
    }

    /// Without a permit for a call that is refused.
    pub(crate) const fn slow(slow: Slow<AtOnce, S, Req>, permit: Permit, classify: C) -> Self {
        Self { state: State::Slow { slow }, permit, classify }
    }

    /// It is dropped before the call has ended. Kept apart, so that dropping a finished one is a few branches.
    #[cold]
    #[inline(never)]
    fn dropped(self: Pin<&mut Self>) {
        let mut this = self.project();
        let sent = matches!(*this.state, State::Running { .. });
        let counting = Counting::begin(true);
        this.state.set(State::DONE);
        this.permit.dropped(sent, counting);
    }
}

impl<F, S, Req, C> Future for ResponseFuture<F, S, Req, C>
where
    F: Future<Output = Result<S::Response, S::Error>>,
    S: Service<Req, Future = F>,
    S::Error: LayerError,
    C: Classify<S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let permit = this.permit;
        loop {
            let part = permit.run();
            let polled = match this.state.as_mut().project() {
                StateProj::Running { future } => future.poll(cx),
                StateProj::Slow { slow } => match slow.poll(cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Ready(Ok(())) => {
                        let future = slow.call();
                        part.end();
                        this.state.set(State::Running { future });
                        continue;
                    }
                },
            };
            part.end();
            match &polled {
                Poll::Ready(result) => permit.judge(this.classify, result.as_ref()),
                Poll::Pending => permit.pending(),
            }
            return polled;
        }
    }
}

impl<F, S, Req, C> fmt::Debug for ResponseFuture<F, S, Req, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_tuple("ResponseFuture");
        match &self.state {
            State::Running { .. } if !self.permit.is_settled() => debug.field(&"running"),
            State::Slow { slow } => debug.field(slow),
            State::Running { .. } => debug.field(&"done"),
        };
        debug.finish()
    }
}
