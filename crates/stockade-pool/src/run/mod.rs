//! Many jobs at once: requests go in as there is room, and what became of them comes out.

mod batch;
mod source;

use std::{
    collections::BTreeMap,
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use stockade_core::{LayerError, Reason};

use batch::Batch;
pub use source::{ByHand, IntoSource, Iter, Streamed};

use crate::{Outcome, Refused, lease::Lease, outcome::Ended, shared::Handles};

/// What became of the requests given to [`Pool::run`](crate::Pool::run), in the order in which they ended, or with
/// [`ordered`](Self::ordered) in the order of the requests.
///
/// Requests are taken from the source when the stream is polled and there is room for them, one at a time unless workers
/// are idle. So a slow reader slows the source down, and a slow source holds up nothing that has ended. At most as
/// many requests are under way, or have ended unread, as the queue and the workers hold twice over, and no more than
/// 128 for each worker.
///
/// A run waits for places, whatever [`when_full`](crate::PoolBuilder::when_full) says. When the pool is closed no more
/// requests are taken; those that were are reported, and [`into_remaining`](Self::into_remaining) returns the rest.
///
/// # Cancel safety
///
/// Dropping it cancels what is queued and what runs. Dropping the future of [`next`](Self::next) loses nothing.
///
/// # Example
///
/// Jobs that belong together, pushed by hand:
///
/// ```
/// use std::convert::Infallible;
/// use stockade_core::Error;
/// use stockade_pool::{ByHand, Pool};
/// use tower::service_fn;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let pool = Pool::builder().build(service_fn(async |n: u32| Ok::<_, Error<Infallible>>(n * 2)));
/// let mut group = pool.run(ByHand::new());
/// for n in 0..3 {
///     group.push(n).await.unwrap();
/// }
/// assert_eq!(group.try_all().await.unwrap(), [0, 2, 4]);
/// # }
/// ```
#[must_use = "requests are taken as outcomes are read"]
pub struct Outcomes<S: Stream, T, E> {
    batch: Batch<S::Item, T, E>,
    /// None when it has ended.
    source: Option<S>,
    /// The pool is closed, and this request came back.
    back: Option<S::Item>,
    /// With order: what has ended before one that is to be read first.
    early: Option<Early<S::Item, T, E>>,
}

type Early<Req, T, E> = BTreeMap<u64, Ended<Req, T, E>>;

// === impl Outcomes ===

impl<S: Stream + Unpin, T, E> Outcomes<S, T, E> {
    pub(crate) fn new(pool: Lease<Handles<S::Item, T, E>>, source: S) -> Self {
        let batch = Batch::new(pool);
        Self { batch, source: Some(source), back: None, early: None }
    }

    /// Reports in the order of the requests. What ends early is kept until its turn and counts as unread, so a request
    /// that takes long holds up the source in the end, and the memory is bounded.
    ///
    /// # Panics
    ///
    /// If a request has been taken before.
    #[track_caller]
    pub fn ordered(mut self) -> Self {
        assert!(self.batch.submitted == 0, "stockade: call `ordered` before outcomes are read");
        self.early = Some(BTreeMap::new());
        self
    }

    /// How many requests were taken and have not been read.
    pub fn len(&self) -> usize {
        (self.batch.submitted - self.batch.read) as usize
    }

    /// Whether all requests that were taken have been read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The request that came back when the pool was closed, and what is left of the source. Cancels what is under way.
    pub fn into_parts(mut self) -> (Option<S::Item>, Option<S>) {
        (self.back.take(), self.source.take())
    }

    /// Takes requests from the source as there is room for them. Returns whether it could go on after others have run.
    fn feed(&mut self, cx: &mut Context<'_>) -> bool {
        let mut taken = 0;
        while self.back.is_none() && self.batch.has_room() {
            let Some(source) = &mut self.source else { return false };
            let request = match Pin::new(source).poll_next(cx) {
                Poll::Ready(Some(request)) => request,
                Poll::Ready(None) => {
                    self.source = None;
                    return false;
                }
                Poll::Pending => return false,
            };
            match self.batch.submit(request) {
                Ok(hungry) => {
                    taken += 1;
                    // At first one by one, because to take a request may be slow.
                    if !hungry || taken > self.batch.read {
                        return true;
                    }
                }
                Err((request, reason)) => self.refused(request, reason),
            }
        }
        false
    }

    /// A request was refused a place.
    fn refused(&mut self, request: S::Item, reason: Reason) {
        if reason == Reason::PoolClosed {
            self.back = Some(request);
        } else {
            self.batch.end_refused(request, reason);
        }
    }
}

impl<S: Stream + Unpin, T, E: LayerError> Outcomes<S, T, E> {
    /// The next outcome, or none when all requests have ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Outcome<S::Item, T, E>> {
        poll_fn(|cx| self.poll_outcome(cx)).await
    }

    /// Waits for all, and returns what was not read yet, in the order of the requests.
    pub async fn all(mut self) -> Vec<Outcome<S::Item, T, E>> {
        let mut outcomes = Vec::with_capacity(self.len());
        while let Some(outcome) = self.next().await {
            outcomes.push(outcome);
        }
        outcomes.sort_unstable_by_key(|outcome| outcome.id);
        outcomes
    }

    /// Waits for all, and returns the answers that were not read yet, in the order of the requests; or returns the first
    /// error, and cancels the rest.
    ///
    /// # Errors
    ///
    /// The error of the first job to fail, in whatever way.
    pub async fn try_all(mut self) -> Result<Vec<T>, E> {
        let mut answers = Vec::with_capacity(self.len());
        while let Some(outcome) = self.next().await {
            answers.push((outcome.id, outcome.result?));
        }
        answers.sort_unstable_by_key(|(id, _)| *id);
        Ok(answers.into_iter().map(|(_, answer)| answer).collect())
    }

    fn poll_outcome(&mut self, cx: &mut Context<'_>) -> Poll<Option<Outcome<S::Item, T, E>>> {
        loop {
            let again = self.feed(cx);
            if let Some(outcome) = self.read() {
                return Poll::Ready(Some(outcome));
            }
            let taken = self.source.is_none() && self.batch.in_line.is_none();
            if self.is_empty() && (self.back.is_some() || taken) {
                return Poll::Ready(None);
            }
            match self.batch.poll_change(cx) {
                Poll::Ready(None) => {}
                Poll::Ready(Some((request, reason))) => self.refused(request, reason),
                Poll::Pending => {
                    if again {
                        cx.waker().wake_by_ref();
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// The next outcome that is at hand.
    fn read(&mut self) -> Option<Outcome<S::Item, T, E>> {
        let ended = match &mut self.early {
            None => self.batch.ended.pop_front()?,
            Some(early) => {
                early.extend(self.batch.ended.drain(..).map(|ended| (ended.id, ended)));
                early.remove(&self.batch.read)?
            }
        };
        self.batch.read += 1;
        Some(ended.into_outcome())
    }
}

impl<Req, T, E> Outcomes<ByHand<Req>, T, E> {
    /// Submits one more request, and waits until it has a place in the queue. [`Outcome::id`] counts the requests of the run.
    ///
    /// What has ended and was not read is kept: to push without end, read with [`next`](Self::next) now and then.
    ///
    /// # Errors
    ///
    /// [`Refused`] with the request, if there is no place for it.
    ///
    /// # Cancel safety
    ///
    /// The request belongs to the run as soon as the future is polled: after dropping the future it goes on waiting.
    pub async fn push(&mut self, request: Req) -> Result<(), Refused<Req>> {
        // One that was left in line, and refused since, has nobody to come back to.
        drop(self.in_line().await);
        let refused = match self.batch.submit(request) {
            Ok(_) => self.in_line().await,
            Err(refused) => Some(refused),
        };
        let Some((request, reason)) = refused else { return Ok(()) };
        Err(Refused::new(self.batch.refuse(reason), request))
    }

    /// Waits until no request is in line; returns one that was refused.
    async fn in_line(&mut self) -> Option<(Req, Reason)> {
        while self.batch.in_line.is_some() {
            let change = poll_fn(|cx| match self.batch.in_line.is_some() {
                true => self.batch.poll_change(cx),
                false => Poll::Ready(None),
            });
            if let Some(refused) = change.await {
                return Some(refused);
            }
        }
        None
    }
}

impl<I: Iterator, T, E> Outcomes<Iter<I>, T, E> {
    /// The requests that the pool has not accepted, as after it was closed. Cancels what is under way.
    pub fn into_remaining(self) -> impl Iterator<Item = I::Item> {
        let (back, source) = self.into_parts();
        back.into_iter().chain(source.map(Iter::into_inner).into_iter().flatten())
    }
}

impl<S, T, E> Stream for Outcomes<S, T, E>
where
    S: Stream + Unpin,
    E: LayerError,
{
    type Item = Outcome<S::Item, T, E>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_outcome(cx)
    }
}

// Nothing in it is pinned.
impl<S: Stream, T, E> Unpin for Outcomes<S, T, E> {}

impl<S: Stream, T, E> fmt::Debug for Outcomes<S, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outcomes")
            .field("submitted", &self.batch.submitted)
            .field("read", &self.batch.read)
            .field("closed", &self.back.is_some())
            .finish_non_exhaustive()
    }
}
