//! The service.

use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};

use stockade_core::{
    Bypass, Classify, DefaultClassify, LayerError, NoBypass, Reusable,
    internal::{
        Refusal, Slow,
        backpressure::{Reserve, ReserveCall},
        deferred::take,
    },
};
use tower_service::Service;

use crate::{
    BreakerHandle, ResponseFuture,
    backpressure::Waiter,
    future::{AtOnce, State},
    permit::Permit,
    shared::{Lease, Shared},
};

/// Stops calling the service inside while it fails; made by a [`BreakerLayer`](crate::BreakerLayer), whose
/// page says when it does.
///
/// It does not repeat calls, and it does not limit how long they take.
///
/// - `poll_ready` passes through to the service inside, and so does its error, which counts for nothing. While
///   the breaker is not closed it is ready although the service inside is not, so that a caller learns of the
///   refusal and does not wait for a service that will not be called. A caller that already waits when the
///   breaker opens keeps waiting.
/// - `call` calls the service inside, or refuses and gives up the readiness that this instance held. If the call
///   is admitted but the service inside was not ready, the response future waits for that.
/// - A clone shares the state of the breaker, and is not ready.
/// - Dropping it changes nothing.
///
/// # Errors
///
/// [`BreakerOpen`](stockade_core::Reason::BreakerOpen) with the time to come back as `retry_after`: exactly the rest of
/// the open time while open; a different time for each caller while half-open, because it is not known how long the probes
/// will take. [`ForcedOpen`](stockade_core::Reason::ForcedOpen) without a time.
///
/// # Example
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use stockade_breaker::{BreakerLayer, State};
/// use stockade_core::{Error, Reason};
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
///
/// let mut service = ServiceBuilder::new()
///     .layer(BreakerLayer::new().consecutive(1))
///     .service(service_fn(|_: ()| async { Err::<(), _>(Error::Service("down")) }));
///
/// assert_eq!(service.ready().await.unwrap().call(()).await, Err(Error::Service("down")));
/// assert_eq!(service.handle().state(), State::Open);
/// let refused = service.ready().await.unwrap().call(()).await.unwrap_err();
/// assert!(matches!(refused, Error::Rejected(no) if no.reason() == Reason::BreakerOpen));
/// # }
/// ```
pub struct Breaker<S, C = DefaultClassify, B = NoBypass> {
    pub(crate) inner: S,
    /// That of `lease`. It is here as well so that calls do not touch the memory where clones are counted.
    pub(crate) shared: &'static Shared,
    pub(crate) lease: Arc<Lease>,
    pub(crate) classify: C,
    pub(crate) bypass: B,
    /// Whether the service inside said that it is ready. While the breaker is not closed, this one says so in
    /// any case.
    pub(crate) readied: bool,
}

// === impl Breaker ===

impl<S, C, B> Breaker<S, C, B> {
    /// The handle of this breaker.
    pub fn handle(&self) -> BreakerHandle {
        BreakerHandle(Arc::clone(&self.lease))
    }

    /// The permit of a call that passes, or its refusal.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn admit<Req>(&self, request: &Req, reserved: bool) -> Result<Permit, Refusal<Lease>>
    where
        B: Bypass<Req>,
    {
        if self.bypass.passes_by(request) {
            return Ok(Permit::none());
        }
        Permit::admit(self.shared, &self.lease, reserved)
    }

    /// Makes a call that is admitted.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn start<Req>(
        &mut self,
        mut permit: Permit,
        request: Req,
        classify: C,
    ) -> ResponseFuture<S::Future, S, Req, C>
    where
        S: Service<Req>,
    {
        let part = permit.run();
        let future = self.inner.call(request);
        part.end();
        ResponseFuture { state: State::Running { future }, permit, classify }
    }
}

stockade_core::accessors!(Breaker<S, C, B>);
stockade_core::shown!(Breaker<S: fmt::Debug, C, B>: inner, lease, readied);

impl<S, C, B, Req> Service<Req> for Breaker<S, C, B>
where
    S: Service<Req> + Reusable,
    S::Error: LayerError,
    C: Classify<S::Response, S::Error> + Clone,
    B: Bypass<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, S, Req, C>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let inner = self.inner.poll_ready(cx);
        self.readied = matches!(inner, Poll::Ready(Ok(())));
        if inner.is_pending() && !self.shared.is_closed() {
            return Poll::Ready(Ok(()));
        }
        inner
    }

    // Without it an optimized build calls this, and moves the future through memory.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn call(&mut self, request: Req) -> Self::Future {
        // Before the call is admitted, because it may panic.
        let classify = self.classify.clone();
        let (slow, permit) = match self.admit(&request, false) {
            Ok(permit) if mem::take(&mut self.readied) => {
                return self.start(permit, request, classify);
            }
            Ok(permit) => {
                // The future takes the instance that was polled, which may be on its way to be ready.
                let polled = take(&mut self.inner);
                (Slow::waiting(AtOnce(Arc::clone(&self.lease)), polled, request), permit)
            }
            Err(refusal) => {
                self.readied = false;
                // What this instance holds inside, a permit or its turn, goes to those who are let in.
                drop(take(&mut self.inner));
                (Slow::Refused(refusal), Permit::none())
            }
        };
        ResponseFuture { state: State::Slow { slow }, permit, classify }
    }
}

// === with backpressure ===

/// Whether calls may pass is all that an instance waits for; nothing is reserved, so a permit is nothing.
#[doc(hidden)]
impl<S, C, B> Reserve for Breaker<S, C, B> {
    type Permit = ();
    type Waiter = Waiter;

    fn try_reserve(&self) -> Option<()> {
        // Otherwise the waiter asks, once: on the ramp each question takes a turn.
        self.shared.is_closed().then_some(())
    }

    fn still_holds(&self, (): &()) -> bool {
        self.shared.reserve(false).is_ok()
    }

    fn wait(&self) -> Waiter {
        Waiter::new(Arc::clone(&self.lease))
    }
}

#[doc(hidden)]
impl<S, C, B, Req> ReserveCall<Req> for Breaker<S, C, B>
where
    S: Service<Req>,
    S::Error: LayerError,
    C: Classify<S::Response, S::Error> + Clone,
    B: Bypass<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, S, Req, C>;

    fn poll_inner_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call_reserved(&mut self, permit: Option<()>, request: Req) -> Self::Future {
        let classify = self.classify.clone();
        match self.admit(&request, permit.is_some()) {
            Ok(permit) => self.start(permit, request, classify),
            Err(refusal) => {
                let state = State::Slow { slow: Slow::Refused(refusal) };
                ResponseFuture { state, permit: Permit::none(), classify }
            }
        }
    }
}

impl<S: Clone, C: Clone, B: Clone> Clone for Breaker<S, C, B> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            shared: self.shared,
            lease: Arc::clone(&self.lease),
            classify: self.classify.clone(),
            bypass: self.bypass.clone(),
            readied: false,
        }
    }
}
