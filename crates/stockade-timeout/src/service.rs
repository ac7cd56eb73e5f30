use std::task::{Context, Poll};

use stockade_core::{LayerError, deadline::Deadline};
use tower_service::Service;

use crate::{ResponseFuture, layer::Settings};

/// Ends a call that takes longer than its limit; made by [`TimeoutLayer`](crate::TimeoutLayer).
///
/// - `poll_ready` is that of the service inside. Time spent there does not count: keep what waits in the
///   response future, as the layers of this family do.
/// - `call` starts the call at once, under the deadline.
/// - A clone is not ready.
/// - Dropping the service, or a response future, gives the timer back.
#[derive(Clone, Debug)]
pub struct Timeout<S> {
    inner: S,
    settings: Settings,
}

stockade_core::accessors!(Timeout<S>);

// === impl Timeout ===

impl<S> Timeout<S> {
    pub(crate) fn new(inner: S, settings: Settings) -> Self {
        Self { inner, settings }
    }
}

impl<S, Req> Service<Req> for Timeout<S>
where
    S: Service<Req>,
    S::Error: LayerError,
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
        let mut deadline = Deadline::after(self.settings.limit);
        let future = deadline.enter(|| self.inner.call(request));
        ResponseFuture::new(future, deadline, self.settings)
    }
}
