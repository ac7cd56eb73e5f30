//! The service.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use stockade_core::{
    Bypass, Classify, DefaultClassify, LayerError, NoBypass,
    internal::{
        lock, pay,
        sync::{Mutex, atomic::Ordering::Relaxed},
    },
};
use tower_service::Service;

use crate::{ByClone, HedgeHandle, HedgeRequest, ResponseFuture, shared::Shared};

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
    bypass: B,
    application: Arc<Application<S, C, K>>,
}

/// What the clones of one service share.
pub(crate) struct Application<S, C, K> {
    /// Where further attempts get their instance from: never called, so never ready. In a mutex because it
    /// need not be `Sync`.
    template: Mutex<S>,
    pub(crate) classify: C,
    pub(crate) copies: K,
    pub(crate) shared: Arc<Shared>,
}

stockade_core::accessors!(Hedge<S, C, K, B>);

// === impl Hedge ===

impl<S: Clone, C, K, B> Hedge<S, C, K, B> {
    pub(crate) fn new(
        inner: S,
        (classify, copies, bypass): (C, K, B),
        shared: Arc<Shared>,
    ) -> Self {
        let template = Mutex::new(inner.clone());
        let application = Arc::new(Application { template, classify, copies, shared });
        Self { inner, bypass, application }
    }
}

impl<S, C, K, B> Hedge<S, C, K, B> {
    /// Shows what all who share the budget have hedged.
    pub fn handle(&self) -> HedgeHandle {
        HedgeHandle::new(Arc::clone(&self.application.shared))
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
    type Future = ResponseFuture<S, Req, C, K>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        if self.bypass.passes_by(&request) {
            return ResponseFuture::new(self.inner.call(request), 0, None, None);
        }
        let application = Arc::clone(&self.application);
        let (mut paid, mut copy) = (0, None);
        if application.shared.enabled.load(Relaxed) {
            application.shared.charge();
            paid = application.shared.budget_id;
            copy = application.copies.copy(&request);
        }
        let entered = pay(paid);
        let first = self.inner.call(request);
        drop(entered);
        ResponseFuture::new(first, paid, copy, Some(application))
    }
}

/// Without the closures, which cannot be shown.
impl<S: fmt::Debug, C, K, B> fmt::Debug for Hedge<S, C, K, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hedge")
            .field("inner", &self.inner)
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}

// === impl Application ===

impl<S: Clone, C, K> Application<S, C, K> {
    /// An instance for a further attempt.
    pub(crate) fn instance(&self) -> S {
        lock(&self.template).clone()
    }
}
