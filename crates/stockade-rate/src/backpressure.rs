//! A rate limit that waits in `poll_ready`.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll, ready},
};

use stockade_core::{
    LayerError, deadline,
    internal::{Key, Timer},
};
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    RateHandle, ResponseFuture,
    future::Slow,
    gate::{Gate, Turn},
};

/// Makes services that wait for their tokens in `poll_ready`; made by
/// [`RateLayer::backpressure`](crate::RateLayer::backpressure).
///
/// It takes no further settings: they are made before. Clones of it, and the layer it was made from, share one
/// bucket and one queue, unless that layer is per-service.
///
/// # Example
///
/// ```
/// use stockade_core::Error;
/// use stockade_rate::RateLayer;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let layer = RateLayer::per_second(10).backpressure();
/// let handle = layer.handle();
/// let echo = service_fn(|n: u32| async move { Ok::<_, Error<()>>(n) });
/// let mut service = ServiceBuilder::new().layer(layer).service(echo);
/// service.ready().await.unwrap();
/// assert_eq!(handle.available(), 9);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct BackpressureLayer {
    gate: Arc<Gate>,
    per_service: bool,
}

/// A service that is ready when it has a token; made by a [`BackpressureLayer`].
///
/// - `poll_ready` waits for a token, in one order with everybody who waits at this rate limit, and then for the
///   service inside; its error is that of the service inside, and never a refusal. So whoever waits for a
///   token holds nothing inside. The bound of the queue, the longest wait and the deadline hold for those
///   who wait in a response future, not here.
/// - `call` spends the token. On an instance that was not polled ready it takes one if it is there, and is
///   refused otherwise.
/// - A clone shares the bucket and the queue, and has no token.
/// - Dropping an instance that is ready gives its token back; dropping one that waits lets the next one
///   take over.
///
/// A token is taken when an instance becomes ready, not when it is called: for each instance that is kept
/// ready one call more may pass than the rate allows. An instance that waits and is not polled any more holds
/// up those behind it, so drop those that wait in vain. [`Rate`](crate::Rate) has no such instances.
///
/// # Panics
///
/// `poll_ready`, when it has to wait outside a tokio runtime with time.
///
/// # Errors
///
/// The errors of the service inside, as they are. For calls that were not polled ready a refusal as
/// [`RateLimited`](stockade_core::Reason::RateLimited), which says when there is a token.
///
/// # Example
///
/// ```
/// use stockade_core::Error;
/// use stockade_rate::{Backpressure, RateLayer};
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let start = tokio::time::Instant::now();
/// let mut service: Backpressure<_> = ServiceBuilder::new()
///     .layer(RateLayer::per_second(10).burst(1).backpressure())
///     .service(service_fn(|n: u32| async move { Ok::<_, Error<()>>(n) }));
/// for n in 0..3 {
///     service.ready().await.unwrap().call(n).await.unwrap();
/// }
/// assert_eq!(start.elapsed().as_millis(), 200);
/// # }
/// ```
pub struct Backpressure<S> {
    inner: S,
    token: Token,
}

stockade_core::accessors!(Backpressure<S>);

/// What an instance has at the rate limit; given back by its drop.
struct Token {
    gate: Arc<Gate>,
    at: At,
    /// The head's sleep.
    timer: Option<Timer>,
}

#[derive(Clone, Copy)]
enum At {
    Nowhere,
    /// In the queue. As the head it had been told to look so often when it last did.
    Queue {
        key: Key,
        told: u32,
    },
    /// Has a token.
    Ready,
}

// === impl BackpressureLayer ===

impl BackpressureLayer {
    pub(crate) fn new(gate: Arc<Gate>, per_service: bool) -> Self {
        Self { gate, per_service }
    }

    /// What there is to see and to turn of the bucket and the queue that all services of this layer share.
    /// For those of a per-service layer, ask each service: [`Backpressure::handle`].
    pub fn handle(&self) -> RateHandle {
        RateHandle::new(Arc::clone(&self.gate))
    }
}

impl<S> Layer<S> for BackpressureLayer {
    type Service = Backpressure<S>;

    fn layer(&self, inner: S) -> Backpressure<S> {
        let gate =
            if self.per_service { Arc::new(self.gate.afresh()) } else { Arc::clone(&self.gate) };
        Backpressure { inner, token: Token { gate, at: At::Nowhere, timer: None } }
    }
}

// === impl Backpressure ===

impl<S> Backpressure<S> {
    /// What there is to see and to turn of the bucket and the queue of this service.
    pub fn handle(&self) -> RateHandle {
        RateHandle::new(Arc::clone(&self.token.gate))
    }
}

impl<S, Req> Service<Req> for Backpressure<S>
where
    S: Service<Req>,
    S::Error: LayerError,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, Req>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // The token first: whoever waits for it must not keep others from the service inside.
        ready!(self.token.poll(cx));
        let ready = ready!(self.inner.poll_ready(cx));
        if ready.is_err() {
            self.token.give_back();
        }
        Poll::Ready(ready)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        if let At::Ready = self.token.at {
            self.token.at = At::Nowhere;
            return ResponseFuture::running(self.inner.call(request));
        }
        let gate = &self.token.gate;
        let now = gate.now();
        if gate.pass(now, None) {
            ResponseFuture::running(self.inner.call(request))
        } else {
            ResponseFuture::slow(Slow::Refused(gate.turn_away(now)))
        }
    }
}

/// A clone never has the token of another.
impl<S: Clone> Clone for Backpressure<S> {
    fn clone(&self) -> Self {
        let gate = Arc::clone(&self.token.gate);
        Self { inner: self.inner.clone(), token: Token { gate, at: At::Nowhere, timer: None } }
    }
}

impl<S: fmt::Debug> fmt::Debug for Backpressure<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backpressure").field("inner", &self.inner).finish_non_exhaustive()
    }
}

// === impl Token ===

impl Token {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let gate = &self.gate;
        loop {
            match &mut self.at {
                At::Ready => return Poll::Ready(()),
                At::Nowhere => {
                    let now = gate.now();
                    self.at = match gate.pass(now, None) {
                        true => At::Ready,
                        false => gate
                            .join(now, cx.waker())
                            .map_or(At::Ready, |key| At::Queue { key, told: 0 }),
                    };
                }
                At::Queue { key, told } => {
                    if let Some(timer) = &mut self.timer
                        && timer.poll(cx).is_pending()
                        && gate.told() == *told
                    {
                        return Poll::Pending;
                    }
                    self.timer = None;
                    match gate.turn(*key, cx.waker(), || gate.now()) {
                        Turn::Behind => return Poll::Pending,
                        // One token always fits.
                        Turn::Served | Turn::Refused(_) => self.at = At::Ready,
                        Turn::Due(after, so_far) => {
                            *told = so_far;
                            let due = deadline::saturating_add(Instant::now(), after);
                            self.timer = Some(Timer::register(due, cx));
                        }
                    }
                }
            }
        }
    }

    fn give_back(&mut self) {
        let gate = &self.gate;
        match std::mem::replace(&mut self.at, At::Nowhere) {
            At::Nowhere => {}
            At::Queue { key, .. } => gate.remove(key),
            At::Ready => gate.give_back(),
        }
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.give_back();
    }
}
