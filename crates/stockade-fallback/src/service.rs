//! The service.

use std::{
    fmt,
    task::{Context, Poll},
};

use stockade_core::{Bypass, NoBypass};
use tower_service::Service;

use crate::{Always, Handler, On, ResponseFuture};

/// Answers in place of calls to `S` that fail; made by [`FallbackLayer`](crate::FallbackLayer).
///
/// - `poll_ready` is that of the service inside. Its error is not answered: there is no call yet.
/// - `call` calls the service inside at once.
/// - A clone is not ready, and shares nothing.
///
/// # Errors
///
/// Those of the service inside that the fallback does not answer, and those that it answers with.
///
/// # Cancel safety
///
/// Dropping the response future drops the call, or the fallback that is under way.
#[derive(Clone)]
pub struct Fallback<S, H, O = Always, B = NoBypass> {
    inner: S,
    handler: H,
    on: O,
    bypass: B,
    name: Option<&'static str>,
}

stockade_core::accessors!(Fallback<S, H, O, B>);

// === impl Fallback ===

impl<S, H, O, B> Fallback<S, H, O, B> {
    pub(crate) fn new(
        inner: S,
        (handler, on, bypass): (H, O, B),
        name: Option<&'static str>,
    ) -> Self {
        Self { inner, handler, on, bypass, name }
    }
}

impl<S, H, O, B, Req> Service<Req> for Fallback<S, H, O, B>
where
    S: Service<Req>,
    H: Handler<Req, S::Response, S::Error> + Clone,
    O: On<S::Error> + Clone,
    B: Bypass<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, Req, S::Response, S::Error, H, O>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let kept = (!self.bypass.passes_by(&request)).then(|| self.handler.keep(&request));
        let future = self.inner.call(request);
        ResponseFuture::new(future, kept, self.handler.clone(), self.on.clone(), self.name)
    }
}

/// Without the closures, which cannot be shown.
impl<S: fmt::Debug, H, O, B> fmt::Debug for Fallback<S, H, O, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback")
            .field("inner", &self.inner)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
