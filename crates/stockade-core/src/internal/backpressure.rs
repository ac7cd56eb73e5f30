//! Waiting in `poll_ready`: one wrapper for every layer that has `.backpressure()`.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tower_layer::Layer;
use tower_service::Service;

use super::Waiter;
use crate::{LayerError, Rejected};

/// A service that can reserve in `poll_ready` what its calls need.
pub trait Reserve {
    /// What a call holds; dropping it gives it back.
    type Permit;
    /// The wait for a permit.
    type Waiter: Waiter<Permit = Self::Permit>;

    /// A permit, if there is one at once.
    fn try_reserve(&self) -> Option<Self::Permit>;

    /// Whether a permit that an instance has kept since it became ready is still worth something. Otherwise
    /// the instance waits for another one when it is polled again.
    fn still_holds(&self, _: &Self::Permit) -> bool {
        true
    }

    /// Joins the queue. Neither the bound of the queue nor the longest wait holds here: a caller takes
    /// an error of `poll_ready` for the end of the service.
    fn wait(&self) -> Self::Waiter;
}

/// A [`Reserve`] that calls the service inside with a permit. The service inside need not be `Clone`.
pub trait ReserveCall<Req>: Reserve {
    /// The response of the service inside.
    type Response;
    /// The error of the service inside.
    type Error: LayerError;
    /// The response future of the layer.
    type Future: Future<Output = Result<Self::Response, Self::Error>>;

    /// Whether the service inside is ready.
    fn poll_inner_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>>;

    /// Calls the service inside. Without a permit the call takes one if there is one, and is refused
    /// otherwise: it never waits.
    fn call_reserved(&mut self, permit: Option<Self::Permit>, request: Req) -> Self::Future;
}

/// Makes services that wait in `poll_ready`; made by the `.backpressure()` of a layer.
#[derive(Clone, Debug)]
pub struct BackpressureLayer<L>(L);

/// Waits in `poll_ready`, and not in the response future.
///
/// - `poll_ready` waits for a permit in FIFO order, then for the service inside. It never refuses. A
///   ready instance keeps its permit until it is called or dropped; one that still waits holds nothing
///   inside.
/// - `call` uses that permit. An instance that was not polled ready takes one if there is one, and is
///   refused otherwise.
/// - A clone shares the limit, holds nothing and is not ready.
/// - Dropping an instance that is ready, or that waits, gives its place to the next.
///
/// An instance that waits and is no longer polled keeps its turn: drop it.
pub struct Backpressure<L: Reserve> {
    service: L,
    permit: Option<L::Permit>,
    // Boxed, because most instances never wait.
    waiter: Option<Pin<Box<L::Waiter>>>,
}

// === impl BackpressureLayer ===

impl<L> BackpressureLayer<L> {
    /// `layer`, whose services are to wait in `poll_ready`.
    pub const fn new(layer: L) -> Self {
        Self(layer)
    }
}

impl<S, L> Layer<S> for BackpressureLayer<L>
where
    L: Layer<S>,
    L::Service: Reserve,
{
    type Service = Backpressure<L::Service>;

    fn layer(&self, inner: S) -> Self::Service {
        Backpressure { service: self.0.layer(inner), permit: None, waiter: None }
    }
}

// === impl Backpressure ===

impl<L: Reserve> Backpressure<L> {
    /// The service of the layer, which has the handle and the service inside.
    pub fn get_ref(&self) -> &L {
        &self.service
    }

    fn poll_permit(&mut self, cx: &mut Context<'_>) -> Poll<Result<L::Permit, Rejected>> {
        if self.waiter.is_none() {
            if let Some(permit) = self.service.try_reserve() {
                return Poll::Ready(Ok(permit));
            }
            self.waiter = Some(Box::pin(self.service.wait()));
        }
        let waiter = self.waiter.as_mut().expect("it was made above");
        let admitted = ready!(waiter.as_mut().poll_admit(cx));
        self.waiter = None;
        Poll::Ready(admitted)
    }
}

impl<Req, L: ReserveCall<Req>> Service<Req> for Backpressure<L> {
    type Response = L::Response;
    type Error = L::Error;
    type Future = L::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), L::Error>> {
        if self.permit.as_ref().is_some_and(|permit| !self.service.still_holds(permit)) {
            self.permit = None;
        }
        // The permit first: an instance that waits for one must not keep others from the service inside.
        if self.permit.is_none() {
            match ready!(self.poll_permit(cx)) {
                Ok(permit) => self.permit = Some(permit),
                Err(rejected) => return Poll::Ready(Err(rejected.into_error())),
            }
        }
        let ready = ready!(self.service.poll_inner_ready(cx));
        if ready.is_err() {
            self.permit = None;
        }
        Poll::Ready(ready)
    }

    fn call(&mut self, request: Req) -> L::Future {
        let permit = self.permit.take();
        self.service.call_reserved(permit, request)
    }
}

/// A clone never has the permit of another.
impl<L: Reserve + Clone> Clone for Backpressure<L> {
    fn clone(&self) -> Self {
        Self { service: self.service.clone(), permit: None, waiter: None }
    }
}

impl<L: Reserve + fmt::Debug> fmt::Debug for Backpressure<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backpressure").field("service", &self.service).finish_non_exhaustive()
    }
}
