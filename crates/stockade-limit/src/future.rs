use std::{
    fmt,
    mem::{self, ManuallyDrop},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use stockade_core::{LayerError, Reason};
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
        state: State<S::Future>,
        held: Held<S, Req, A>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        // Enters from the start, or from Waiting. The place is left once the call has ended.
        Running { #[pin] future: F },
        // Enters from the start; leaves to Running.
        Waiting,
    }
}

/// What a call holds that has not ended. It is dropped out of line, as with [`Cold`](stockade_core::internal::Cold), all of it by
/// one question. `Cold` itself would have to take it out to end it, which costs two to four instructions more.
struct Held<S, Req, A: Meter>(ManuallyDrop<Holds<S, Req, A>>);

enum Holds<S, Req, A: Meter> {
    Nothing,
    Place(Permit<A>),
    Slow(Slow<S, Req, A>),
}

/// What most calls never are.
pub(crate) enum Slow<S, Req, A: Meter> {
    /// Leaves to Running when its turn has come; ends when it has not, or with an error of readiness.
    Queued(Box<Waiting<S, Req, A>>),
    /// The refusals: of each what says the rest, which is one word, and in a register on its way.
    Full(Arc<Shared<A>>),
    Expired(Arc<Shared<A>>),
}

const AFTER: &str = "`ResponseFuture` polled after it was ready";

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
        Self { state: State::Running { future: call() }, held: Held::new(Holds::Place(permit)) }
    }

    #[inline(always)]
    pub(crate) fn slow(slow: Slow<S, Req, A>) -> Self {
        Self { state: State::Waiting, held: Held::new(Holds::Slow(slow)) }
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
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Running { future } => {
                    // Told apart here and in each layer, so that a success moves nothing but itself, and not
                    // all that an error has room for.
                    return match future.poll(cx) {
                        Poll::Ready(Ok(response)) => {
                            this.held.end(Ok(&response));
                            Poll::Ready(Ok(response))
                        }
                        Poll::Ready(Err(error)) => {
                            this.held.end(Err(&error));
                            Poll::Ready(Err(error))
                        }
                        Poll::Pending => Poll::Pending,
                    };
                }
                StateProj::Waiting => {
                    let (mut service, request, mut permit) = ready!(this.held.poll(cx))?;
                    permit.begin();
                    let future = service.call(request);
                    *this.held.0 = Holds::Place(permit);
                    this.state.set(State::Running { future });
                }
            }
        }
    }
}

impl<S: Service<Req>, Req, A: Meter> fmt::Debug for ResponseFuture<S, Req, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &*self.held.0 {
            Holds::Nothing => "done",
            Holds::Place(_) => "running",
            Holds::Slow(Slow::Queued(_)) => "queued",
            Holds::Slow(Slow::Full(_) | Slow::Expired(_)) => "refused",
        };
        f.debug_tuple("ResponseFuture").field(&state).finish()
    }
}

// === impl Held ===

impl<S, Req, A: Meter> Held<S, Req, A> {
    const fn new(holds: Holds<S, Req, A>) -> Self {
        Self(ManuallyDrop::new(holds))
    }

    /// The call has ended: its place is free.
    #[inline(always)]
    fn end<T, E>(&mut self, result: Result<&T, &E>)
    where
        A: Measure<T, E>,
    {
        let Holds::Place(permit) = &mut *self.0 else { panic!("{AFTER}") };
        permit.end(result);
        *self.0 = Holds::Nothing;
    }

    /// Ready when the call is in, and its service is ready; or with what ends it.
    #[cold]
    #[inline(never)]
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Ready<S, Req, A>, S::Error>>
    where
        S: Service<Req>,
        S::Error: LayerError,
    {
        let ready = match &mut *self.0 {
            Holds::Slow(Slow::Queued(waiting)) => ready!(waiting.poll(cx)),
            Holds::Slow(Slow::Full(state)) => Err(state.rejected(Reason::QueueFull).into_error()),
            Holds::Slow(Slow::Expired(state)) => Err(state.rejected(Reason::Expired).into_error()),
            Holds::Place(_) | Holds::Nothing => panic!("{AFTER}"),
        };
        let holds = mem::replace(&mut *self.0, Holds::Nothing);
        ready?;
        let Holds::Slow(Slow::Queued(waiting)) = holds else { unreachable!("it was queued") };
        let Waiting { service, request, place } = *waiting;
        let permit = place.entered().expect("it has entered");
        Poll::Ready(Ok((service, request, permit)))
    }
}

impl<S, Req, A: Meter> Drop for Held<S, Req, A> {
    #[inline(always)]
    fn drop(&mut self) {
        if !matches!(*self.0, Holds::Nothing) {
            drop_apart(self);
        }
    }
}

#[cold]
#[inline(never)]
fn drop_apart<S, Req, A: Meter>(held: &mut Held<S, Req, A>) {
    *held.0 = Holds::Nothing;
}

// === impl Slow ===

impl<S, Req, A: Meter> Slow<S, Req, A> {
    pub(crate) fn waiting(service: S, request: Req, ticket: Ticket<A>) -> Self {
        let waiting = Waiting { service, request, place: Place::Queued(ticket) };
        Self::Queued(Box::new(waiting))
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
