//! The service.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
};

use stockade_core::{Bypass, NoBypass};
use tower_service::Service;

use crate::{FallbackHandle, FallbackLayer, Handler, ResponseFuture, future::State};

/// Answers in place of calls to `S` that fail; made by [`FallbackLayer`](crate::FallbackLayer).
///
/// - `poll_ready` is that of the service inside. Its error is not answered: there is no call yet.
/// - `call` calls the service inside at once.
/// - A clone is not ready, and shares the switch.
///
/// # Errors
///
/// Those of the service inside that the fallback does not answer, and those that it answers with.
///
/// # Cancel safety
///
/// Dropping the response future drops the call, or the fallback that is under way.
#[derive(Clone)]
pub struct Fallback<S, H, O = NoBypass, B = NoBypass> {
    pub(crate) inner: S,
    pub(crate) layer: FallbackLayer<H, O, B>,
}

stockade_core::accessors!(Fallback<S, H, O, B>);
stockade_core::shown!(Fallback<S: fmt::Debug, H, O, B>: inner, layer);

// === impl Fallback ===

impl<S, H, O, B> Fallback<S, H, O, B> {
    /// Switches all services of the layer off and on.
    pub fn handle(&self) -> FallbackHandle {
        FallbackHandle(Arc::clone(&self.layer.shared))
    }
}

impl<S, H, O, B, Req> Service<Req> for Fallback<S, H, O, B>
where
    S: Service<Req>,
    H: Handler<Req, S::Response, S::Error> + Clone,
    O: Bypass<S::Error> + Clone,
    B: Bypass<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, Req, S::Response, S::Error, H, O>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let FallbackLayer { handler, on, bypass, shared } = &self.layer;
        let answers = shared.enabled.load(Relaxed) && !bypass.passes_by(&request);
        let kept = answers.then(|| handler.keep(&request));
        let state = State::Calling { future: self.inner.call(request) };
        let (handler, on, name) = (handler.clone(), on.clone(), shared.name);
        ResponseFuture { state, kept, handler, on, name }
    }
}
