//! The service.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use stockade_core::{Bypass, Classify, LayerError, Reusable};
use tower_service::Service;

use crate::{
    CloneRequest, Idempotent, Policy, Prepare, ResponseFuture, RetryHandle, account::Member,
    call::Call, course::Rules, future::State,
};

/// Repeats the calls to `S` that fail. Made by [`RetryLayer`](crate::RetryLayer).
///
/// `S` has to be `Clone`, because each further attempt needs an instance of its own: the one that was called first may
/// be in use again. Put a `tower::buffer` right above a service that is not.
///
/// - `poll_ready` is that of the service inside.
/// - `call` makes the first attempt on the instance that is ready, at once. It copies the request, and nothing else.
/// - The future judges the result. To repeat the call it drops the failed response, waits, clones the service, gets the
///   clone ready and calls it. After each wait it looks at the [deadline](stockade_core::deadline) and at
///   [`max_elapsed`](crate::RetryLayer::max_elapsed) again: no attempt starts at the deadline or later.
/// - A refusal by a layer inside ends the call at once, also in a further attempt, unless
///   [`retry_refusals`](crate::RetryLayer::retry_refusals) says to wait. It takes no attempt and nothing from the budget.
/// - The future gives up at once, without a wait, when the attempts or the budget are used up, when the next attempt
///   would start too late, or when the request cannot be repeated.
/// - The answer after giving up is the last response, or the last error of the service. If there was no such error it
///   is that of a readiness, and if there was none of these either, the last refusal by a layer inside. A response that
///   was judged a failure and repeated is gone, so a refusal after it is the answer.
/// - A readiness that fails counts as an attempt. The request was not sent, so it is repeated whether or not it is
///   idempotent, if the error is not [`Permanent`](stockade_core::Class::Permanent).
/// - A clone is not ready, and shares budget and counts.
///
/// # Errors
///
/// Those of the service and of the layers inside. Its own one is [`Expired`](stockade_core::Reason::Expired), for a call
/// whose deadline passed while it waited, and that so far had only a response, which is gone. With an error of the service
/// at hand, it returns that.
///
/// # Panics
///
/// The future panics where it has to wait and there is no tokio runtime with a timer.
///
/// # Cancel safety
///
/// Dropping the future at any time drops the attempt, the wait or the instance that gets ready. The token that a wait
/// was paid with is not returned to the budget.
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
pub struct Retry<S, P = Policy> {
    pub(crate) inner: S,
    pub(crate) member: Member<S, P>,
}

stockade_core::accessors!(Retry<S, P>);

// === impl Retry ===

impl<S, P> Retry<S, P> {
    /// Shows what was repeated and given up by all who share the layer.
    pub fn handle(&self) -> RetryHandle {
        RetryHandle(Arc::clone(&self.member.origin().account.shared))
    }
}

impl<S, C, I, K, P, B, Req> Service<Req> for Retry<S, Policy<C, I, K, P, B>>
where
    S: Service<Req> + Reusable,
    S::Error: LayerError,
    C: Classify<S::Response, S::Error>,
    I: Idempotent<Req>,
    K: CloneRequest<Req>,
    P: Prepare<Req, S::Response, S::Error>,
    B: Bypass<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, S::Error, Req, S, Policy<C, I, K, P, B>>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    // Without it an optimized build calls this, and moves the future through memory.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn call(&mut self, mut request: Req) -> Self::Future {
        let origin = self.member.origin();
        // One by one, because what stands in memory as a whole would be copied as a whole.
        let mut charged = None;
        let mut until = None;
        let mut copy = None;
        if origin.account.shared.is_enabled() && !origin.policy.bypass.passes_by(&request) {
            let origin = self.member.charge();
            let Policy { prepare, clone_request, .. } = &*origin.policy;
            prepare.prepare(&mut request, 1, None);
            let rules = Rules::new(&origin.account, None);
            if rules.may_follow(1) {
                copy = clone_request.clone_request(&request);
            }
            until = rules.latest();
            charged = Some(origin);
        }
        let state = {
            let _paid = match &charged {
                Some(origin) => origin.account.paid(),
                None => None,
            };
            State::Calling { attempt: self.inner.call(request) }
        };
        let call = Call { origin: charged, until, request: copy, course: None };
        ResponseFuture { state, call }
    }
}

impl<S: Clone, P> Clone for Retry<S, P> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), member: self.member.clone() }
    }
}

impl<S: fmt::Debug, P> fmt::Debug for Retry<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("inner", &self.inner)
            .field("config", &self.handle().config())
            .finish_non_exhaustive()
    }
}
