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
        ticket: Ticket<C>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, Req, F> {
        // Also when the call has ended: then the ticket is settled.
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
    #[inline(always)]
    pub(crate) const fn running(future: S::Future, ticket: Ticket<C>) -> Self {
        Self { state: State::Running { future }, ticket }
    }

    pub(crate) const fn waiting(service: S, request: Req, ticket: Ticket<C>) -> Self {
        Self { state: State::Waiting { service, request: Some(request) }, ticket }
    }

    pub(crate) const fn refused(rejected: Rejected, classify: C) -> Self {
        Self { state: State::Refused { rejected }, ticket: Ticket::none(classify) }
    }
}

impl<S, Req> State<S, Req, S::Future>
where
    S: Service<Req>,
{
    /// Waits for the service inside, then calls it: kept apart, as it is rare.
    #[cold]
    fn wait<C>(
        mut self: Pin<&mut Self>,
        ticket: &mut Ticket<C>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), S::Error>> {
        let StateProj::Waiting { service, request } = self.as_mut().project() else {
            return Poll::Ready(Ok(()));
        };
        let panicked = ticket.guard();
        let readied = service.poll_ready(cx);
        panicked.disarm();
        if readied.is_pending() {
            ticket.pending();
        }
        if let Err(error) = ready!(readied) {
            self.set(State::Done);
            return Poll::Ready(Err(error));
        }
        let request = request.take().expect("a call that panicked is not polled again");
        let panicked = ticket.guard();
        let future = service.call(request);
        panicked.disarm();
        self.set(State::Running { future });
        Poll::Ready(Ok(()))
    }
}

impl<S, Req, C> Future for ResponseFuture<S, Req, C>
where
    S: Service<Req>,
    S::Error: LayerError,
    C: Classify<S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let result = loop {
            match this.state.as_mut().project() {
                StateProj::Running { future } => {
                    let panicked = this.ticket.guard();
                    let polled = future.poll(cx);
                    panicked.disarm();
                    match polled {
                        Poll::Ready(result) => break result,
                        Poll::Pending => {
                            this.ticket.pending();
                            return Poll::Pending;
                        }
                    }
                }
                StateProj::Waiting { .. } => {
                    let waited = this.state.as_mut().wait(this.ticket, cx);
                    if let Err(error) = ready!(waited) {
                        break Err(error);
                    }
                }
                StateProj::Refused { rejected } => {
                    let rejected = *rejected;
                    this.state.set(State::Done);
                    return Poll::Ready(Err(rejected.into_error()));
                }
                StateProj::Done => panic!("polled after completion"),
            }
        };
        // What it was admitted for is given back here; the finished future itself goes with this one, because
        // to take it apart now costs more than all the rest.
        this.ticket.judge(result.as_ref());
        Poll::Ready(result)
    }
}

impl<S, Req, C> fmt::Debug for ResponseFuture<S, Req, C>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Running { .. } if self.ticket.is_settled() => "done",
            State::Running { .. } => "running",
            State::Waiting { .. } => "waiting",
            State::Refused { .. } => "refused",
            State::Done => "done",
        };
        f.debug_tuple("ResponseFuture").field(&state).finish()
    }
}
