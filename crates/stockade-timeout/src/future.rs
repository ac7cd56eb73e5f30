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
        // Until the time is up.
        #[pin]
        pub(crate) future: Option<F>,
        pub(crate) stopwatch: Stopwatch,
    }
}

// === impl ResponseFuture ===

impl<F, T, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: LayerError,
{
    type Output = Result<T, E>;

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            panic!("`ResponseFuture` polled after its time was up");
        };
        let polled = {
            let _scope = this.stopwatch.scope();
            future.poll(cx)
        };
        if polled.is_ready() {
            // The call that has ended is dropped with this future: to drop it here costs more than all the rest.
            this.stopwatch.stop();
            return polled;
        }
        let elapsed = ready!(this.stopwatch.poll(cx));
        this.future.set(None);
        Poll::Ready(Err(elapsed))
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("stopwatch", &self.future.as_ref().map(|_| &self.stopwatch))
            .finish_non_exhaustive()
    }
}
