//! The response future: mostly the one of the service inside.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use stockade_core::{LayerError, Rejected, internal::Cold};
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
    enum State<S, Req, F> {
        // The call has passed.
        Running { #[pin] future: F },
        // The call has not passed yet. Then: Running.
        // Taken when it has ended.
        Slow { slow: Cold<Slow<S, Req>> },
    }
}

/// What most calls never are. They only ask whether they are, and carry no room for it about.
pub(crate) enum Slow<S, Req> {
    Waiting(Pin<Box<Waiting<S, Req>>>),
    Refused(Rejected),
}

pin_project! {
    /// A call that waits for its token, and then for the service inside.
    pub(crate) struct Waiting<S, Req> {
        #[pin]
        waiter: Waiter,
        served: bool,
        service: S,
        request: Option<Req>,
    }
}

// === impl ResponseFuture ===

impl<S, Req> ResponseFuture<S, Req>
where
    S: Service<Req>,
{
    #[inline(always)]
    pub(crate) fn running(future: S::Future) -> Self {
        Self { state: State::Running { future } }
    }

    #[inline(always)]
    pub(crate) fn slow(slow: Slow<S, Req>) -> Self {
        let slow = match slow {
            Slow::Waiting(waiting) => Slow::Waiting(waiting),
            Slow::Refused(rejected) => Slow::Refused(rejected.in_words()),
        };
        Self { state: State::Slow { slow: Cold::new(slow) } }
    }
}

impl<S, Req> Future for ResponseFuture<S, Req>
where
    S: Service<Req>,
    S::Error: LayerError,
{
    type Output = Result<S::Response, S::Error>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProj::Running { future } => return future.poll(cx),
                StateProj::Slow { slow } => {
                    let future = ready!(Slow::poll(slow, cx))?;
                    state.set(State::Running { future });
                }
            }
        }
    }
}

// === impl Slow ===

impl<S, Req> Slow<S, Req> {
    pub(crate) fn waiting(waiter: Waiter, service: S, request: Req) -> Self {
        let waiting = Waiting { waiter, served: false, service, request: Some(request) };
        Self::Waiting(Box::pin(waiting))
    }
}

impl<S, Req> Slow<S, Req>
where
    S: Service<Req>,
    S::Error: LayerError,
{
    /// Ready when the call has passed, with its future; or with what ends it.
    #[cold]
    #[inline(never)]
    fn poll(slow: &mut Cold<Self>, cx: &mut Context<'_>) -> Poll<Result<S::Future, S::Error>> {
        let passed = match slow.get_mut() {
            Some(Self::Waiting(waiting)) => ready!(waiting.as_mut().poll(cx)),
            Some(Self::Refused(rejected)) => Err(rejected.into_error()),
            None => panic!("`ResponseFuture` polled after it was ready"),
        };
        drop(slow.take());
        Poll::Ready(passed)
    }
}

impl<S, Req> Waiting<S, Req>
where
    S: Service<Req>,
    S::Error: LayerError,
{
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<S::Future, S::Error>> {
        let this = self.project();
        if !*this.served {
            if let Err(rejected) = ready!(this.waiter.poll(cx)) {
                return Poll::Ready(Err(rejected.into_error()));
            }
            *this.served = true;
        }
        ready!(this.service.poll_ready(cx))?;
        let request = this.request.take().expect("a call that panicked is not polled again");
        Poll::Ready(Ok(this.service.call(request)))
    }
}

impl<S, Req> fmt::Debug for ResponseFuture<S, Req>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Running { .. } => "running",
            State::Slow { slow } => match slow.get() {
                Some(Slow::Waiting(_)) => "waiting",
                Some(Slow::Refused(_)) => "refused",
                None => "done",
            },
        };
        f.debug_struct("ResponseFuture").field("state", &state).finish_non_exhaustive()
    }
}
