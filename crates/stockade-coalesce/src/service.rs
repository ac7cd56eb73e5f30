//! The service.

use std::{
    fmt,
    hash::Hash,
    marker::PhantomData,
    sync::Arc,
    task::{Context, Poll},
};

use stockade_core::{Bypass, NoBypass, internal::deferred};
use tower_service::Service;

use crate::{CoalesceHandle, ResponseFuture, handle::Counts, shared::Shared};

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
pub struct Coalesce<S: Service<Req>, Req, K, F, O = NoBypass> {
    inner: S,
    key: F,
    only: O,
    shared: Arc<Shared<K, S::Future>>,
    counts: Arc<Counts>,
    requests: PhantomData<fn(Req)>,
}

stockade_core::accessors!(Coalesce<S: Service<Req>, Req, K, F, O>);

// === impl Coalesce ===

impl<S: Service<Req>, Req, K, F, O> Coalesce<S, Req, K, F, O> {
    pub(crate) fn new(inner: S, key: F, only: O, counts: Arc<Counts>) -> Self {
        let shared = Arc::new(Shared::new(Arc::clone(&counts)));
        Self { inner, key, only, shared, counts, requests: PhantomData }
    }

    /// Shows what the services of the layer share.
    pub fn handle(&self) -> CoalesceHandle {
        CoalesceHandle::new(Arc::clone(&self.counts))
    }
}

impl<S, Req, K, F, O> Service<Req> for Coalesce<S, Req, K, F, O>
where
    S: Service<Req> + Clone,
    S::Response: Clone,
    S::Error: Clone,
    K: Hash + Eq + Clone,
    F: Fn(&Req) -> K,
    O: Bypass<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, Req, K>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        if self.only.passes_by(&request) {
            return ResponseFuture::passing(self.inner.call(request));
        }
        let (caller, leads) = self.shared.join((self.key)(&request));
        if leads {
            caller.begin(|| self.inner.call(request));
            return ResponseFuture::sharing(caller, None);
        }
        let service = deferred::release(&mut self.inner);
        ResponseFuture::sharing(caller, Some((service, request)))
    }
}

impl<S, Req, K, F, O> Clone for Coalesce<S, Req, K, F, O>
where
    S: Service<Req> + Clone,
    F: Clone,
    O: Clone,
{
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            key: self.key.clone(),
            only: self.only.clone(),
            shared: Arc::clone(&self.shared),
            counts: Arc::clone(&self.counts),
            requests: PhantomData,
        }
    }
}

/// Without the closures, which cannot be shown.
impl<S: Service<Req> + fmt::Debug, Req, K, F, O> fmt::Debug for Coalesce<S, Req, K, F, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coalesce")
            .field("inner", &self.inner)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}
