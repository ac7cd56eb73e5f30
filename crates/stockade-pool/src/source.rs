//! Where the requests of a run come from.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;

/// Where the requests of a run come from: an iterator ([`Iter`]) or a stream ([`Streamed`]), and nothing else.
pub trait Source: sealed::Sealed {
    /// The requests.
    type Item;

    /// The next request, none at the end.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::Item>>;
}

mod sealed {
    pub trait Sealed {}
}

/// The requests of an iterator.
pub struct Iter<I>(I);

/// The requests of a stream.
pub struct Streamed<S>(S);

// === impl Iter ===

impl<I> Iter<I> {
    pub(crate) fn new(requests: I) -> Self {
        Self(requests)
    }

    /// The iterator.
    pub fn into_inner(self) -> I {
        self.0
    }
}

impl<I> sealed::Sealed for Iter<I> {}

impl<I: Iterator> Source for Iter<I> {
    type Item = I::Item;

    #[inline]
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<I::Item>> {
        Poll::Ready(self.0.next())
    }
}

impl<I> fmt::Debug for Iter<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Iter")
    }
}

// === impl Streamed ===

impl<S> Streamed<S> {
    pub(crate) fn new(requests: S) -> Self {
        Self(requests)
    }

    /// The stream.
    pub fn into_inner(self) -> S {
        self.0
    }
}

impl<S> sealed::Sealed for Streamed<S> {}

impl<S: Stream + Unpin> Source for Streamed<S> {
    type Item = S::Item;

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        Pin::new(&mut self.0).poll_next(cx)
    }
}

impl<S> fmt::Debug for Streamed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Streamed")
    }
}
