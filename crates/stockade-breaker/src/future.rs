//! The future of a call.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use stockade_core::{Classify, LayerError, Rejected, internal::Cold};
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
        // All that is rare, so that the common case has one branch to take.
        // Taken when it has ended.
        Slow { slow: Cold<Slow<S, Req>> },
    }
}

pub(crate) enum Slow<S, Req> {
    Waiting(Box<Waiting<S, Req>>),
    Refused(Rejected),
}

/// A call that passed while the service inside was not ready.
pub(crate) struct Waiting<S, Req> {
    service: S,
    request: Option<Req>,
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

    #[inline(always)]
    pub(crate) fn slow(slow: Slow<S, Req>, ticket: Ticket<C>) -> Self {
        let slow = match slow {
            Slow::Waiting(waiting) => Slow::Waiting(waiting),
            Slow::Refused(rejected) => Slow::Refused(rejected.in_words()),
        };
        Self { state: State::Slow { slow: Cold::new(slow) }, ticket }
    }
}

// === impl Slow ===

impl<S, Req> Slow<S, Req> {
    pub(crate) fn waiting(service: S, request: Req) -> Self {
        Self::Waiting(Box::new(Waiting { service, request: Some(request) }))
    }
}

impl<S, Req> Slow<S, Req>
where
    S: Service<Req>,
    S::Error: LayerError,
{
    /// Waits for the service inside, and calls it then; or tells what ends the call.
    #[cold]
    fn poll<C>(
        slow: &mut Cold<Self>,
        ticket: &mut Ticket<C>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<S::Future, S::Error>> {
        let ended = match slow.get_mut() {
            Some(Self::Waiting(waiting)) => {
                let Waiting { service, request } = &mut **waiting;
                let panicked = ticket.guard();
                let readied = service.poll_ready(cx);
                panicked.disarm();
                if readied.is_pending() {
                    ticket.pending();
                }
                ready!(readied).map(|()| {
                    let request = request.take().expect("a call that panicked is not polled again");
                    let panicked = ticket.guard();
                    let future = service.call(request);
                    panicked.disarm();
                    future
                })
            }
            Some(Self::Refused(rejected)) => Err(rejected.into_error()),
            None => panic!("polled after completion"),
        };
        drop(slow.take());
        Poll::Ready(ended)
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
        loop {
            match this.state.as_mut().project() {
                StateProj::Running { future } => {
                    let panicked = this.ticket.guard();
                    let polled = future.poll(cx);
                    panicked.disarm();
                    // What it was admitted for is given back here; the finished future itself goes with this
                    // one, because to take it apart now costs more than all the rest. Told apart here and in
                    // each layer, so that a success moves nothing but itself, and not all that an error has
                    // room for.
                    return match polled {
                        Poll::Ready(Ok(response)) => {
                            this.ticket.judge(Ok(&response));
                            Poll::Ready(Ok(response))
                        }
                        Poll::Ready(Err(error)) => {
                            this.ticket.judge(Err(&error));
                            Poll::Ready(Err(error))
                        }
                        Poll::Pending => {
                            this.ticket.pending();
                            Poll::Pending
                        }
                    };
                }
                StateProj::Slow { slow } => match ready!(Slow::poll(slow, this.ticket, cx)) {
                    Ok(future) => this.state.set(State::Running { future }),
                    Err(error) => {
                        // Not of one that was refused.
                        if !this.ticket.is_settled() {
                            this.ticket.judge(Err(&error));
                        }
                        return Poll::Ready(Err(error));
                    }
                },
            }
        }
    }
}

impl<S, Req, C> fmt::Debug for ResponseFuture<S, Req, C>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Running { .. } if self.ticket.is_settled() => "done",
            State::Running { .. } => "running",
            State::Slow { slow } => match slow.get() {
                Some(Slow::Waiting(_)) => "waiting",
                Some(Slow::Refused(_)) => "refused",
                None => "done",
            },
        };
        f.debug_tuple("ResponseFuture").field(&state).finish()
    }
}
