//! The service.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use stockade_core::{Bypass, LayerError, NoBypass, Reason, Rejected, internal::deferred};
use tokio::time::Instant;
use tower_service::Service;

use crate::{
    ChaosHandle, MakeError, NoError, ResponseFuture, fault::Fault, future::Held, handle::Shared,
};

/// Makes some calls to `S` slow, fail, hang or panic; made by [`ChaosLayer`](crate::ChaosLayer).
///
/// - `poll_ready` is that of the service inside.
/// - `call` calls the service inside at once, unless a fault befalls the call that keeps it from being made:
///   then it gives up the readiness of this instance.
/// - A clone is not ready, and shares the source of chance.
///
/// While it is off, and for a call that no fault befalls, nothing is allocated and no clock is read.
///
/// # Errors
///
/// Those of the service inside, those that were made up, and [`Shed`](Reason::Shed).
///
/// # Cancel safety
///
/// Dropping a response future drops the call.
#[derive(Clone)]
pub struct Chaos<S, F = NoError, O = NoBypass> {
    inner: S,
    error: F,
    only: O,
    shared: Arc<Shared>,
}

stockade_core::accessors!(Chaos<S, F, O>);

// === impl Chaos ===

impl<S, F, O> Chaos<S, F, O> {
    pub(crate) const fn new(inner: S, error: F, only: O, shared: Arc<Shared>) -> Self {
        Self { inner, error, only, shared }
    }

    /// Turns chaos on and off, for all services of the layer.
    pub fn handle(&self) -> ChaosHandle {
        ChaosHandle::new(Arc::clone(&self.shared))
    }
}

impl<S, F, O, Req> Service<Req> for Chaos<S, F, O>
where
    S: Service<Req> + Clone,
    S::Error: LayerError,
    F: MakeError<S::Error>,
    O: Bypass<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, S::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let may = self.shared.is_enabled() && !self.only.passes_by(&request);
        let fault = match may.then(|| self.shared.draw()).flatten() {
            None => None,
            Some(Fault::Slow(delay)) => Some(Held::Delay(delay)),
            Some(Fault::Error) => self.error.make().map(failed),
            Some(Fault::Reject) => {
                let refused = Rejected::new(&"chaos", Reason::Shed);
                Some(failed(refused.with_name(self.shared.config.name).into_error()))
            }
            Some(Fault::Hang) => Some(Held::Hang),
            Some(Fault::Panic) => Some(Held::Panic),
        };
        if let None | Some(Held::Delay(_)) = fault {
            return ResponseFuture::new(Some(self.inner.call(request)), fault);
        }
        deferred::let_go(&mut self.inner);
        ResponseFuture::new(None, fault)
    }
}

fn failed<T, E>(error: E) -> Held<T, E> {
    Held::answer(Err(error), Instant::now())
}

/// Without the closures, which cannot be shown.
impl<S: fmt::Debug, F, O> fmt::Debug for Chaos<S, F, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chaos")
            .field("inner", &self.inner)
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}
