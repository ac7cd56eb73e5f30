//! The service.

use std::{
    num::NonZeroU32,
    sync::Arc,
    task::{Context, Poll},
};

use governor::nanos::Nanos;
use stockade_core::LayerError;
use tower_service::Service;

use crate::{
    RateHandle, ResponseFuture,
    gate::{Gate, Verdict, Waiter},
};

/// A service whose calls pass no faster than a rate.
///
/// It does not bound how many calls run at the same time, and it does not end a call that runs.
///
/// `poll_ready` is the readiness of the service inside: it takes no token and never refuses. `call` takes a
/// token; if there is none, or others wait for one, the call waits inside its
/// [response future](ResponseFuture), or is refused. Calls wait in the order in which their futures are
/// first polled. A call that waits and one that is refused let go of the readiness that this service
/// held, so that nobody occupies a place in the service inside without using it. A clone shares the bucket
/// and the queue. Dropping the service changes nothing for calls that wait.
///
/// # Errors
///
/// The errors of the service inside, as they are, and refusals by the layer `"rate"`. Each says in
/// `retry_after` when the same call would not be refused any more, if nobody else came meanwhile:
///
/// - [`RateLimited`](stockade_core::Reason::RateLimited): there is no token, and no queue.
/// - [`QueueFull`](stockade_core::Reason::QueueFull): there is no place in the queue.
/// - [`WaitExceeded`](stockade_core::Reason::WaitExceeded): the wait would be longer than
///   [`max_wait`](crate::RateLayer::max_wait).
/// - [`Expired`](stockade_core::Reason::Expired): the wait would end after the
///   [deadline](stockade_core::deadline) of the call.
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
pub struct Rate<S> {
    inner: S,
    gate: Arc<Gate>,
}

stockade_core::accessors!(Rate<S>);

// === impl Rate ===

impl<S> Rate<S> {
    pub(crate) fn new(inner: S, gate: Arc<Gate>) -> Self {
        Self { inner, gate }
    }

    /// What there is to see of the bucket and the queue of this service.
    pub fn handle(&self) -> RateHandle {
        RateHandle::new(Arc::clone(&self.gate))
    }

    #[cold]
    #[inline(never)]
    fn knock<Req>(&mut self, now: Nanos, request: Req) -> ResponseFuture<S, Req>
    where
        S: Service<Req> + Clone,
    {
        let verdict = self.gate.knock(now, NonZeroU32::MIN);
        if let Verdict::Pass = verdict {
            return ResponseFuture::running(self.inner.call(request));
        }
        // The instance that is ready holds a place in the service inside: it goes.
        let fresh = self.inner.clone();
        drop(std::mem::replace(&mut self.inner, fresh));
        match verdict {
            Verdict::Refuse(rejected) => ResponseFuture::refused(rejected),
            Verdict::Pass | Verdict::Wait(()) => {
                let waiter = Waiter::new(Arc::clone(&self.gate), NonZeroU32::MIN);
                ResponseFuture::waiting(waiter, self.inner.clone(), request)
            }
        }
    }
}

impl<S, Req> Service<Req> for Rate<S>
where
    S: Service<Req> + Clone,
    S::Error: LayerError,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, Req>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        match self.gate.pass() {
            Ok(()) => ResponseFuture::running(self.inner.call(request)),
            Err(now) => self.knock(now, request),
        }
    }
}
