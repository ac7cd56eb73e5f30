//! Many jobs at once: the requests go in as there is room, and what became of them comes out.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use stockade_core::LayerError;

use crate::{
    Outcome,
    batch::{Batch, NotYet},
    lease::Lease,
    pool::Handles,
    source::{Iter, Source},
};

/// What became of the requests given to [`Pool::run`](crate::Pool::run) or
/// [`run_stream`](crate::Pool::run_stream), in the order in which they ended, or with
/// [`ordered`](Self::ordered) in the order of the requests.
///
/// Requests are taken from the source when the stream is polled and there is room for them, so a slow reader
/// slows the source down: at most as many requests are under way, or have ended unread, as the queue and the
/// workers hold twice over, and no more than 128 for each worker. When the pool is closed no more are taken; those that were are reported, and
/// [`into_remaining`](Self::into_remaining) returns the rest.
///
/// # Cancel safety
///
/// Dropping it cancels what is queued and what runs. Dropping the future of [`next`](Self::next) loses
/// nothing.
#[must_use = "requests are taken as outcomes are read"]
pub struct Outcomes<S: Source, T, E> {
    batch: Batch<S::Item, T, E>,
    /// None when it has ended.
    source: Option<S>,
    /// Taken from the source, and not accepted yet.
    next: VecDeque<S::Item>,
    closed: bool,
    /// With order: what has ended before one that is to be read first, from `batch.read` on.
    early: Option<VecDeque<Option<Outcome<T, E>>>>,
}

// === impl Outcomes ===

impl<S, T, E> Outcomes<S, T, E>
where
    S: Source,
    E: LayerError,
{
    pub(crate) fn new(pool: Lease<Handles<S::Item, T, E>>, source: S) -> Self {
        Self {
            batch: Batch::new(pool),
            source: Some(source),
            next: VecDeque::new(),
            closed: false,
            early: None,
        }
    }

    /// Reports in the order of the requests. What ends early is kept until its turn, and counts as unread: so a
    /// request that takes long holds up the source in the end, and the memory is bounded.
    ///
    /// # Panics
    ///
    /// If an outcome has been asked for before.
    #[track_caller]
    pub fn ordered(mut self) -> Self {
        assert!(self.batch.accepted == 0, "stockade: `ordered` is said before outcomes are read");
        self.early = Some(VecDeque::new());
        self
    }

    /// The next outcome, or none when all requests have ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Outcome<T, E>> {
        poll_fn(|cx| self.poll_outcome(cx)).await
    }

    fn poll_outcome(&mut self, cx: &mut Context<'_>) -> Poll<Option<Outcome<T, E>>> {
        loop {
            // While there is something to read, requests are submitted only now and then.
            if self.batch.is_read() || self.batch.is_time_to_feed() {
                self.feed(self.batch.one_by_one(), cx);
            }
            if let Poll::Ready(outcome) = self.poll_ended(cx) {
                self.batch.read += 1;
                return Poll::Ready(Some(outcome));
            }
            // With nothing to read there is time to wait for a place.
            self.feed(true, cx);
            if self.batch.is_read() {
                break;
            }
        }
        let taken = self.source.is_none() && self.next.is_empty();
        if self.batch.read == self.batch.accepted && (self.closed || taken) {
            return Poll::Ready(None);
        }
        Poll::Pending
    }

    /// The next outcome to be read.
    #[inline]
    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Outcome<T, E>> {
        let Some(early) = &mut self.early else { return self.batch.poll_ended(cx) };
        loop {
            if let Some(first) = early.front_mut().and_then(Option::take) {
                early.pop_front();
                return Poll::Ready(first);
            }
            let outcome = ready!(self.batch.poll_ended(cx));
            let position = (outcome.id - self.batch.read) as usize;
            if early.len() <= position {
                early.resize_with(position + 1, || None);
            }
            early[position] = Some(outcome);
        }
    }

    /// Submits as many requests as there is room for, and if it is to `wait`, waits for more.
    fn feed(&mut self, wait: bool, cx: &mut Context<'_>) {
        while !self.closed {
            let wanted = self.batch.chunk().min(self.batch.room());
            let mut more = self.source.is_some();
            while more && self.next.len() < wanted {
                match self.source.as_mut().map(|source| source.poll_next(cx)) {
                    Some(Poll::Ready(Some(request))) => self.next.push_back(request),
                    Some(Poll::Pending) => more = false,
                    Some(Poll::Ready(None)) | None => {
                        self.source = None;
                        more = false;
                    }
                }
            }
            if wanted == 0 || self.next.is_empty() {
                return;
            }
            let submitted = if wait {
                self.batch.submit_all(&mut self.next, cx)
            } else {
                self.batch.visit(&mut self.next)
            };
            match submitted {
                Ok(()) if more => {}
                Ok(()) | Err(NotYet::Waiting) => return,
                Err(NotYet::Closed) => self.closed = true,
            }
        }
    }
}

impl<S: Source, T, E> Outcomes<S, T, E> {
    /// The requests that were taken and not accepted, and what is left of the source, as after the pool was closed.
    /// Cancels what is under way.
    pub fn into_parts(mut self) -> (VecDeque<S::Item>, Option<S>) {
        (std::mem::take(&mut self.next), self.source.take())
    }
}

impl<I: Iterator, T, E> Outcomes<Iter<I>, T, E> {
    /// The requests that the pool has not accepted, as after it was closed. Cancels what is under way.
    pub fn into_remaining(self) -> impl Iterator<Item = I::Item> {
        let (next, source) = self.into_parts();
        next.into_iter().chain(source.map(Iter::into_inner).into_iter().flatten())
    }
}

impl<S, T, E> Stream for Outcomes<S, T, E>
where
    S: Source,
    E: LayerError,
{
    type Item = Outcome<T, E>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_outcome(cx)
    }
}

// Nothing in it is pinned.
impl<S: Source, T, E> Unpin for Outcomes<S, T, E> {}

impl<S: Source, T, E> fmt::Debug for Outcomes<S, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outcomes")
            .field("accepted", &self.batch.accepted)
            .field("read", &self.batch.read)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}
