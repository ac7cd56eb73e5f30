use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll, ready},
};

use stockade_core::{LayerError, deadline::Nanos};
use tokio::time::Instant;
use tower_service::Service;

use crate::{
    Bypass, Fixed, NoBypass, PerRequest, ResponseFuture, TimeoutHandle, shared::Shared,
    stopwatch::Stopwatch,
};

/// Ends a call that takes longer than its limit; made by [`TimeoutLayer`](crate::TimeoutLayer).
///
/// - `poll_ready` is that of the service inside, and the time spent there does not count. With
///   [`readiness`](crate::TimeoutLayer::readiness) it does.
/// - `call` starts the call at once, under the deadline.
/// - A clone is not ready, and shares the limit.
/// - Dropping the service, or a response future, leaves no timer behind.
pub struct Timeout<S, P = Fixed, B = NoBypass> {
    inner: S,
    shared: Arc<Shared>,
    per_request: P,
    bypass: B,
    /// There if the time spent in `poll_ready` counts.
    readiness: Option<Box<Readiness>>,
}

/// A wait for readiness.
#[derive(Debug, Default)]
struct Readiness {
    /// Runs while the service inside is not ready.
    stopwatch: Option<(Stopwatch, Instant)>,
    /// How long it took until the service inside was ready. Counts for the next call.
    spent: Nanos,
}

stockade_core::accessors!(Timeout<S, P, B>);

// === impl Timeout ===

impl<S, P, B> Timeout<S, P, B> {
    pub(crate) fn new(
        inner: S,
        shared: Arc<Shared>,
        (per_request, bypass): (P, B),
        readiness: bool,
    ) -> Self {
        let readiness = readiness.then(Box::default);
        Self { inner, shared, per_request, bypass, readiness }
    }

    /// Shows and changes the limit that this service shares.
    pub fn handle(&self) -> TimeoutHandle {
        TimeoutHandle::new(Arc::clone(&self.shared))
    }
}

impl<S, P, B, Req> Service<Req> for Timeout<S, P, B>
where
    S: Service<Req>,
    S::Error: LayerError,
    P: PerRequest<Req>,
    B: Bypass<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    /// # Errors
    ///
    /// Those of the service inside; with [`readiness`](crate::TimeoutLayer::readiness) also
    /// [`Elapsed`](stockade_core::Reason::Elapsed). The service can be polled again after that.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        match &mut self.readiness {
            None => self.inner.poll_ready(cx),
            Some(readiness) => readiness.poll(&self.shared, cx, |cx| self.inner.poll_ready(cx)),
        }
    }

    // Without it the compiler calls this, and moves the future through memory.
    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        let spent =
            self.readiness.as_mut().map_or(Nanos::ZERO, |ready| std::mem::take(&mut ready.spent));
        let limit = self.shared.limit_now().filter(|_| !self.bypass.passes_by(&request));
        let Some(limit) = limit else {
            return ResponseFuture::new(self.inner.call(request), None);
        };
        let own = self.per_request.limit(&request).map_or(limit, Nanos::new);
        let mut stopwatch = Stopwatch::new(limit.min(own), spent, self.shared.name);
        let future = stopwatch.deadline.enter(|| self.inner.call(request));
        ResponseFuture::new(future, Some(stopwatch))
    }
}

impl<S: Clone, P: Clone, B: Clone> Clone for Timeout<S, P, B> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            shared: Arc::clone(&self.shared),
            per_request: self.per_request.clone(),
            bypass: self.bypass.clone(),
            readiness: self.readiness.as_ref().map(|_| Box::default()),
        }
    }
}

/// Without the closures, which cannot be shown.
impl<S: fmt::Debug, P, B> fmt::Debug for Timeout<S, P, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout")
            .field("inner", &self.inner)
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

// === impl Readiness ===

impl Readiness {
    fn poll<E: LayerError>(
        &mut self,
        shared: &Shared,
        cx: &mut Context<'_>,
        poll_ready: impl FnOnce(&mut Context<'_>) -> Poll<Result<(), E>>,
    ) -> Poll<Result<(), E>> {
        let Some(limit) = shared.limit_now() else { return poll_ready(cx) };
        let known = self.stopwatch.take();
        let since = known.as_ref().map(|(_, since)| *since);
        let mut stopwatch = match known {
            Some((stopwatch, _)) => stopwatch,
            None => Stopwatch::new(limit, Nanos::ZERO, shared.name),
        };
        let starved = stopwatch.is_starved();
        let ready = stopwatch.deadline.enter(|| poll_ready(cx));
        if ready.is_ready() {
            self.spent = since.map_or(Nanos::ZERO, |since| Nanos::new(since.elapsed()));
            return ready;
        }
        let polled = stopwatch.poll(starved, cx);
        if polled.is_pending() {
            self.stopwatch = Some((stopwatch, since.unwrap_or_else(Instant::now)));
        }
        let elapsed = ready!(polled);
        Poll::Ready(Err(elapsed.into_error()))
    }
}
