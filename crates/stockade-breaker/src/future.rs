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
        pub(crate) state: State<S, Req, F>,
        // Dropped after what is inside.
        pub(crate) permit: Permit,
        pub(crate) classify: C,
    }

    impl<F, S, Req, C> PinnedDrop for ResponseFuture<F, S, Req, C> {
        #[inline]
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if !this.permit.is_settled() {
                this.permit.begin_drop(matches!(*this.state, State::Running { .. }));
            }
        }
    }
}

pin_project! {
    #[project = StateProj]
    pub(crate) enum State<S, Req, F> {
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

// === impl ResponseFuture ===

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
