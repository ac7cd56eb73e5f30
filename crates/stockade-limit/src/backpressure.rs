use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll, ready},
};

use stockade_core::{LayerError, Reason, Rejected};
use tower_service::Service;

use crate::{
    LimitHandle, ResponseFuture,
    future::Slow,
    meter::{Fixed, Measure, Meter},
    permit::{Permit, Place},
    state::State,
};

/// Lets at most so many calls be in flight at once, and is not ready while there is no place for another; made by
/// [`LimitLayer::backpressure`](crate::LimitLayer::backpressure).
///
/// - `poll_ready` waits for a place in FIFO order, and then for the service inside. It never refuses: neither
///   the bound of the queue nor the longest wait holds for those who poll. A ready instance holds its
///   place until it is called or dropped, also while the service inside is not ready for long; whoever
///   waits for a place holds nothing inside.
/// - `call` uses that place. An instance that was not polled ready takes a place if there is one, and refuses
///   otherwise.
/// - A clone shares the limit, holds nothing and is not ready.
/// - Dropping a ready instance, or one that waits, gives its place to the next; so does dropping a response
///   future.
///
/// An instance whose turn has come holds the place although nobody polls it any more, so drop those that wait
/// in vain. [`Limit`](crate::Limit) has no such instances.
///
/// # Example
///
/// ```
/// use stockade_core::Error;
/// use stockade_limit::LimitLayer;
/// use tower::{Service, ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let mut svc = ServiceBuilder::new()
///     .layer(LimitLayer::new(1).backpressure())
///     .map_err(Error::Service)
///     .service_fn(async |n: u32| Ok::<_, std::io::Error>(n + 1));
/// let first = svc.ready().await.unwrap().call(1);
/// let mut other = svc.clone();
/// let second = tokio::spawn(async move { other.ready().await.unwrap().call(2).await });
/// assert_eq!((first.await.unwrap(), second.await.unwrap().unwrap()), (2, 3));
/// # }
/// ```
pub struct Backpressure<S, A: Meter = Fixed> {
    inner: S,
    state: Arc<State<A>>,
    permit: Option<Permit<A>>,
    /// On the way to a permit. Most never wait, and need not move the room for it about.
    waiting: Option<Box<Place<A>>>,
}

// === impl Backpressure ===

impl<S, A: Meter> Backpressure<S, A> {
    pub(crate) fn new(inner: S, state: Arc<State<A>>) -> Self {
        Self { inner, state, permit: None, waiting: None }
    }

    /// Shows and changes the limit of this service.
    pub fn handle(&self) -> LimitHandle {
        LimitHandle::new(Arc::clone(&self.state) as _)
    }

    /// The service inside.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service inside, mutably.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The service inside, without the layer.
    pub fn into_inner(self) -> S {
        self.inner
    }

    #[inline]
    fn poll_permit(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejected>> {
        let waiting = match &mut self.waiting {
            Some(waiting) => waiting,
            none => {
                self.permit = Permit::try_new(&self.state);
                if self.permit.is_some() {
                    return Poll::Ready(Ok(()));
                }
                let place = Place::join(Arc::clone(&self.state), u32::MAX);
                none.insert(Box::new(place.map_err(|full| full.rejected(Reason::QueueFull))?))
            }
        };
        ready!(waiting.poll(cx))?;
        self.permit = self.waiting.take().and_then(|place| place.entered());
        Poll::Ready(Ok(()))
    }
}

impl<S, Req, A> Service<Req> for Backpressure<S, A>
where
    S: Service<Req>,
    S::Error: LayerError,
    A: Measure<S::Response, S::Error>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, Req, A>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // The place first: whoever waits for it must not keep others from the service inside.
        if self.permit.is_none()
            && let Err(rejected) = ready!(self.poll_permit(cx))
        {
            return Poll::Ready(Err(rejected.into_error()));
        }
        let ready = ready!(self.inner.poll_ready(cx));
        if ready.is_err() {
            self.permit = None;
        }
        Poll::Ready(ready)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let permit = self.permit.take().or_else(|| Permit::try_new(&self.state));
        match permit {
            Some(permit) => ResponseFuture::running(permit, || self.inner.call(request)),
            None => ResponseFuture::slow(Slow::Full(Arc::clone(&self.state))),
        }
    }
}

/// A clone never has the place of another.
impl<S: Clone, A: Meter> Clone for Backpressure<S, A> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            state: Arc::clone(&self.state),
            permit: None,
            waiting: None,
        }
    }
}

impl<S: fmt::Debug, A: Meter> fmt::Debug for Backpressure<S, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backpressure").field("inner", &self.inner).finish_non_exhaustive()
    }
}
