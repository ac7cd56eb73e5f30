use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use stockade_core::{LayerError, Lease, Timer, Timers, deadline::Deadline};

use crate::layer::Settings;

pin_project! {
    /// The answer of a [`Timeout`](crate::Timeout).
    ///
    /// The call inside is polled before the timer is looked at, so an answer that is there in time is never
    /// lost; when the timer has fired, the call is dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the call inside and leaves no timer behind.
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        // Enters from the start; leaves to Done with an answer, or when the time is up.
        Running { #[pin] future: F, deadline: Deadline, settings: Settings, clock: Clock },
        Done,
    }
}

/// The call's timer, which is registered at the first pending poll.
enum Clock {
    Stopped(Option<Lease<Timers>>),
    Running(Timer<Timers>),
}

// === impl ResponseFuture ===

impl<F> ResponseFuture<F> {
    #[inline]
    pub(crate) fn new(
        future: F,
        deadline: Deadline,
        settings: Settings,
        timers: Lease<Timers>,
    ) -> Self {
        let clock = Clock::Stopped(Some(timers));
        Self { state: State::Running { future, deadline, settings, clock } }
    }
}

impl<F, T, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: LayerError,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        let StateProj::Running { future, deadline, settings, clock } = state.as_mut().project()
        else {
            panic!("`ResponseFuture` polled after it was ready");
        };
        let result = match deadline.enter(|| future.poll(cx)) {
            Poll::Ready(result) => result,
            Poll::Pending => {
                if clock.poll(deadline, cx).is_pending() {
                    return Poll::Pending;
                }
                Err(settings.elapsed().into_error())
            }
        };
        state.set(State::Done);
        Poll::Ready(result)
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("ResponseFuture");
        match &self.state {
            State::Running { deadline, settings, .. } => {
                debug.field("limit", &settings.limit).field("deadline", &deadline.fixed());
            }
            State::Done => {
                debug.field("done", &true);
            }
        }
        debug.finish_non_exhaustive()
    }
}

// === impl Clock ===

impl Clock {
    /// Ready when the time is up.
    fn poll(&mut self, deadline: &mut Deadline, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Running(timer) => timer.poll(cx),
            Self::Stopped(timers) => {
                let timers = timers.take().expect("the lease is taken once");
                *self = Self::Running(Timer::register(timers, deadline.fix(), cx));
                Poll::Pending
            }
        }
    }
}
