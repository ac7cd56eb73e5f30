//! The response future.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use stockade_core::{LayerError, Rejected, deadline, internal::Key};
use tokio::sync::oneshot;
use tower_service::Service;

use super::gate::{Entry, Gate, Verdict};

pin_project! {
    /// The response future of [`Rate`](super::Rate).
    ///
    /// A call takes its place at the first poll, waits for its turn, then polls a clone of the service ready and calls
    /// it. So a token is spent before the service is ready.
    ///
    /// # Panics
    ///
    /// When it has to wait outside a tokio runtime with time, and when it is polled after it was ready.
    ///
    /// # Cancel safety
    ///
    /// Dropping it gives its place in the queue back, and a token that was on its way goes to the next call of this
    /// node. A token that was taken is spent.
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
        Slow { slow: Slow<S, Req> },
    }
}

/// What a call is before it has passed. It is small, because all calls carry the room for it.
enum Slow<S, Req> {
    Waiting(Box<Waiting<S, Req>>),
    Refused(Rejected),
    Done,
}

struct Waiting<S, Req> {
    place: Place,
    service: S,
    request: Option<Req>,
}

/// The place of a call, which it gives back.
struct Place {
    gate: Arc<Gate>,
    cost: u32,
    at: At,
}

enum At {
    /// Before the queue.
    Door,
    Queue(Key, oneshot::Receiver<Verdict>),
    Served,
}

// === impl ResponseFuture ===

impl<S, Req> ResponseFuture<S, Req>
where
    S: Service<Req>,
{
    pub(crate) fn running(future: S::Future) -> Self {
        Self { state: State::Running { future } }
    }

    pub(crate) fn waiting(gate: Arc<Gate>, cost: u32, service: S, request: Req) -> Self {
        let place = Place { gate, cost, at: At::Door };
        let waiting = Waiting { place, service, request: Some(request) };
        Self { state: State::Slow { slow: Slow::Waiting(Box::new(waiting)) } }
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
                StateProj::Running { future } => return future.poll(cx),
                StateProj::Slow { slow } => {
                    let future = ready!(slow.poll(cx))?;
                    state.set(State::Running { future });
                }
            }
        }
    }
}

impl<S, Req> Slow<S, Req>
where
    S: Service<Req>,
    S::Error: LayerError,
{
    /// Ready when the call has passed, with its future; or with what ends it.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<S::Future, S::Error>> {
        let passed = match self {
            Self::Waiting(waiting) => ready!(waiting.poll(cx)),
            Self::Refused(rejected) => Err(rejected.into_error()),
            Self::Done => panic!("`ResponseFuture` polled after it was ready"),
        };
        *self = Self::Done;
        Poll::Ready(passed)
    }
}

impl<S, Req> Waiting<S, Req>
where
    S: Service<Req>,
    S::Error: LayerError,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<S::Future, S::Error>> {
        if let Err(rejected) = ready!(self.place.poll(cx)) {
            return Poll::Ready(Err(rejected.into_error()));
        }
        ready!(self.service.poll_ready(cx))?;
        let request = self.request.take().expect("a call that panicked is not polled again");
        Poll::Ready(Ok(self.service.call(request)))
    }
}

impl Place {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejected>> {
        loop {
            match &mut self.at {
                At::Door => match self.gate.enter(self.cost, deadline::current()) {
                    Entry::Passed => self.at = At::Served,
                    Entry::Refused(rejected) => return Poll::Ready(Err(rejected)),
                    Entry::Waits(key, told) => self.at = At::Queue(key, told),
                },
                At::Queue(_, told) => match ready!(Pin::new(told).poll(cx)) {
                    Ok(Ok(())) => self.at = At::Served,
                    Ok(Err(rejected)) => {
                        self.at = At::Served;
                        return Poll::Ready(Err(rejected));
                    }
                    // Who asked for it has ended with its runtime.
                    Err(_) => self.at = At::Door,
                },
                At::Served => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let At::Queue(key, told) = &mut self.at {
            self.gate.leave(*key);
            if let Ok(Ok(())) = told.try_recv() {
                self.gate.give_back(self.cost);
            }
        }
    }
}

impl<S, Req> fmt::Debug for ResponseFuture<S, Req>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Running { .. } => "running",
            State::Slow { slow: Slow::Waiting(_) } => "waiting",
            State::Slow { slow: Slow::Refused(_) } => "refused",
            State::Slow { slow: Slow::Done } => "done",
        };
        f.debug_struct("ResponseFuture").field("state", &state).finish_non_exhaustive()
    }
}
