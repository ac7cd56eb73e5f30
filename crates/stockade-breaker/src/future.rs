//! The future of a call.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use stockade_core::{Classify, LayerError, Rejected};
use tower_service::Service;

use crate::ticket::Ticket;

pin_project! {
    /// The response of a [`Breaker`](crate::Breaker).
    ///
    /// It never makes a call wait, except where the breaker began to let calls pass after the service
    /// inside was found not ready: then it waits for that first.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the call, and gives a probe's place back. It counts as a failure if the
    /// [deadline](stockade_core::deadline) of the call has passed, and for nothing otherwise.
    pub struct ResponseFuture<S, Req, C>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S, Req, S::Future>,
        // None in a call that was refused, or is settled.
        ticket: Option<Ticket<C>>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, Req, F> {
        Running { #[pin] future: F },
        Waiting { service: S, request: Option<Req> },
        Refused { rejected: Rejected },
        Done,
    }
}

// === impl ResponseFuture ===

impl<S, Req, C> ResponseFuture<S, Req, C>
where
    S: Service<Req>,
{
    #[inline]
    pub(crate) const fn running(future: S::Future, ticket: Option<Ticket<C>>) -> Self {
        Self { state: State::Running { future }, ticket }
    }

    pub(crate) const fn waiting(service: S, request: Req, ticket: Option<Ticket<C>>) -> Self {
        Self { state: State::Waiting { service, request: Some(request) }, ticket }
    }

    pub(crate) const fn refused(rejected: Rejected) -> Self {
        Self { state: State::Refused { rejected }, ticket: None }
    }
}

impl<S, Req, C> Future for ResponseFuture<S, Req, C>
where
    S: Service<Req>,
    S::Error: LayerError,
    C: Classify<S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let polled = loop {
            match this.state.as_mut().project() {
                StateProj::Running { future } => {
                    break Ticket::run(this.ticket, || future.poll(cx));
                }
                StateProj::Waiting { service, request } => {
                    match Ticket::run(this.ticket, || service.poll_ready(cx)) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                        Poll::Pending => break Poll::Pending,
                    }
                    let request = request.take().expect("a call that panicked is not polled again");
                    let future = Ticket::run(this.ticket, || service.call(request));
                    this.state.set(State::Running { future });
                }
                StateProj::Refused { rejected } => {
                    let rejected = *rejected;
                    this.state.set(State::Done);
                    return Poll::Ready(Err(rejected.into_error()));
                }
                StateProj::Done => panic!("polled after completion"),
            }
        };
        if polled.is_pending()
            && let Some(ticket) = this.ticket
        {
            ticket.pending();
        }
        let result = ready!(polled);
        // Before anything of the user's runs, which may panic: dropping the ticket gives the place back.
        let ticket = this.ticket.take();
        this.state.set(State::Done);
        if let Some(ticket) = ticket {
            ticket.judge(result.as_ref());
        }
        Poll::Ready(result)
    }
}

impl<S, Req, C> fmt::Debug for ResponseFuture<S, Req, C>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Running { .. } => "running",
            State::Waiting { .. } => "waiting",
            State::Refused { .. } => "refused",
            State::Done => "done",
        };
        f.debug_tuple("ResponseFuture").field(&state).finish()
    }
}
