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
    hook::{Hold, Release},
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
    pub struct ResponseFuture<F, S, Req, H = Release> {
        #[pin]
        pub(crate) state: State<F, S, Req>,
        pub(crate) hold: H,
    }
}

pin_project! {
    #[project = StateProj]
    pub(crate) enum State<F, S, Req> {
        // From the start, or after Slow. The permit goes when the service has answered.
        Running { #[pin] future: F, permit: Permit },
        // From the start; becomes Running, or ends. The row "limit" of the benchmark shows what `Cold` saves.
        Slow { slow: Cold<Slow<Waiter, S, Req>> },
    }
}

// === impl ResponseFuture ===

impl<F, S, Req, H> Future for ResponseFuture<F, S, Req, H>
where
    F: Future<Output = Result<S::Response, S::Error>>,
    S: Service<Req, Future = F>,
    S::Error: LayerError,
    H: Hold<S::Response>,
{
    type Output = Result<H::Response, S::Error>;

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
                        Ok(response) => Ok(this.hold.hold(response, permit)),
                        Err(error) => Err(error),
                    });
                }
                StateProj::Slow { slow } => match ready!(slow.poll(cx)) {
                    Ok(permit) => {
                        let future = slow.call();
                        this.state.set(State::Running { future, permit });
                    }
                    Err(error) => return Poll::Ready(Err(error)),
                },
            }
        }
    }
}

impl<F, S, Req, H> fmt::Debug for ResponseFuture<F, S, Req, H> {
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
