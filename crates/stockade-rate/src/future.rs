//! The response future: mostly the one of the service inside.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use stockade_core::{LayerError, Rejected};
use tower_service::Service;

use crate::waiter::Waiter;

pin_project! {
    /// The response future of [`Rate`](crate::Rate).
    ///
    /// For a call that passed at once it is the future of the service inside. For one that waits, it
    /// takes a place in the queue at its first poll, sleeps when it is at the head, takes its token, then
    /// polls a clone of the service ready and calls it. So a token is spent before the service is ready:
    /// a service that is not ready for long delays the call further, and at its next readiness lets
    /// several calls in that have their tokens already.
    ///
    /// # Panics
    ///
    /// When it has to wait outside a tokio runtime with time, and when it is polled after it was ready.
    ///
    /// # Cancel safety
    ///
    /// Dropping it gives its place in the queue back; if it was at the head, the next call takes over.
    /// Who keeps a waiting future without polling it holds up the calls behind it. A token that was taken
    /// is spent.
    pub struct ResponseFuture<S, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S, Req, S::Future>,
    }
}

pin_project! {
    #[project = StateProj]
    #[project_replace = StateOwn]
    enum State<S, Req, F> {
        // The call has passed.
        Running { #[pin] future: F },
        // No token yet. Then: Readying, or Refused.
        Waiting { #[pin] waiter: Waiter, service: S, request: Req },
        // The token is taken. Then: Running, or Done with the error of the service.
        Readying { service: S, request: Req },
        // Then: Done.
        Refused { rejected: Rejected },
        Done,
    }
}

// === impl ResponseFuture ===

impl<S, Req> ResponseFuture<S, Req>
where
    S: Service<Req>,
{
    pub(crate) fn running(future: S::Future) -> Self {
        Self { state: State::Running { future } }
    }

    pub(crate) fn waiting(waiter: Waiter, service: S, request: Req) -> Self {
        Self { state: State::Waiting { waiter, service, request } }
    }

    pub(crate) fn refused(rejected: Rejected) -> Self {
        Self { state: State::Refused { rejected } }
    }
}

impl<S, Req> Future for ResponseFuture<S, Req>
where
    S: Service<Req>,
    S::Error: LayerError,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        match state.as_mut().project() {
            StateProj::Running { future } => future.poll(cx),
            _ => state.poll_passing(cx),
        }
    }
}

impl<S, Req> State<S, Req, S::Future>
where
    S: Service<Req>,
    S::Error: LayerError,
{
    #[cold]
    #[inline(never)]
    fn poll_passing(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<S::Response, S::Error>> {
        loop {
            match self.as_mut().project() {
                StateProj::Running { future } => return future.poll(cx),
                StateProj::Waiting { waiter, .. } => {
                    let decided = ready!(waiter.poll(cx));
                    if let StateOwn::Waiting { service, request, .. } =
                        self.as_mut().project_replace(State::Done)
                    {
                        self.set(match decided {
                            Ok(()) => State::Readying { service, request },
                            Err(rejected) => State::Refused { rejected },
                        });
                    }
                }
                StateProj::Readying { service, .. } => {
                    let ready = ready!(service.poll_ready(cx));
                    if let StateOwn::Readying { mut service, request } =
                        self.as_mut().project_replace(State::Done)
                    {
                        ready?;
                        self.set(State::Running { future: service.call(request) });
                    }
                }
                StateProj::Refused { rejected } => {
                    let error = rejected.into_error();
                    self.set(State::Done);
                    return Poll::Ready(Err(error));
                }
                StateProj::Done => panic!("`ResponseFuture` polled after it was ready"),
            }
        }
    }
}

impl<S, Req> fmt::Debug for ResponseFuture<S, Req>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Running { .. } => "Running",
            State::Waiting { .. } => "Waiting",
            State::Readying { .. } => "Readying",
            State::Refused { .. } => "Refused",
            State::Done => "Done",
        };
        f.debug_struct("ResponseFuture").field("state", &state).finish_non_exhaustive()
    }
}
