//! The service.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use stockade_core::internal::sync::Mutex;
use stockade_core::{Classify, DefaultClassify, LayerError, internal::lock};
use tower_service::Service;

use crate::{
    Always, ByClone, CloneRequest, Idempotent, ResponseFuture, RetryHandle, handle::State,
    layer::Policy, shared::Shared,
};

/// Repeats the calls to `S` that fail. Made by [`RetryLayer`](crate::RetryLayer).
///
/// It does not make a service out of one that is not `Clone`: further attempts need an instance each,
/// because the one that was called first may be in use again.
///
/// - `poll_ready` is that of the service inside.
/// - `call` makes the first attempt on the instance that is ready, at once. It copies the request, and
///   nothing else.
/// - The future judges the result. To repeat, it drops the failed response, waits, clones the service
///   from a template, polls it ready and calls it. What it answers with when it gives up is the last
///   response, or the last error of the service; only if there was none, that of a readiness, and only if
///   there was none either, the last refusal by a layer inside. A response that was judged a failure and
///   repeated is gone.
/// - A readiness that fails counts as an attempt. As the request was not sent, it is repeated whether or
///   not it is idempotent, if the error is not [`Permanent`](stockade_core::Class::Permanent).
/// - It gives up at once, without a wait, when the attempts or the budget are used up, when the next
///   attempt would begin after the [deadline](stockade_core::deadline) or
///   [`max_elapsed`](crate::RetryLayer::max_elapsed), and when the request cannot be repeated.
/// - A clone is not ready, and shares budget and counts.
///
/// # Errors
///
/// Those of the service, and of the layers inside; none of its own.
///
/// # Panics
///
/// The future panics where it has to wait and there is no tokio runtime with a timer.
///
/// # Cancel safety
///
/// Dropping the future at any time drops the attempt, the wait or the instance that is being readied.
/// The token that a wait was paid with is not returned to the budget.
///
/// # Example
///
/// ```
/// use stockade_core::Error;
/// use stockade_retry::{Retry, RetryLayer};
/// use tower_layer::Layer;
///
/// #[derive(Clone)]
/// struct Client;
///
/// // The type of the stack can be named.
/// let client: Retry<Client> = RetryLayer::max_attempts(3).layer(Client);
/// ```
pub struct Retry<S, C = DefaultClassify, I = Always, K = ByClone> {
    inner: S,
    shared: Shared<Application<S, C, I, K>>,
}

/// What the clones of one service share.
pub(crate) struct Application<S, C, I, K> {
    /// Where further attempts get their instance from: never called, so never ready. In a mutex
    /// because it need not be `Sync`.
    template: Mutex<S>,
    pub(crate) policy: Policy<C, I, K>,
}

stockade_core::accessors!(Retry<S, C, I, K>);

// === impl Retry ===

impl<S, C, I, K> Retry<S, C, I, K> {
    pub(crate) fn new(inner: S, application: Application<S, C, I, K>, state: Arc<State>) -> Self {
        Self { inner, shared: Shared::new(application, state) }
    }

    /// Shows what was repeated and given up by all who share the budget.
    pub fn handle(&self) -> RetryHandle {
        RetryHandle::new(Arc::clone(self.shared.state()), self.shared.policy.name)
    }
}

impl<S, C, I, K, Req> Service<Req> for Retry<S, C, I, K>
where
    S: Service<Req> + Clone,
    S::Error: LayerError,
    C: Classify<S::Response, S::Error>,
    I: Idempotent<Req>,
    K: CloneRequest<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<Req, S, C, I, K>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    // As in `ResponseFuture::poll`.
    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        let lease = self.shared.lease();
        let copy = lease.policy.copy(1, &request);
        let until = lease.policy.until();
        ResponseFuture::new(self.inner.call(request), copy, until, lease)
    }
}

impl<S: Clone, C, I, K> Clone for Retry<S, C, I, K> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: self.shared.clone() }
    }
}

impl<S: fmt::Debug, C, I, K> fmt::Debug for Retry<S, C, I, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("inner", &self.inner)
            .field("policy", &self.shared.policy)
            .finish_non_exhaustive()
    }
}

// === impl Application ===

impl<S, C, I, K> Application<S, C, I, K> {
    pub(crate) fn new(template: S, policy: Policy<C, I, K>) -> Self {
        Self { template: Mutex::new(template), policy }
    }

    /// An instance for a further attempt.
    pub(crate) fn instance(&self) -> S
    where
        S: Clone,
    {
        lock(&self.template).clone()
    }
}
