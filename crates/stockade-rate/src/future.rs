//! The response future: for most calls, that of the service inside.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use stockade_core::{LayerError, internal::Slow};
use tower_service::Service;

use crate::{backend::Backend, shared::Shared, waiter::Waiter};

pin_project! {
    /// The response future of [`Rate`](crate::Rate). `F` is the future of the service `S` inside.
    ///
    /// For a call that passed at once it is the future of the service inside. A call that waits takes a place in the
    /// queue when this is first polled. When it has its tokens, it polls a clone of the service ready and calls it.
    ///
    /// # Panics
    ///
    /// When the call has to wait outside a tokio runtime with time, and when it is polled after it was ready.
    ///
    /// # Cancel safety
    ///
    /// Dropping it returns its place in the queue, or its tokens if the service inside was not called yet. A future
    /// that waits and is not polled delays no other call: its tokens are kept for it.
    pub struct ResponseFuture<F, S, Req, L = Shared>
    where
        L: Backend,
    {
        #[pin]
        pub(crate) state: State<F, L, S, Req>,
    }
}

pin_project! {
    #[project = StateProj]
    pub(crate) enum State<F, L: Backend, S, Req> {
        Running { #[pin] future: F },
        // Becomes Running, or ends.
        Slow { slow: Slow<Waiter<L>, S, Req> },
    }
}

// === impl ResponseFuture ===

impl<F, S, Req, L> Future for ResponseFuture<F, S, Req, L>
where
    F: Future<Output = Result<S::Response, S::Error>>,
    S: Service<Req, Future = F>,
    S::Error: LayerError,
    L: Backend,
{
    type Output = Result<S::Response, S::Error>;

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProj::Running { future } => return future.poll(cx),
                StateProj::Slow { slow } => {
                    if let Err(error) = ready!(slow.poll(cx)) {
                        return Poll::Ready(Err(error));
                    }
                    let future = slow.call();
                    state.set(State::Running { future });
                }
            }
        }
    }
}

impl<F, S, Req, L: Backend> fmt::Debug for ResponseFuture<F, S, Req, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("ResponseFuture");
        match &self.state {
            State::Running { .. } => debug.field("state", &"running"),
            State::Slow { slow } => debug.field("state", slow),
        };
        debug.finish_non_exhaustive()
    }
}
