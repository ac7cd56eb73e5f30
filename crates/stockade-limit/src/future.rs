use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use stockade_core::{Key, LayerError, Lease, Reason, Rejected, Timer, deadline::Deadline};
use tower_service::Service;

use crate::layer::State as Shared;

pin_project! {
    /// The answer of a [`Limit`](crate::Limit).
    ///
    /// Its place is free again as soon as the call inside has ended, although the future be kept.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the call, or the wait, and gives its place to the next.
    pub struct ResponseFuture<S, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S, S::Future, Req>,
    }
}

pin_project! {
    #[project = StateProj]
    #[project_replace = StateOwn]
    enum State<S, F, Req> {
        // Enters from the start, or from Readying; leaves to Done.
        Running { #[pin] future: F, permit: Permit },
        // Enters from the start; leaves to Readying when its turn has come, to Refused when it has not.
        Waiting { service: S, request: Req, ticket: Ticket },
        // Enters from Waiting; leaves to Running, or to Done with an error of readiness.
        Readying { service: S, request: Req, permit: Permit },
        Refused { rejected: Rejected },
        Done,
    }
}

/// A place in flight.
pub(crate) struct Permit(Lease<Shared>);

/// A place in the queue, and the time that it is good for.
pub(crate) struct Ticket {
    state: Lease<Shared>,
    /// None once the turn has been taken.
    key: Option<Key>,
    until: Option<Deadline>,
    timer: Option<Timer>,
}

// === impl ResponseFuture ===

impl<S: Service<Req>, Req> ResponseFuture<S, Req> {
    #[inline]
    pub(crate) fn running(future: S::Future, permit: Permit) -> Self {
        Self { state: State::Running { future, permit } }
    }

    pub(crate) fn waiting(service: S, request: Req, ticket: Ticket) -> Self {
        Self { state: State::Waiting { service, request, ticket } }
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

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProj::Running { future, .. } => {
                    let result = ready!(future.poll(cx));
                    state.set(State::Done);
                    return Poll::Ready(result);
                }
                StateProj::Waiting { ticket, .. } => {
                    let turn = ready!(ticket.poll(cx));
                    if let StateOwn::Waiting { service, request, ticket } =
                        state.as_mut().project_replace(State::Done)
                    {
                        state.set(match turn {
                            Ok(()) => State::Readying { service, request, permit: ticket.take() },
                            Err(reason) => {
                                State::Refused { rejected: ticket.state.rejected(reason) }
                            }
                        });
                    }
                }
                StateProj::Readying { service, .. } => {
                    if let Err(error) = ready!(service.poll_ready(cx)) {
                        state.set(State::Done);
                        return Poll::Ready(Err(error));
                    }
                    if let StateOwn::Readying { mut service, request, permit } =
                        state.as_mut().project_replace(State::Done)
                    {
                        state.set(State::Running { future: service.call(request), permit });
                    }
                }
                StateProj::Refused { rejected } => {
                    let rejected = *rejected;
                    state.set(State::Done);
                    return Poll::Ready(Err(rejected.into_error()));
                }
                StateProj::Done => panic!("`ResponseFuture` polled after it was ready"),
            }
        }
    }
}

impl<S: Service<Req>, Req> fmt::Debug for ResponseFuture<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Running { .. } => "running",
            State::Waiting { .. } => "waiting",
            State::Readying { .. } => "readying",
            State::Refused { .. } => "refused",
            State::Done => "done",
        };
        f.debug_tuple("ResponseFuture").field(&state).finish()
    }
}

// === impl Permit ===

impl Permit {
    /// Takes over a place that has been entered.
    #[inline]
    pub(crate) fn new(state: Lease<Shared>) -> Self {
        Self(state)
    }
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        self.0.gate.leave();
    }
}

// === impl Ticket ===

impl Ticket {
    pub(crate) fn new(state: Lease<Shared>, key: Key) -> Self {
        let until = state.max_wait.map(|wait: Duration| {
            // The wait counts from the call.
            let mut until = Deadline::after(wait);
            until.fix();
            until
        });
        Self { state, key: Some(key), until, timer: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        let key = self.key.expect("a ticket is polled until it is taken");
        if self.state.gate.poll_turn(key, cx.waker()).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let Some(until) = &mut self.until else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Timer::register(until.fix(), cx));
        timer.poll(cx).map(|()| Err(Reason::WaitExceeded))
    }

    /// The turn has come: the place in the queue becomes one in flight.
    fn take(mut self) -> Permit {
        self.key = None;
        Permit(self.state.clone())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.state.gate.give_up(key);
        }
    }
}
