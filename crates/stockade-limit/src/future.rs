use std::{
    fmt, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use stockade_core::{
    LayerError,
    internal::{Cold, Slow},
};
use tower_service::Service;

use crate::{
    Permit,
    hook::{Hook, Plain},
    permit::Waiter,
};

pin_project! {
    /// The response of a [`Limit`](crate::Limit). `F` is the future of the service `S` inside.
    ///
    /// Its place is free as soon as the service has answered, also if the future is kept.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the call, or the wait, and gives its place to the next.
    pub struct ResponseFuture<F, S, Req, X = Plain> {
        #[pin]
        state: State<F, S, Req>,
        hook: X,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, S, Req> {
        // From the start, or after Slow. The permit goes when the service has answered.
        Running { #[pin] future: F, permit: Permit },
        // From the start; becomes Running, or ends. The row "limit" of the benchmark shows what `Cold` saves.
        Slow { slow: Cold<Slow<Waiter, S, Req>> },
    }
}

// === impl ResponseFuture ===

impl<F, S, Req, X> ResponseFuture<F, S, Req, X> {
    #[inline]
    pub(crate) fn running(permit: Permit, future: F, hook: X) -> Self {
        Self { state: State::Running { future, permit }, hook }
    }

    #[inline]
    pub(crate) fn slow(slow: Slow<Waiter, S, Req>, hook: X) -> Self {
        Self { state: State::Slow { slow: Cold::new(slow) }, hook }
    }
}

impl<F, S, Req, X> Future for ResponseFuture<F, S, Req, X>
where
    F: Future<Output = Result<S::Response, S::Error>>,
    S: Service<Req, Future = F>,
    S::Error: LayerError,
    X: Hook<Req, S::Response>,
{
    type Output = Result<X::Response, S::Error>;

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Running { future, permit } => {
                    let result = ready!(future.poll(cx));
                    let permit = mem::replace(permit, Permit::NONE);
                    // Taken apart, because an error is large and would be moved as a whole before the permit goes.
                    return Poll::Ready(match result {
                        Ok(response) => Ok(this.hook.answered(response, permit)),
                        Err(error) => Err(error),
                    });
                }
                StateProj::Slow { slow } => {
                    let permit = match ready!(slow.poll(cx)) {
                        Ok(permit) => permit,
                        Err(error) => return Poll::Ready(Err(error)),
                    };
                    let future = slow.call();
                    this.state.set(State::Running { future, permit });
                }
            }
        }
    }
}

impl<F, S, Req, X> fmt::Debug for ResponseFuture<F, S, Req, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_tuple("ResponseFuture");
        match &self.state {
            State::Running { permit, .. } if permit.is_none() => f.field(&"done or not limited"),
            State::Running { .. } => f.field(&"running"),
            State::Slow { slow } => f.field(slow),
        };
        f.finish()
    }
}
