//! The service.

use std::{
    fmt,
    hash::Hash,
    marker::PhantomData,
    sync::Arc,
    task::{Context, Poll},
};

use stockade_core::{Bypass, NoBypass, deadline, internal::deferred};
use tower_service::Service;

use crate::{
    CoalesceHandle, ResponseFuture,
    handle::Counts,
    shared::{Caller, Shared},
};

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
    shared: Arc<SharedBy<S, Req, K>>,
    counts: Arc<Counts>,
    requests: PhantomData<fn(Req)>,
}

type SharedBy<S, Req, K> = Shared<
    K,
    <S as Service<Req>>::Future,
    <S as Service<Req>>::Response,
    <S as Service<Req>>::Error,
>;

pub(crate) type CallerOf<S, Req, K> = Caller<
    K,
    <S as Service<Req>>::Future,
    <S as Service<Req>>::Response,
    <S as Service<Req>>::Error,
>;

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

    /// The service inside.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service inside, mutably.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The service inside, without the layer.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

/// Begins the call that `caller` leads. If that panics, the others hear that there will be none.
pub(crate) fn begin<S, Req, K>(caller: &CallerOf<S, Req, K>, service: &mut S, request: Req)
where
    S: Service<Req>,
    K: Hash + Eq,
{
    struct Lost<'a, S: Service<Req>, Req, K: Hash + Eq>(&'a CallerOf<S, Req, K>);

    impl<S: Service<Req>, Req, K: Hash + Eq> Drop for Lost<'_, S, Req, K> {
        fn drop(&mut self) {
            self.0.lose();
        }
    }

    let lost = Lost::<S, Req, K>(caller);
    let future = deadline::hidden(|| service.call(request));
    std::mem::forget(lost);
    caller.begin(future);
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
            begin::<S, Req, K>(&caller, &mut self.inner, request);
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
