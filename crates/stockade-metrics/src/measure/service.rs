use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use stockade_core::{Bypass, Classify, DefaultClassify, LayerError, NoBypass};
use tower_service::Service;

use super::{MeasureHandle, ResponseFuture, call::Call, shard::Shared};

/// Counts and times the calls of the service inside; made by [`MeasureLayer`](crate::MeasureLayer).
///
/// - `poll_ready` is that of the service inside, and neither the time spent there nor its errors count.
/// - `call` calls the service inside at once.
/// - A clone is not ready, and counts in the same place.
/// - Dropping the service changes nothing.
pub struct Measure<S, C = DefaultClassify, B = NoBypass> {
    inner: S,
    shared: Arc<Shared>,
    classify: C,
    bypass: B,
}

stockade_core::accessors!(Measure<S, C, B>);

// === impl Measure ===

impl<S, C, B> Measure<S, C, B> {
    pub(crate) const fn new(inner: S, shared: Arc<Shared>, classify: C, bypass: B) -> Self {
        Self { inner, shared, classify, bypass }
    }

    /// Shows what was measured.
    pub fn handle(&self) -> MeasureHandle {
        MeasureHandle::new(Arc::clone(&self.shared))
    }
}

impl<S, C, B, Req> Service<Req> for Measure<S, C, B>
where
    S: Service<Req>,
    S::Error: LayerError,
    C: Classify<S::Response, S::Error> + Clone,
    B: Bypass<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, C>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    // Without it an optimized build calls this, and moves the future through memory; see the group "measure" in the
    // benchmarks.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn call(&mut self, request: Req) -> Self::Future {
        // Before the call counts, because both may panic.
        let classify = self.classify.clone();
        let counts = self.shared.is_enabled() && !self.bypass.passes_by(&request);
        let call = counts.then(|| Call::new(self.shared.shard()));
        let future = self.inner.call(request);
        ResponseFuture::new(future, call, classify)
    }
}

impl<S: Clone, C: Clone, B: Clone> Clone for Measure<S, C, B> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            shared: Arc::clone(&self.shared),
            classify: self.classify.clone(),
            bypass: self.bypass.clone(),
        }
    }
}

/// Without the closures, which cannot be shown.
impl<S: fmt::Debug, C, B> fmt::Debug for Measure<S, C, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Measure").field("inner", &self.inner).finish_non_exhaustive()
    }
}
