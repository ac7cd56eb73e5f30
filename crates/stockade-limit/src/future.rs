use std::{
    fmt, mem,
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
    enum State<S, F, Req> {
        // Enters from the start, or from Slow.
        Running { #[pin] future: F, permit: Permit },
        // Enters from the start, or from Running when that has ended.
        Slow { slow: Slow<S, Req> },
    }
}

/// What most calls never are. They only ask whether they are, and carry no room for it about.
enum Slow<S, Req> {
    /// Leaves to Running when its turn has come; to Done when it has not, or with an error of readiness.
    Queued(Box<Waiting<S, Req>>),
    Refused(Rejected),
    Done,
}

struct Waiting<S, Req> {
    service: S,
    request: Req,
    place: Place,
}

enum Place {
    Queued(Ticket),
    Entered(Permit),
}

/// A place in flight.
pub(crate) struct Permit(Lease<Shared>);

/// A place in the queue, and the time that it is good for.
pub(crate) struct Ticket {
    state: Lease<Shared>,
    /// None once the turn has been taken.
    key: Option<Key>,
    until: Option<Deadline>,
    timer: Option<Timer<Shared>>,
}

// === impl ResponseFuture ===

impl<S: Service<Req>, Req> ResponseFuture<S, Req> {
    #[inline]
    pub(crate) fn running(future: S::Future, permit: Permit) -> Self {
        Self { state: State::Running { future, permit } }
    }

    pub(crate) fn waiting(service: S, request: Req, ticket: Ticket) -> Self {
        let waiting = Waiting { service, request, place: Place::Queued(ticket) };
        Self { state: State::Slow { slow: Slow::Queued(Box::new(waiting)) } }
    }

    pub(crate) fn refused(rejected: Rejected) -> Self {
        Self { state: State::Slow { slow: Slow::Refused(rejected) } }
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
                    state.set(State::Slow { slow: Slow::Done });
                    return Poll::Ready(result);
                }
                StateProj::Slow { slow } => match ready!(slow.poll(cx)) {
                    Err(error) => return Poll::Ready(Err(error)),
                    Ok((mut service, request, permit)) => {
                        state.set(State::Running { future: service.call(request), permit });
                    }
                },
            }
        }
    }
}

impl<S: Service<Req>, Req> fmt::Debug for ResponseFuture<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Running { .. } => "running",
            State::Slow { slow: Slow::Queued(_) } => "queued",
            State::Slow { slow: Slow::Refused(_) } => "refused",
            State::Slow { slow: Slow::Done } => "done",
        };
        f.debug_tuple("ResponseFuture").field(&state).finish()
    }
}

// === impl Slow ===

impl<S, Req> Slow<S, Req>
where
    S: Service<Req>,
    S::Error: LayerError,
{
    /// Ready when the call is in, and its service is ready; or with what ends it.
    #[cold]
    #[inline(never)]
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(S, Req, Permit), S::Error>> {
        let ready = match self {
            Self::Queued(waiting) => ready!(waiting.poll(cx)),
            Self::Refused(rejected) => Err(rejected.into_error()),
            Self::Done => panic!("`ResponseFuture` polled after it was ready"),
        };
        let slow = mem::replace(self, Self::Done);
        ready?;
        let Self::Queued(waiting) = slow else { unreachable!("it was queued") };
        let Waiting { service, request, place } = *waiting;
        let Place::Entered(permit) = place else { unreachable!("it has entered") };
        Poll::Ready(Ok((service, request, permit)))
    }
}

// === impl Waiting ===

impl<S, Req> Waiting<S, Req>
where
    S: Service<Req>,
    S::Error: LayerError,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        if let Place::Queued(ticket) = &mut self.place {
            if let Err(reason) = ready!(ticket.poll(cx)) {
                return Poll::Ready(Err(ticket.state.rejected(reason).into_error()));
            }
            self.place = Place::Entered(ticket.take());
        }
        self.service.poll_ready(cx)
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
        let state = &self.state;
        let timer =
            self.timer.get_or_insert_with(|| Timer::register(state.clone(), until.fix(), cx));
        timer.poll(cx).map(|()| Err(Reason::WaitExceeded))
    }

    /// The turn has come: the place in the queue becomes one in flight.
    fn take(&mut self) -> Permit {
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
