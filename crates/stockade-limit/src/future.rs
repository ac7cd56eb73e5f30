use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use stockade_core::{LayerError, Rare, Reason};
use tower_service::Service;

use crate::{
    meter::{Fixed, Measure, Meter},
    permit::{Permit, Place, Ticket},
    state::State as Shared,
};

pin_project! {
    /// The answer of a [`Limit`](crate::Limit), or of a [`Backpressure`](crate::Backpressure).
    ///
    /// Its place is free again as soon as the call inside has ended, although the future be kept.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the call, or the wait, and gives its place to the next.
    pub struct ResponseFuture<S, Req, A = Fixed>
    where
        S: Service<Req>,
        A: Meter,
    {
        #[pin]
        state: State<S, S::Future, Req, A>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, F, Req, A: Meter> {
        // Enters from the start, or from Slow. The permit is left once the call has ended.
        Running { #[pin] future: F, permit: Permit<A> },
        // Enters from the start; leaves to Running.
        // Taken when it has ended.
        Slow { slow: Rare<Slow<S, Req, A>> },
    }
}

/// What most calls never are. They only ask whether they are, and carry no room for it about.
pub(crate) enum Slow<S, Req, A: Meter> {
    /// Leaves to Running when its turn has come; ends when it has not, or with an error of readiness.
    Queued(Box<Waiting<S, Req, A>>),
    /// The refusals: of each what says the rest, which is one word, and in a register on its way.
    Full(Arc<Shared<A>>),
    Expired(Arc<Shared<A>>),
}

/// A call that is in, and its service is ready.
type Ready<S, Req, A> = (S, Req, Permit<A>);

pub(crate) struct Waiting<S, Req, A: Meter> {
    service: S,
    request: Req,
    place: Place<A>,
}

// === impl ResponseFuture ===

impl<S: Service<Req>, Req, A: Meter> ResponseFuture<S, Req, A> {
    #[inline(always)]
    pub(crate) fn running(mut permit: Permit<A>, call: impl FnOnce() -> S::Future) -> Self {
        permit.begin();
        Self { state: State::Running { future: call(), permit } }
    }

    #[inline(always)]
    pub(crate) fn slow(slow: Rare<Slow<S, Req, A>>) -> Self {
        Self { state: State::Slow { slow } }
    }
}

impl<S, Req, A> Future for ResponseFuture<S, Req, A>
where
    S: Service<Req>,
    S::Error: LayerError,
    A: Measure<S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProj::Running { future, permit } => {
                    // Told apart here and in each layer, so that a success moves nothing but itself, and not
                    // all that an error has room for.
                    return match future.poll(cx) {
                        Poll::Ready(Ok(response)) => {
                            permit.end(Ok(&response));
                            Poll::Ready(Ok(response))
                        }
                        Poll::Ready(Err(error)) => {
                            permit.end(Err(&error));
                            Poll::Ready(Err(error))
                        }
                        Poll::Pending => Poll::Pending,
                    };
                }
                StateProj::Slow { slow } => match ready!(Slow::poll(slow, cx)) {
                    Err(error) => return Poll::Ready(Err(error)),
                    Ok((mut service, request, mut permit)) => {
                        permit.begin();
                        let future = service.call(request);
                        state.set(State::Running { future, permit });
                    }
                },
            }
        }
    }
}

impl<S: Service<Req>, Req, A: Meter> fmt::Debug for ResponseFuture<S, Req, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Running { permit, .. } if permit.is_left() => "done",
            State::Running { .. } => "running",
            State::Slow { slow } => match slow.get() {
                Some(Slow::Queued(_)) => "queued",
                Some(Slow::Full(_) | Slow::Expired(_)) => "refused",
                None => "done",
            },
        };
        f.debug_tuple("ResponseFuture").field(&state).finish()
    }
}

// === impl Slow ===

impl<S, Req, A: Meter> Slow<S, Req, A> {
    pub(crate) fn waiting(service: S, request: Req, ticket: Ticket<A>) -> Self {
        let waiting = Waiting { service, request, place: Place::Queued(ticket) };
        Self::Queued(Box::new(waiting))
    }
}

impl<S, Req, A> Slow<S, Req, A>
where
    S: Service<Req>,
    S::Error: LayerError,
    A: Meter,
{
    /// Ready when the call is in, and its service is ready; or with what ends it.
    #[cold]
    #[inline(never)]
    fn poll(
        slow: &mut Rare<Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Ready<S, Req, A>, S::Error>> {
        let ready = match slow.get_mut() {
            Some(Self::Queued(waiting)) => ready!(waiting.poll(cx)),
            Some(Self::Full(state)) => Err(state.rejected(Reason::QueueFull).into_error()),
            Some(Self::Expired(state)) => Err(state.rejected(Reason::Expired).into_error()),
            None => panic!("`ResponseFuture` polled after it was ready"),
        };
        let slow = slow.take();
        ready?;
        let Some(Self::Queued(waiting)) = slow else { unreachable!("it was queued") };
        let Waiting { service, request, place } = *waiting;
        let permit = place.entered().expect("it has entered");
        Poll::Ready(Ok((service, request, permit)))
    }
}

// === impl Waiting ===

impl<S, Req, A> Waiting<S, Req, A>
where
    S: Service<Req>,
    S::Error: LayerError,
    A: Meter,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        if let Err(rejected) = ready!(self.place.poll(cx)) {
            return Poll::Ready(Err(rejected.into_error()));
        }
        self.service.poll_ready(cx)
    }
}
