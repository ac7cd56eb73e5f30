//! The service.

use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};

use stockade_core::{Classify, DefaultClassify, LayerError};
use tower_service::Service;

use crate::{
    BreakerHandle, ResponseFuture,
    future::Slow,
    gate::{Gate, Verdict},
    owner::Owner,
    ticket::{Admitted, CallPanicked, Ticket},
};

/// Stops calling the service inside while that fails. Made by a [`BreakerLayer`](crate::BreakerLayer),
/// whose page says when it does.
///
/// It does not repeat calls, and it does not limit how long they take.
///
/// - `poll_ready` passes through to the service inside, its error too, which counts for nothing. While
///   the breaker is not closed it is ready although the service inside is not, so that a caller learns of
///   the refusal instead of waiting for a service that is not to be called. A caller that waits for
///   readiness already when the breaker opens waits on.
/// - `call` refuses, and lets go of what this instance had inside, or calls the service inside. Where the call is admitted, but the service inside was
///   not ready, the response future waits for that.
/// - A clone shares the state of the breaker, and is not ready.
/// - Dropping it changes nothing.
///
/// # Errors
///
/// [`Reason::BreakerOpen`](stockade_core::Reason::BreakerOpen) with the remaining open time as `retry_after` (without, while
/// the probes are out), and [`Reason::ForcedOpen`](stockade_core::Reason::ForcedOpen).
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
pub struct Breaker<S, C = DefaultClassify> {
    inner: S,
    /// That of `owner`, which keeps it from being used by another breaker. Kept here as well, so that calls do
    /// not touch the line of memory where clones are counted.
    gate: &'static Gate,
    owner: Arc<Owner>,
    classify: C,
    /// Whether the service inside said that it is ready: while the breaker is not closed, the one
    /// outside says so in any case.
    readied: bool,
}

// === impl Breaker ===

impl<S, C> Breaker<S, C> {
    pub(crate) fn new(inner: S, owner: Arc<Owner>, classify: C) -> Self {
        Self { inner, gate: owner.gate(), owner, classify, readied: false }
    }

    /// The handle of this breaker.
    pub fn handle(&self) -> BreakerHandle {
        BreakerHandle::new(Arc::clone(&self.owner))
    }
}

stockade_core::accessors!(Breaker<S, C>);

impl<S, C, Req> Service<Req> for Breaker<S, C>
where
    S: Service<Req> + Clone,
    S::Error: LayerError,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, Req, C>;

    #[inline(always)]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let inner = self.inner.poll_ready(cx);
        self.readied = matches!(inner, Poll::Ready(Ok(())));
        match inner {
            Poll::Pending if !self.gate.is_closed() => Poll::Ready(Ok(())),
            inner => inner,
        }
    }

    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        // Before the call is admitted, because it may panic.
        let classify = self.classify.clone();
        // What comes back from a function that stays one lies in memory. So none of those in the rare branches
        // hands on a future, which would move all others through memory too; and there is one call of what
        // is inside.
        let admitted = match self.gate.pass() {
            Some(pass) => Ok(Admitted::at_once(pass)),
            None => self.owner.admit().map(Admitted::from),
        };
        match admitted {
            Ok(admitted) if self.readied => {
                self.readied = false;
                let panicked =
                    CallPanicked { gate: self.gate, admitted, verdict: Verdict::Failure };
                let future = self.inner.call(request);
                panicked.disarm();
                ResponseFuture::running(future, Ticket::new(self.gate, admitted, classify))
            }
            Ok(admitted) => {
                let slow = self.wait(admitted, request);
                ResponseFuture::slow(slow, Ticket::new(self.gate, admitted, classify))
            }
            Err(rejected) => {
                self.let_go();
                ResponseFuture::slow(Slow::Refused(rejected), Ticket::none(classify))
            }
        }
    }
}

impl<S: Clone, C> Breaker<S, C> {
    /// The future takes the instance that was polled, which may have come some way.
    #[cold]
    #[inline(never)]
    fn wait<Req>(&mut self, admitted: Admitted, request: Req) -> Slow<S, Req> {
        let panicked = CallPanicked { gate: self.gate, admitted, verdict: Verdict::Ignored };
        let clone = self.inner.clone();
        panicked.disarm();
        Slow::waiting(mem::replace(&mut self.inner, clone), request)
    }

    /// What this instance has inside, a place or its turn in a queue, goes to those who are let in.
    #[cold]
    #[inline(never)]
    fn let_go(&mut self) {
        self.readied = false;
        let fresh = self.inner.clone();
        drop(mem::replace(&mut self.inner, fresh));
    }
}

impl<S: Clone, C: Clone> Clone for Breaker<S, C> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            gate: self.gate,
            owner: Arc::clone(&self.owner),
            classify: self.classify.clone(),
            readied: false,
        }
    }
}

impl<S: fmt::Debug, C> fmt::Debug for Breaker<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker")
            .field("inner", &self.inner)
            .field("owner", &self.owner)
            .field("readied", &self.readied)
            .finish()
    }
}
