use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use stockade_core::LayerError;

use crate::stopwatch::Stopwatch;

pin_project! {
    /// The response future of a [`Timeout`](crate::Timeout).
    ///
    /// The call inside is polled before the timer is looked at, so an answer that is there in time is never lost.
    /// When the time is up the call inside is dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the call inside, and leaves no timer behind.
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        // Leaves to TimedOut when the time is up.
        Running {
            #[pin]
            future: F,
            // None if the call has no timeout.
            stopwatch: Option<Stopwatch>,
        },
        TimedOut,
    }
}

// === impl ResponseFuture ===

impl<F> ResponseFuture<F> {
    /// Of a call without a limit.
    #[inline(always)]
    pub(crate) const fn unlimited(future: F) -> Self {
        Self { state: State::Running { future, stopwatch: None } }
    }

    #[inline(always)]
    pub(crate) const fn limited(future: F, stopwatch: Stopwatch) -> Self {
        Self { state: State::Running { future, stopwatch: Some(stopwatch) } }
    }
}

impl<F, T, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: LayerError,
{
    type Output = Result<T, E>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        let StateProj::Running { future, stopwatch } = state.as_mut().project() else {
            panic!("`ResponseFuture` polled after its time was up");
        };
        let Some(stopwatch) = stopwatch else { return future.poll(cx) };
        let starved = stopwatch.is_starved();
        let polled = stopwatch.deadline.enter(|| future.poll(cx));
        if polled.is_ready() {
            // The call that has ended is dropped with this future: to drop it here costs more than all the rest.
            stopwatch.stop();
            return polled;
        }
        let elapsed = ready!(stopwatch.poll(starved, cx));
        state.set(State::TimedOut);
        Poll::Ready(Err(elapsed.into_error()))
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stopwatch = match &self.state {
            State::Running { stopwatch, .. } => stopwatch.as_ref(),
            State::TimedOut => None,
        };
        f.debug_struct("ResponseFuture").field("stopwatch", &stopwatch).finish_non_exhaustive()
    }
}
