//! Where the requests of a run come from.

use std::{
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;

/// What [`Pool::run`](crate::Pool::run) takes: anything that can be iterated over, [`Streamed`] or [`ByHand`].
pub trait IntoSource {
    /// The requests.
    type Item;
    /// Where they come from.
    type Source: Stream<Item = Self::Item> + Unpin;

    /// The source.
    fn into_source(self) -> Self::Source;
}

/// The requests of an iterator.
#[derive(Debug)]
pub struct Iter<I>(I);

/// The requests of a stream. One that is not `Unpin` is pinned first, with `std::pin::pin!`.
///
/// # Example
///
/// ```
/// use std::convert::Infallible;
/// use futures_util::{StreamExt, stream};
/// use stockade_core::Error;
/// use stockade_pool::{Pool, Streamed};
/// use tower::service_fn;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let pool = Pool::builder().build(service_fn(async |n: u32| Ok::<_, Error<Infallible>>(n * 2)));
/// let outcomes = pool.run(Streamed(stream::iter(0..10)));
/// assert_eq!(outcomes.try_all().await.unwrap().len(), 10);
/// # }
/// ```
#[derive(Debug)]
pub struct Streamed<S>(pub S);

/// No requests but those that are [pushed](crate::Outcomes::push).
#[derive(Debug)]
pub struct ByHand<Req>(PhantomData<fn() -> Req>);

// === impl Iter ===

impl<I> Iter<I> {
    /// The iterator.
    pub fn into_inner(self) -> I {
        self.0
    }
}

// Nothing in it is pinned.
impl<I> Unpin for Iter<I> {}

impl<I: Iterator> Stream for Iter<I> {
    type Item = I::Item;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<I::Item>> {
        Poll::Ready(self.0.next())
    }
}

impl<I: IntoIterator> IntoSource for I {
    type Item = I::Item;
    type Source = Iter<I::IntoIter>;

    fn into_source(self) -> Self::Source {
        Iter(self.into_iter())
    }
}

// === impl Streamed ===

impl<S: Stream + Unpin> IntoSource for Streamed<S> {
    type Item = S::Item;
    type Source = S;

    fn into_source(self) -> S {
        self.0
    }
}

// === impl ByHand ===

impl<Req> ByHand<Req> {
    /// No requests yet.
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<Req> Default for ByHand<Req> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Req> Stream for ByHand<Req> {
    type Item = Req;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Req>> {
        Poll::Ready(None)
    }
}

impl<Req> IntoSource for ByHand<Req> {
    type Item = Req;
    type Source = Self;

    fn into_source(self) -> Self {
        self
    }
}
