//! The service.

use std::{
    num::NonZeroU32,
    sync::Arc,
    task::{Context, Poll},
};

use stockade_core::{
    LayerError, Reusable,
    internal::{
        Refusal, Slow,
        backpressure::{Reserve, ReserveCall},
        deferred,
    },
};
use tower_service::Service;

use crate::{
    Policy, PolicyFor, ResponseFuture, Single,
    backend::{Admission, Permit},
    future::State,
    shared::Shared,
    waiter::Waiter,
};

/// A service whose calls pass no faster than a rate.
///
/// It does not bound how many calls run at the same time, and it does not end a call that runs.
///
/// `poll_ready` is the readiness of the service inside: it takes no token and never refuses. `call` takes one token,
/// or what the call costs. If there are not enough, or other calls wait for theirs, the call waits inside its
/// [response future](ResponseFuture) or is refused. Calls wait in the order in which their futures are first polled. A
/// call that waits and one that is refused give up the readiness that this service held, so that a waiting call does
/// not hold a permit of the service inside. A clone shares the bucket and the queue. Dropping the service changes
/// nothing for calls that wait.
///
/// # Errors
///
/// The errors of the service inside, as they are, and refusals by the layer `"rate"`. Each but the last says in
/// `retry_after` when the same call would not be refused, if no other call came in the meantime:
///
/// - [`RateLimited`](stockade_core::Reason::RateLimited): there is no token, and no queue.
/// - [`QueueFull`](stockade_core::Reason::QueueFull): there is no place in the queue.
/// - [`WaitExceeded`](stockade_core::Reason::WaitExceeded): the wait would be longer than
///   [`max_wait`](crate::RateLayer::max_wait).
/// - [`Expired`](stockade_core::Reason::Expired): the wait would end at the [deadline](stockade_core::deadline) of the
///   call, or after it. A call whose deadline has passed by the time it has its tokens is refused too, without a time.
/// - [`TooCostly`](stockade_core::Reason::TooCostly): the call [costs](crate::RateLayer::cost) more than the burst. It
///   would be refused at any time.
///
/// # Example
///
/// ```
/// use stockade_core::Error;
/// use stockade_rate::{Rate, RateLayer};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let service: Rate<_> = ServiceBuilder::new()
///     .layer(RateLayer::per_second(100))
///     .service(service_fn(|n: u32| async move { Ok::<_, Error<std::io::Error>>(n + 1) }));
/// assert_eq!(service.handle().available(), 100);
/// assert_eq!(service.oneshot(1).await.unwrap(), 2);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Rate<S, P = Single> {
    inner: S,
    policy: P,
}

stockade_core::accessors!(Rate<S, P>);

// === impl Rate ===

impl<S, P: Policy> Rate<S, P> {
    #[doc(hidden)]
    pub const fn new(inner: S, policy: P) -> Self {
        Self { inner, policy }
    }

    /// Reads the state of the buckets of this service, and changes it at run time.
    pub fn handle(&self) -> P::Handle {
        self.policy.handle()
    }
}

impl<S, P, Req> Service<Req> for Rate<S, P>
where
    S: Service<Req> + Reusable,
    S::Error: LayerError,
    P: PolicyFor<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, S, Req, P::Limiter>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    // Without it the compiler calls this, and moves the future through memory: once for each layer of a stack. A dev
    // build moves it anyway, and would only get more code.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn call(&mut self, request: Req) -> Self::Future {
        let state = match self.policy.admit(&request, None) {
            Admission::Pass => State::Running { future: self.inner.call(request) },
            Admission::Wait(waiter) => {
                let service = deferred::release(&mut self.inner);
                State::Slow { slow: Slow::waiting(waiter, service, request) }
            }
            Admission::Refuse(refusal) => {
                deferred::let_go(&mut self.inner);
                State::Slow { slow: Slow::Refused(refusal) }
            }
        };
        ResponseFuture { state }
    }
}

// === waiting in `poll_ready` ===

#[doc(hidden)]
impl<S> Reserve for Rate<S> {
    type Permit = Permit<Shared>;
    type Waiter = Waiter;

    fn try_reserve(&self) -> Option<Permit<Shared>> {
        let shared = self.policy.limiter();
        shared.try_reserve().then(|| Permit::new(Arc::clone(shared), NonZeroU32::MIN))
    }

    fn wait(&self) -> Waiter {
        Waiter::unbounded(Arc::clone(self.policy.limiter()))
    }
}

#[doc(hidden)]
impl<S, Req> ReserveCall<Req> for Rate<S>
where
    S: Service<Req>,
    S::Error: LayerError,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, S, Req>;

    fn poll_inner_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call_reserved(&mut self, permit: Option<Permit<Shared>>, request: Req) -> Self::Future {
        let taken = match permit {
            Some(mut permit) => {
                permit.spend();
                Ok(())
            }
            None => self.policy.limiter().try_take(NonZeroU32::MIN),
        };
        let state = match taken {
            Ok(()) => State::Running { future: self.inner.call(request) },
            Err(rejected) => {
                let refusal = Refusal::new(self.policy.limiter().common(), rejected);
                State::Slow { slow: Slow::Refused(refusal) }
            }
        };
        ResponseFuture { state }
    }
}
