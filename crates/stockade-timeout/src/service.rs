use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use stockade_core::{Bypass, LayerError, NoBypass};
use tower_service::Service;

use crate::{
    Fixed, PerRequest, ResponseFuture, TimeoutHandle,
    readiness::Readiness,
    shared::{Lease, NO_LIMIT},
    stopwatch::Stopwatch,
};

/// Ends a call that takes longer than its limit; made by [`TimeoutLayer`](crate::TimeoutLayer).
///
/// - `poll_ready` is that of the service inside, and the time spent there does not count. With
///   [`readiness`](crate::TimeoutLayer::readiness) it does.
/// - `call` starts the call at once, under the deadline.
/// - A clone is not ready, and shares the limit.
/// - Dropping the service, or a response future, leaves no timer behind.
pub struct Timeout<S, P = Fixed, B = NoBypass> {
    pub(crate) inner: S,
    pub(crate) lease: Arc<Lease>,
    pub(crate) per_request: P,
    pub(crate) bypass: B,
    /// There if the time spent in `poll_ready` counts.
    pub(crate) readiness: Option<Box<Readiness>>,
}

stockade_core::accessors!(Timeout<S, P, B>);
stockade_core::shown!(Timeout<S: fmt::Debug, P, B>: inner, lease);

// === impl Timeout ===

impl<S, P, B> Timeout<S, P, B> {
    /// Shows and changes the limit that this service shares.
    pub fn handle(&self) -> TimeoutHandle {
        TimeoutHandle(Arc::clone(&self.lease))
    }
}

impl<S, P, B, Req> Service<Req> for Timeout<S, P, B>
where
    S: Service<Req>,
    S::Error: LayerError,
    P: PerRequest<Req>,
    B: Bypass<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    /// # Errors
    ///
    /// Those of the service inside; with [`readiness`](crate::TimeoutLayer::readiness) also
    /// [`Elapsed`](stockade_core::Reason::Elapsed). The service can be polled again after that.
    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let inner = &mut self.inner;
        match &mut self.readiness {
            None => inner.poll_ready(cx),
            Some(readiness) => readiness.poll(&self.lease, cx, &mut |cx| inner.poll_ready(cx)),
        }
    }

    // Without it an optimized build calls this, and moves the future through memory.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn call(&mut self, request: Req) -> Self::Future {
        let limit = match self.lease.limit_now() {
            NO_LIMIT => NO_LIMIT,
            _ if self.bypass.passes_by(&request) => NO_LIMIT,
            of_layer => self.per_request.within(&request, of_layer),
        };
        let spent = match &mut self.readiness {
            Some(readiness) => readiness.take_spent(),
            None => 0,
        };
        let mut stopwatch = Stopwatch::new(limit, spent, &self.lease);
        let future = {
            let _scope = stopwatch.scope();
            Some(self.inner.call(request))
        };
        ResponseFuture { future, stopwatch }
    }
}

impl<S: Clone, P: Clone, B: Clone> Clone for Timeout<S, P, B> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            lease: Arc::clone(&self.lease),
            per_request: self.per_request.clone(),
            bypass: self.bypass.clone(),
            readiness: self.readiness.as_ref().map(|_| Box::default()),
        }
    }
}
