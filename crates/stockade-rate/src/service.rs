//! The service.

use std::task::{Context, Poll};

use stockade_core::{LayerError, Rejected};
use tower_service::Service;

use crate::{
    Policy, PolicyFor, ResponseFuture, Single, future::Slow, gate::Verdict, waiter::Waiter,
};

/// A service whose calls pass no faster than a rate.
///
/// It does not bound how many calls run at the same time, and it does not end a call that runs.
///
/// `poll_ready` is the readiness of the service inside: it takes no token and never refuses. `call` takes a
/// token, or what the call costs; if there is none, or others wait for one, the call waits inside its
/// [response future](ResponseFuture), or is refused. Calls wait in the order in which their futures are
/// first polled. A call that waits and one that is refused let go of the readiness that this service
/// held, so that nobody occupies a place in the service inside without using it. A clone shares the bucket
/// and the queue. Dropping the service changes nothing for calls that wait.
///
/// # Errors
///
/// The errors of the service inside, as they are, and refusals by the layer `"rate"`. Each but the
/// last says in `retry_after` when the same call would not be refused any more, if nobody else came meanwhile:
///
/// - [`RateLimited`](stockade_core::Reason::RateLimited): there is no token, and no queue.
/// - [`QueueFull`](stockade_core::Reason::QueueFull): there is no place in the queue.
/// - [`WaitExceeded`](stockade_core::Reason::WaitExceeded): the wait would be longer than
///   [`max_wait`](crate::RateLayer::max_wait).
/// - [`Expired`](stockade_core::Reason::Expired): the wait would end after the
///   [deadline](stockade_core::deadline) of the call.
/// - [`TooCostly`](stockade_core::Reason::TooCostly): the call [costs](crate::RateLayer::cost) more than the
///   burst. This one says no time, because it would be refused at any.
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
    pub(crate) fn new(inner: S, policy: P) -> Self {
        Self { inner, policy }
    }

    /// What there is to see and to turn of the buckets and the queues of this service.
    pub fn handle(&self) -> P::Handle {
        self.policy.handle()
    }

    /// There was no token at once. None: there is one after all.
    #[cold]
    #[inline(never)]
    fn knock<Req>(&self, doubt: P::Doubt) -> Option<Outside>
    where
        P: PolicyFor<Req>,
    {
        match self.policy.knock(doubt) {
            Verdict::Pass => None,
            Verdict::Refuse(rejected) => Some(Outside::Refused(rejected)),
            Verdict::Wait(waiter) => Some(Outside::Waiting(waiter)),
        }
    }

    #[cold]
    #[inline(never)]
    fn stay<Req>(&mut self, outside: Outside, request: Req) -> Slow<S, Req>
    where
        S: Clone,
    {
        let slow = match outside {
            Outside::Refused(rejected) => Slow::Refused(rejected),
            Outside::Waiting(waiter) => Slow::waiting(waiter, self.inner.clone(), request),
        };
        // The instance that is ready holds a place in the service inside: it goes.
        let fresh = self.inner.clone();
        drop(std::mem::replace(&mut self.inner, fresh));
        slow
    }
}

/// What becomes of a call that does not pass.
enum Outside {
    Waiting(Waiter),
    Refused(Rejected),
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

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    // Left to itself the compiler calls, and moves the future through memory.
    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        // What comes back from a function that stays one lies in memory. So neither `knock` nor `stay` hands on a
        // future, which would move all others through memory too; and there is one call of what is inside.
        match self.policy.pass(&request, None).err().and_then(|doubt| self.knock::<Req>(doubt)) {
            None => ResponseFuture::running(self.inner.call(request)),
            Some(outside) => ResponseFuture::slow(self.stay(outside, request)),
        }
    }
}
