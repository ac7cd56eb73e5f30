use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use stockade_core::{Classify, LayerError};

use super::call::Call;

pin_project! {
    /// The response future of a [`Measure`](crate::Measure).
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the call inside, which then counts as dropped.
    pub struct ResponseFuture<F, C> {
        #[pin]
        future: F,
        // None if it is not measured.
        call: Option<Call>,
        classify: C,
    }
}

// === impl ResponseFuture ===

impl<F, C> ResponseFuture<F, C> {
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) const fn new(future: F, call: Option<Call>, classify: C) -> Self {
        Self { future, call, classify }
    }
}

impl<F, C, T, E> Future for ResponseFuture<F, C>
where
    F: Future<Output = Result<T, E>>,
    E: LayerError,
    C: Classify<T, E>,
{
    type Output = Result<T, E>;

    // Without it an optimized build calls this; see the group "measure" in the benchmarks.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(call) = this.call else { return this.future.poll(cx) };
        let result = ready!(call.enter(|| this.future.poll(cx)));
        call.end(this.classify, &result);
        Poll::Ready(result)
    }
}

/// Without the future inside and the classifier, which may be closures.
impl<F, C> fmt::Debug for ResponseFuture<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("call", &self.call).finish_non_exhaustive()
    }
}
