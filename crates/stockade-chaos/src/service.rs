//! The service.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
};

use stockade_core::{Bypass, LayerError, NoBypass, Reason, Rejected, internal::deferred};
use tower_service::Service;

use crate::{
    ChaosFault, ChaosHandle, ChaosLayer, MakeError, NoError, ResponseFuture, future::State,
};

/// Makes some calls to `S` slow, fail, hang or panic; made by [`ChaosLayer`](crate::ChaosLayer).
///
/// - `poll_ready` is that of the service inside.
/// - `call` calls the service inside at once, unless a fault befalls the call that keeps it from being made:
///   then it gives up the readiness of this instance.
/// - A clone is not ready, and shares the source of chance.
///
/// While it is off, and for a call that no fault befalls, nothing is allocated and no clock is read.
///
/// # Errors
///
/// Those of the service inside, those that were made up, and [`Shed`](Reason::Shed).
///
/// # Cancel safety
///
/// Dropping a response future drops the call.
#[derive(Clone)]
pub struct Chaos<S, F = NoError, B = NoBypass> {
    pub(crate) inner: S,
    pub(crate) layer: ChaosLayer<F, B>,
}

stockade_core::accessors!(Chaos<S, F, B>);
stockade_core::shown!(Chaos<S: fmt::Debug, F, B>: inner, layer);

// === impl Chaos ===

impl<S, F, B> Chaos<S, F, B> {
    /// Turns chaos on and off, for all services of the layer.
    pub fn handle(&self) -> ChaosHandle {
        ChaosHandle(Arc::clone(&self.layer.shared))
    }
}

impl<S, F, B, Req> Service<Req> for Chaos<S, F, B>
where
    S: Service<Req> + Clone,
    S::Error: LayerError,
    F: MakeError<S::Error>,
    B: Bypass<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, S::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let ChaosLayer { error, bypass, shared } = &self.layer;
        let may = shared.enabled.load(Relaxed) && !bypass.passes_by(&request);
        let state = match may.then(|| shared.draw()).flatten() {
            None => return ResponseFuture::calling(self.inner.call(request), None),
            Some(ChaosFault::Slow(delay)) => {
                return ResponseFuture::calling(self.inner.call(request), Some(delay));
            }
            Some(ChaosFault::Error) => State::failed(error.make()),
            Some(ChaosFault::Reject) => {
                let refused = Rejected::new(&"chaos", Reason::Shed);
                State::failed(refused.with_name(shared.name).into_error())
            }
            Some(ChaosFault::Hang) => State::Hanging,
            Some(ChaosFault::Panic) => State::Panicking,
        };
        deferred::let_go(&mut self.inner);
        ResponseFuture { state }
    }
}
