//! The service.

use std::{
    hash::Hash,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
};

use stockade_core::{Bypass, NoBypass, internal::deferred};
use tower_service::Service;

use crate::{CoalesceHandle, CoalesceLayer, ResponseFuture, calls::Calls};

/// Lets calls to `S` with the same key share one answer; made by [`CoalesceLayer`](crate::CoalesceLayer).
///
/// - `poll_ready` is that of the service inside.
/// - `call` calls the service inside at once, unless a call with an equal key is in flight: then it joins that
///   one, and gives up the readiness of this instance.
/// - A clone is not ready, and shares the calls in flight.
/// - Dropping the service changes nothing for calls in flight.
///
/// The callers of a key poll the call together, and it sees the deadline of none of them: each waits under its
/// own, and the call lives on while one of them is left, which is until the latest of their deadlines. If it
/// panics, the caller that began it gets the panic; the next of the others makes the call anew, with its own
/// request.
///
/// A call on its own costs four small allocations, for what others could join.
///
/// # Errors
///
/// Those of the service inside, a clone for each caller.
///
/// # Cancel safety
///
/// Dropping a response future leaves the call to the other callers; dropping the last one drops the call.
pub struct Coalesce<S: Service<Req>, Req, K, F, B = NoBypass> {
    inner: S,
    layer: CoalesceLayer<Req, K, F, B>,
    calls: Arc<Calls<K, S::Future>>,
}

stockade_core::accessors!(Coalesce<S: Service<Req>, Req, K, F, B>);
stockade_core::shown!(Coalesce<S: Service<Req>, Req, K, F, B>: layer);

// === impl Coalesce ===

impl<S: Service<Req>, Req, K, F, B> Coalesce<S, Req, K, F, B> {
    pub(crate) fn new(inner: S, layer: CoalesceLayer<Req, K, F, B>) -> Self {
        let calls = Arc::new(Calls::new(Arc::clone(&layer.shared)));
        Self { inner, layer, calls }
    }

    /// Shows what the services of the layer share.
    pub fn handle(&self) -> CoalesceHandle {
        CoalesceHandle(Arc::clone(&self.layer.shared))
    }
}

impl<S, Req, K, F, B> Service<Req> for Coalesce<S, Req, K, F, B>
where
    S: Service<Req> + Clone,
    S::Response: Clone,
    S::Error: Clone,
    K: Hash + Eq + Clone,
    F: Fn(&Req) -> K + Clone,
    B: Bypass<Req> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, Req, K, F, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let CoalesceLayer { key, bypass, shared, .. } = &self.layer;
        if !shared.enabled.load(Relaxed) || bypass.passes_by(&request) {
            return ResponseFuture::passing(self.inner.call(request));
        }
        let (caller, leads) = self.calls.join(key(&request));
        if leads {
            caller.begin(|| self.inner.call(request));
            return ResponseFuture::sharing(caller, None);
        }
        deferred::let_go(&mut self.inner);
        ResponseFuture::sharing(caller, Some((self.clone(), request)))
    }
}

impl<S, Req, K, F, B> Clone for Coalesce<S, Req, K, F, B>
where
    S: Service<Req> + Clone,
    F: Clone,
    B: Clone,
{
    fn clone(&self) -> Self {
        let (inner, layer) = (self.inner.clone(), self.layer.clone());
        Self { inner, layer, calls: Arc::clone(&self.calls) }
    }
}
