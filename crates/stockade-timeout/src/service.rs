use std::{
    fmt,
    task::{Context, Poll},
};

use stockade_core::{
    LayerError,
    deadline::{Deadline, Nanos},
};
use tower_service::Service;

use crate::{Fixed, PerRequest, ResponseFuture, layer::Settings};

/// Ends a call that takes longer than its limit; made by [`TimeoutLayer`](crate::TimeoutLayer).
///
/// - `poll_ready` is that of the service inside. Time spent there does not count: keep what waits in the
///   response future, as the layers of this family do.
/// - `call` starts the call at once, under the deadline.
/// - A clone is not ready.
/// - Dropping the service, or a response future, gives the timer back.
#[derive(Clone)]
pub struct Timeout<S, P = Fixed> {
    inner: S,
    settings: Settings,
    per_request: P,
}

stockade_core::accessors!(Timeout<S, P>);

// === impl Timeout ===

impl<S, P> Timeout<S, P> {
    pub(crate) fn new(inner: S, settings: Settings, per_request: P) -> Self {
        Self { inner, settings, per_request }
    }
}

impl<S, P, Req> Service<Req> for Timeout<S, P>
where
    S: Service<Req>,
    S::Error: LayerError,
    P: PerRequest<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    // Left to itself the compiler calls, and moves the future through memory.
    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        let mut settings = self.settings;
        if let Some(limit) = self.per_request.limit(&request) {
            settings.limit = settings.limit.min(Nanos::new(limit));
        }
        let mut deadline = Deadline::After(settings.limit);
        let future = deadline.enter(|| self.inner.call(request));
        ResponseFuture::new(future, deadline, settings)
    }
}

/// Without the closure, which cannot be shown.
impl<S: fmt::Debug, P> fmt::Debug for Timeout<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout")
            .field("inner", &self.inner)
            .field("limit", &self.settings.limit.get())
            .field("name", &self.settings.name())
            .finish_non_exhaustive()
    }
}
