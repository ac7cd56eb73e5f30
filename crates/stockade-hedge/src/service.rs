//! The service.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
};

use stockade_core::{
    Bypass, Classify, DefaultClassify, LayerError, NoBypass,
    internal::{lock, pay, sync::Mutex},
};
use tower_service::Service;

use crate::{
    ByClone, HedgeHandle, HedgeRequest, ResponseFuture, future::Call, layer::Policy, shared::Shared,
};

/// Makes another attempt when a call to `S` takes long; made by [`HedgeLayer`](crate::HedgeLayer).
///
/// - `poll_ready` is that of the service inside.
/// - `call` makes the first attempt on the instance that is ready, at once. It copies the request if it may be
///   sent twice.
/// - The response future polls all attempts. The first answer that is no failure wins, and the others are dropped
///   at once. A failure is the answer only when no attempt is left, and then it is the last one. A call that
///   fails before its delay is over is not hedged.
/// - A further attempt is not made when the deadline has passed, when the budget has no token, and after an
///   answer that says that the server has too much to do, or when to come back. If a layer inside refuses a
///   further attempt, that attempt is forgotten and its token given back.
/// - A clone is not ready, and shares budget, window and counts.
///
/// A call that is answered at once allocates nothing; one that waits shares the timer of its thread. It reads the clock
/// only with a percentile, or when it waits.
///
/// # Errors
///
/// Those of the service inside; none of its own.
///
/// # Cancel safety
///
/// Dropping the response future drops all attempts. The token of a further attempt is spent.
#[derive(Clone)]
pub struct Hedge<S, C = DefaultClassify, K = ByClone, B = NoBypass> {
    inner: S,
    application: Arc<Application<S, C, K, B>>,
}

/// What the clones of one service share.
pub(crate) struct Application<S, C, K, B> {
    /// Where further attempts get their instance from: never called, so never ready. In a mutex because it
    /// need not be `Sync`.
    template: Mutex<S>,
    pub(crate) policy: Policy<C, K, B>,
    pub(crate) shared: Arc<Shared>,
}

stockade_core::accessors!(Hedge<S, C, K, B>);
stockade_core::shown!(Hedge<S: fmt::Debug, C, K, B>: inner);

// === impl Hedge ===

impl<S: Clone, C, K, B> Hedge<S, C, K, B> {
    pub(crate) fn new(inner: S, policy: Policy<C, K, B>, shared: Arc<Shared>) -> Self {
        let template = Mutex::new(inner.clone());
        Self { inner, application: Arc::new(Application { template, policy, shared }) }
    }
}

impl<S, C, K, B> Hedge<S, C, K, B> {
    /// Shows what all who share the budget have hedged.
    pub fn handle(&self) -> HedgeHandle {
        HedgeHandle(Arc::clone(&self.application.shared))
    }
}

impl<S, C, K, B, Req> Service<Req> for Hedge<S, C, K, B>
where
    S: Service<Req> + Clone,
    S::Error: LayerError,
    C: Classify<S::Response, S::Error>,
    K: HedgeRequest<Req>,
    B: Bypass<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, Req, C, K, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let Application { policy, shared, .. } = &*self.application;
        if !shared.enabled.load(Relaxed) || policy.bypass.passes_by(&request) {
            return ResponseFuture::new(self.inner.call(request), None);
        }
        shared.charge();
        let call = Call::new(Arc::clone(&self.application), &request);
        let _paid = pay(shared.budget_id);
        ResponseFuture::new(self.inner.call(request), Some(call))
    }
}

// === impl Application ===

impl<S: Clone, C, K, B> Application<S, C, K, B> {
    /// An instance for a further attempt.
    pub(crate) fn instance(&self) -> S {
        lock(&self.template).clone()
    }
}
