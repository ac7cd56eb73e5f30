//! The service.

use std::task::{Context, Poll};

use stockade_core::LayerError;
use tower_service::Service;

use super::{PolicyFor, ResponseFuture, Single};

/// A service whose calls pass no faster than a rate that a fleet shares.
///
/// It does not bound how many calls run at the same time, and it does not end a call that runs.
///
/// `poll_ready` is the readiness of the service inside: it takes no token and never refuses. `call` takes what the
/// call costs out of the tokens that this node has leased, if there are, and else waits inside its
/// [response future](ResponseFuture) for the answer of the Redis, and for its turn. A call that waits and one that is
/// refused let go of the readiness that this service held. A clone shares the queue. Dropping the service changes
/// nothing for calls that wait.
///
/// # Errors
///
/// The errors of the service inside, as they are, and refusals by the layer `"rate"`:
/// [`RateLimited`](stockade_core::Reason::RateLimited), [`QueueFull`](stockade_core::Reason::QueueFull),
/// [`WaitExceeded`](stockade_core::Reason::WaitExceeded), [`Expired`](stockade_core::Reason::Expired) and
/// [`TooCostly`](stockade_core::Reason::TooCostly), for the reasons that the local rate limit has. Each but the last
/// says in `retry_after` when the same call would not be refused any more if nobody else in the fleet came meanwhile;
/// while the Redis is away and that [refuses all](super::Away::Closed), when it is looked for next.
#[derive(Clone, Debug)]
pub struct Rate<S, P = Single> {
    inner: S,
    policy: P,
}

stockade_core::accessors!(Rate<S, P>);

// === impl Rate ===

impl<S, P> Rate<S, P> {
    pub(crate) const fn new(inner: S, policy: P) -> Self {
        Self { inner, policy }
    }
}

impl<S, P, Req> Service<Req> for Rate<S, P>
where
    S: Service<Req> + Clone,
    S::Error: LayerError,
    P: PolicyFor<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, Req>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let Some((gate, cost)) = self.policy.find(&request, None) else {
            return ResponseFuture::running(self.inner.call(request));
        };
        if gate.pass(cost) {
            return ResponseFuture::running(self.inner.call(request));
        }
        // The instance that is ready holds a place in the service inside: it goes.
        let fresh = self.inner.clone();
        let service = self.inner.clone();
        drop(std::mem::replace(&mut self.inner, fresh));
        match gate.too_costly(cost) {
            Some(rejected) => ResponseFuture::refused(rejected),
            None => ResponseFuture::waiting(gate, cost, service, request),
        }
    }
}
