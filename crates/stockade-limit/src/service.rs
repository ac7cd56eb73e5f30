use std::{
    sync::Arc,
    task::{Context, Poll},
};

use stockade_core::{
    Bypass, LayerError, Reason, Reusable,
    internal::{
        Cold, Refusal, Slow,
        backpressure::{Reserve, ReserveCall},
        deferred,
    },
};
use tower_service::Service;

use crate::{
    LimitHandle, Permit, ResponseFuture,
    future::State,
    hook::{Hold, Hooks, Order, Plain},
    permit::Waiter,
    shared::Shared,
};

/// Lets at most so many calls be in flight at once; made by [`LimitLayer`](crate::LimitLayer).
///
/// - `poll_ready` is that of the service inside, and never refuses.
/// - `call` starts the call at once if there is room. Otherwise it joins the queue, where the response future
///   waits, and gives back the readiness that this instance held; or it refuses.
/// - A clone shares the limit, holds nothing and is not ready.
/// - Dropping the service changes nothing. Dropping a response future frees its place at once.
///
/// The service inside has to be `Clone`, because a call that waits needs one of its own. Where it is not, put
/// a buffer around it, or use [`LimitLayer::backpressure`](crate::LimitLayer::backpressure).
#[derive(Clone, Debug)]
pub struct Limit<S, X = Plain> {
    inner: S,
    shared: Arc<Shared>,
    hooks: X,
}

stockade_core::accessors!(Limit<S, X>);

// === impl Limit ===

impl<S, X> Limit<S, X> {
    pub(crate) fn new(inner: S, shared: Arc<Shared>, hooks: X) -> Self {
        Self { inner, shared, hooks }
    }

    /// Shows and changes the limit of this service.
    pub fn handle(&self) -> LimitHandle {
        LimitHandle(Arc::clone(&self.shared))
    }
}

impl<S, B, H, O> Limit<S, Hooks<B, H, O>> {
    /// The permit of a call, if there is one at once. It may have `reserved` one.
    #[inline]
    fn admit<Req>(&self, request: &Req, reserved: Option<Permit>) -> Option<Permit>
    where
        B: Bypass<Req>,
        O: Order<Req>,
    {
        if self.hooks.bypass.passes_by(request) {
            return Some(Permit::NONE);
        }
        match reserved {
            None => self.hooks.order.permit(&self.shared),
            reserved => reserved,
        }
    }

    /// There is no room: joins the queue, or refuses.
    #[cold]
    fn wait<Req>(&mut self, request: Req) -> Slow<Waiter, S, Req>
    where
        S: Service<Req> + Clone,
        S::Error: LayerError,
        O: Order<Req>,
    {
        match self.shared.join(self.hooks.order.share(&request)) {
            Ok(waiter) => Slow::waiting(waiter, deferred::release(&mut self.inner), request),
            Err(rejected) => Slow::Refused(Refusal::new(&self.shared, rejected)),
        }
    }
}

impl<S, Req, B, H, O> Service<Req> for Limit<S, Hooks<B, H, O>>
where
    S: Service<Req> + Reusable,
    S::Error: LayerError,
    B: Bypass<Req>,
    H: Hold<S::Response> + Clone,
    O: Order<Req>,
{
    type Response = H::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, S, Req, H>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    // Without it the compiler calls this, and moves the future through memory: once for each layer of a stack. A dev
    // build moves it anyway, and would only get more code.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn call(&mut self, request: Req) -> Self::Future {
        let hold = self.hooks.hold.clone();
        let state = match self.admit(&request, None) {
            Some(permit) => State::Running { future: self.inner.call(request), permit },
            None => State::Slow { slow: Cold::new(self.wait(request)) },
        };
        ResponseFuture { state, hold }
    }
}

/// The calls in flight and waiting, for `tower::balance`.
#[cfg(feature = "load")]
impl<S, X> tower::load::Load for Limit<S, X> {
    type Metric = usize;

    fn load(&self) -> usize {
        let semaphore = self.shared.semaphore;
        semaphore.in_flight() as usize + semaphore.waiting() as usize
    }
}

#[doc(hidden)]
impl<S, X> Reserve for Limit<S, X> {
    type Permit = Permit;
    type Waiter = Waiter;

    fn try_reserve(&self) -> Option<Permit> {
        self.shared.try_acquire()
    }

    fn wait(&self) -> Waiter {
        Waiter::reserving(&self.shared)
    }
}

#[doc(hidden)]
impl<S, Req, B, H, O> ReserveCall<Req> for Limit<S, Hooks<B, H, O>>
where
    S: Service<Req>,
    S::Error: LayerError,
    B: Bypass<Req>,
    H: Hold<S::Response> + Clone,
    O: Order<Req>,
{
    type Response = H::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, S, Req, H>;

    fn poll_inner_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call_reserved(&mut self, permit: Option<Permit>, request: Req) -> Self::Future {
        let hold = self.hooks.hold.clone();
        // A reservation of a limit that was closed meanwhile is none.
        let reserved = permit.filter(|permit| !permit.is_none());
        let state = match self.admit(&request, reserved) {
            Some(permit) => State::Running { future: self.inner.call(request), permit },
            None => {
                let closed = self.shared.semaphore.is_closed();
                let reason = if closed { Reason::PoolClosed } else { Reason::QueueFull };
                let refusal = Refusal::new(&self.shared, self.shared.refuse(reason));
                State::Slow { slow: Cold::new(Slow::Refused(refusal)) }
            }
        };
        ResponseFuture { state, hold }
    }
}
