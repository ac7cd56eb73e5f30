//! Many jobs at once: the requests go in as there is room, and what became of them comes out.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures_core::Stream;
use stockade_core::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering::*},
};
use stockade_core::{Key, LayerError, Lease, Queue, Reason, deadline, lock};

use crate::{
    Outcome,
    job::Reply,
    pool::Handles,
    shared::{Entry, Place},
    worker::discard,
};

/// What became of the requests given to [`Pool::run`](crate::Pool::run), in the order in which they ended.
///
/// Requests are taken from the source when the stream is polled and there is room for them, so a slow reader
/// slows the source down: at most as many requests are under way, or have ended unread, as the queue and the
/// workers hold twice over. When the pool is closed no more are taken; those that were are reported, and
/// [`into_remaining`](Self::into_remaining) returns the rest.
///
/// # Cancel safety
///
/// Dropping it cancels what is queued and what runs. Dropping the future of [`next`](Self::next) loses
/// nothing.
#[must_use = "requests are taken as outcomes are read"]
pub struct Outcomes<I: Iterator, T, E> {
    pool: Lease<Handles<I::Item, T, E>>,
    run: Arc<Run<T, E>>,
    /// None when it has ended.
    source: Option<I>,
    /// Taken from the source, and not accepted yet.
    next: Option<I::Item>,
    place: Place,
    accepted: u64,
    read: u64,
    closed: bool,
}

/// What the jobs of one run share.
pub(crate) struct Run<T, E> {
    inner: Mutex<Inner<T, E>>,
    /// Stored before the wakers of the workers are taken out of `inner`, and read after one was put there,
    /// both under its lock: so a worker that has seen `false` will be woken.
    cancelled: AtomicBool,
}

struct Inner<T, E> {
    ended: VecDeque<Outcome<T, E>>,
    reader: Option<Waker>,
    /// Those who run a job that has not ended at its first poll.
    workers: Queue<Waker>,
}

/// The worker's end of one job of a run.
pub(crate) struct Ticket<T, E> {
    pub(crate) run: Arc<Run<T, E>>,
    id: u64,
    watched: Option<Key>,
}

// === impl Outcomes ===

impl<I, T, E> Outcomes<I, T, E>
where
    I: Iterator,
    E: LayerError,
{
    pub(crate) fn new(pool: Lease<Handles<I::Item, T, E>>, source: I) -> Self {
        Self {
            pool,
            run: Arc::new(Run::new()),
            source: Some(source),
            next: None,
            place: Place::None,
            accepted: 0,
            read: 0,
            closed: false,
        }
    }

    /// The next outcome, or none when all requests have ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Outcome<T, E>> {
        poll_fn(|cx| self.poll_outcome(cx)).await
    }

    /// The requests that the pool has not accepted, as after it was closed. Cancels what is under way.
    pub fn into_remaining(mut self) -> impl Iterator<Item = I::Item> {
        let source = self.source.take();
        self.next.take().into_iter().chain(source.into_iter().flatten())
    }

    fn poll_outcome(&mut self, cx: &mut Context<'_>) -> Poll<Option<Outcome<T, E>>> {
        self.feed(cx);
        let mut inner = lock(&self.run.inner);
        if let Some(outcome) = inner.ended.pop_front() {
            self.read += 1;
            return Poll::Ready(Some(outcome));
        }
        if self.read == self.accepted && (self.closed || self.next.is_none()) {
            return Poll::Ready(None);
        }
        match &mut inner.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Submits as many requests as there is room for.
    fn feed(&mut self, cx: &mut Context<'_>) {
        let shared = &self.pool.shared;
        let settings = &shared.settings;
        let most = settings.capacity.saturating_add(settings.workers.max).saturating_mul(2) as u64;
        while !self.closed {
            if self.next.is_none() {
                self.next = self.source.as_mut().and_then(Iterator::next);
            }
            if self.next.is_none() {
                self.source = None;
            }
            if self.accepted - self.read >= most {
                return;
            }
            let Some(request) = self.next.take() else { return };
            let ticket = Ticket { run: Arc::clone(&self.run), id: self.accepted, watched: None };
            let entry = Entry {
                request,
                reply: Reply::Run(ticket),
                deadline: deadline::current(),
                since: shared.clock(),
            };
            match shared.push(entry, &mut self.place) {
                Ok(_) => self.accepted += 1,
                Err((entry, reason)) => {
                    self.next = Some(entry.request);
                    self.closed = reason == Reason::Closed;
                    if !self.closed && shared.poll_place(&mut self.place, cx).is_pending() {
                        return;
                    }
                }
            }
        }
    }
}

impl<I, T, E> Stream for Outcomes<I, T, E>
where
    I: Iterator + Unpin,
    I::Item: Unpin,
    E: LayerError,
{
    type Item = Outcome<T, E>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_outcome(cx)
    }
}

impl<I: Iterator, T, E> Drop for Outcomes<I, T, E> {
    fn drop(&mut self) {
        let shared = &self.pool.shared;
        shared.leave_place(&mut self.place);
        self.run.cancel();
        if self.read < self.accepted {
            shared.withdraw_run(&self.run);
        }
    }
}

impl<I: Iterator, T, E> fmt::Debug for Outcomes<I, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outcomes")
            .field("accepted", &self.accepted)
            .field("read", &self.read)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

// === impl Run ===

impl<T, E> Run<T, E> {
    fn new() -> Self {
        let inner = Inner { ended: VecDeque::new(), reader: None, workers: Queue::new() };
        Self { inner: Mutex::new(inner), cancelled: AtomicBool::new(false) }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Acquire)
    }

    fn cancel(&self) {
        let mut inner = lock(&self.inner);
        self.cancelled.store(true, Release);
        let workers = std::mem::take(&mut inner.workers);
        let ended = std::mem::take(&mut inner.ended);
        drop(inner);
        workers.iter().for_each(Waker::wake_by_ref);
        drop(ended);
    }
}

// === impl Ticket ===

impl<T, E> Ticket<T, E> {
    /// Whether the reader has gone; if not, the worker is woken when he goes.
    pub(crate) fn poll_cancelled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.watched.is_none() {
            let mut inner = lock(&self.run.inner);
            if !self.run.cancelled.load(Relaxed) {
                self.watched = Some(inner.workers.push_back(cx.waker().clone()));
                return Poll::Pending;
            }
        }
        if self.run.is_cancelled() { Poll::Ready(()) } else { Poll::Pending }
    }

    pub(crate) fn send(self, outcome: impl FnOnce(u64) -> Outcome<T, E>) {
        let outcome = outcome(self.id);
        let mut inner = lock(&self.run.inner);
        if self.run.cancelled.load(Relaxed) {
            drop(inner);
            discard(outcome);
            return;
        }
        let watched = self.watched.and_then(|key| inner.workers.remove(key));
        inner.ended.push_back(outcome);
        let reader = inner.reader.take();
        drop(inner);
        drop(watched);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}
