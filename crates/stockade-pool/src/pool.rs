use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures_core::Stream;
use stockade_core::{LayerError, Reason, deadline};
use tokio::{sync::watch, time::sleep};
use tower_service::Service;

use crate::{
    Drained, Group, Invoke, Iter, Job, Outcomes, PoolBuilder, Stats, Streamed, Submit,
    TrySubmitError, WeakPoolHandle, Workers, drain, lease::Counted, places::Place, scale::Size,
    shared::Shared,
};

/// A handle to a pool of workers, and a `tower` service.
///
/// As a service it gives real back-pressure:
///
/// - `poll_ready` waits for a place in the queue, in FIFO order, and holds it until `call`. It never fails: a
///   pool that is closed is ready, and refuses in `call` with
///   [`Reason::PoolClosed`].
/// - `call` queues the request in that place. Without one it refuses with
///   [`Reason::QueueFull`] unless there happens to be room.
/// - A clone shares the pool, and holds no place.
/// - Dropping a clone gives its place back. Dropping the last one closes the pool: what is queued still runs.
///
/// [`submit`](Self::submit) also waits for a place, but holds none while the handle is idle.
///
/// A job may submit to its own pool, but not wait there for its own worker: from inside a job the queue has no
/// room, and a job is accepted only when a worker is free to take it. Otherwise it is refused with
/// [`Reason::QueueFull`], or comes back from [`try_submit`](Self::try_submit), and the job may do the work
/// itself. Work that nobody waits for is submitted from a task of its own.
///
/// The [deadline](stockade_core::deadline) of the caller goes with the job: it is ambient while the job runs,
/// and a job whose deadline has passed is not started. With the feature `tracing` his span goes along too: what is told
/// while the job runs is told there.
pub struct Pool<Req, T, E> {
    handles: Counted<Handles<Req, T, E>>,
    place: Place,
    /// Of who polled it ready, and so is about to call and to await the answer.
    waker: Option<Waker>,
}

/// What the handles of a pool share; the pool is closed when it is dropped.
pub(crate) struct Handles<Req, T, E> {
    pub(crate) shared: Arc<Shared<Req, T, E>>,
}

/// Watches, steers and drains a pool without keeping it open.
///
/// It keeps the numbers alive, and what workers are made from: the prototype of the service, or the make service.
/// Whatever is to outlive the pool holds a [`WeakPoolHandle`].
pub struct PoolHandle<Req, T, E> {
    shared: Arc<Shared<Req, T, E>>,
}

impl Pool<(), (), ()> {
    /// Describes a pool: one worker per core and a queue of 128, unless said otherwise.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::default()
    }
}

// === impl Pool ===

impl<Req, T, E> Pool<Req, T, E> {
    pub(crate) fn new(shared: Arc<Shared<Req, T, E>>) -> Self {
        Self {
            handles: Counted::new(Arc::new(Handles { shared })),
            place: Place::None,
            waker: None,
        }
    }

    /// Waits for a place in the queue, and queues `request`.
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::Closed) with the request, if the pool is closed before there is a place.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the place to the next, and drops the request.
    pub fn submit(&self, request: Req) -> Submit<Req, T, E> {
        Submit::new(self.handles.share(), request)
    }

    /// Waits for a place in the queue, queues `request`, and waits for its answer: for whoever has nothing else to do
    /// meanwhile, [`submit`](Self::submit) and the [`Job`] in one future, which is cheaper than the two.
    ///
    /// # Errors
    ///
    /// What the service returns, or a refusal of the pool; [`Reason::PoolClosed`] if it is closed before there is a place.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the place to the next, or cancels the job.
    pub fn invoke(&self, request: Req) -> Invoke<'_, Req, T, E>
    where
        E: LayerError,
    {
        Invoke::new(&self.handles, request)
    }

    /// Queues `request` if there is room and nobody waits for it.
    ///
    /// # Errors
    ///
    /// [`TrySubmitError`] with the request.
    pub fn try_submit(&self, request: Req) -> Result<Job<Req, T, E>, TrySubmitError<Req>>
    where
        E: LayerError,
    {
        Job::submit(self.handles.share(), request, &mut Place::None, None).map_err(
            |(error, pool)| {
                pool.shared.rejected(error.reason()).tell();
                error
            },
        )
    }

    /// Runs all `requests`, and streams what became of them in the order in which they end. Allocates nothing
    /// a job.
    pub fn run<I>(&self, requests: I) -> Outcomes<Iter<I::IntoIter>, T, E>
    where
        I: IntoIterator<Item = Req>,
        E: LayerError,
    {
        Outcomes::new(self.handles.share(), Iter::new(requests.into_iter()))
    }

    /// The same for a stream of requests, which is polled only while there is room for what it gives. One that
    /// is not `Unpin` is pinned first, with `std::pin::pin!`.
    pub fn run_stream<S>(&self, requests: S) -> Outcomes<Streamed<S>, T, E>
    where
        S: Stream<Item = Req> + Unpin,
        E: LayerError,
    {
        Outcomes::new(self.handles.share(), Streamed::new(requests))
    }

    /// Jobs that belong together: awaited all at once, or up to the first that fails.
    pub fn group(&self) -> Group<Req, T, E>
    where
        E: LayerError,
    {
        Group::new(self.handles.share())
    }

    /// Closes the pool, runs what is queued, and returns when all workers have ended. When `limit` is over
    /// the requests that were not started are handed back, and calls that run are cancelled at their next
    /// await.
    ///
    /// Callers whose request is handed back get [`Reason::PoolClosed`]; callers
    /// whose call is cancelled get [`Reason::Cancelled`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the pool closed; another drain goes on.
    ///
    /// # Panics
    ///
    /// In a runtime without time.
    pub async fn drain(&self, limit: Duration) -> Drained<Req>
    where
        E: LayerError,
    {
        drain::drain(Arc::clone(&self.handles.shared), sleep(limit)).await
    }

    /// Refuses new jobs from now on; those that are queued will run. Lifts a [pause](PoolHandle::pause).
    pub fn close(&self) {
        self.handles.shared.close();
    }

    /// Closes the pool and stops it at once: returns the requests that were not started, in the order in which
    /// they were queued, and cancels the calls that run at their next await.
    ///
    /// Does not wait for them; a [drain](Self::drain) afterwards does. Callers get the same refusals as in a
    /// drain.
    pub fn abort(&self) -> Vec<Req>
    where
        E: LayerError,
    {
        drain::abort(&self.handles.shared)
    }

    /// What the pool has done and is doing.
    pub fn stats(&self) -> Stats {
        self.handles.shared.stats()
    }

    /// Watches and drains the pool without keeping it open.
    pub fn handle(&self) -> PoolHandle<Req, T, E> {
        PoolHandle::new(Arc::clone(&self.handles.shared))
    }
}

impl<Req, T, E: LayerError> Service<Req> for Pool<Req, T, E> {
    type Response = T;
    type Error = E;
    type Future = Job<Req, T, E>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        ready!(self.handles.shared.poll_place(&mut self.place, 1, cx));
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let lease = self.handles.lease();
        let shared = &self.handles.shared;
        if deadline::has_passed() {
            shared.leave_place(&mut self.place);
            return Job::refused(shared.rejected(Reason::Expired));
        }
        Job::submit(lease, request, &mut self.place, self.waker.take())
            .unwrap_or_else(|(error, _)| Job::refused(shared.rejected(error.reason())))
    }
}

impl<Req, T, E> Clone for Pool<Req, T, E> {
    fn clone(&self) -> Self {
        Self { handles: self.handles.clone(), place: Place::None, waker: None }
    }
}

impl<Req, T, E> Drop for Pool<Req, T, E> {
    fn drop(&mut self) {
        if !matches!(self.place, Place::None) {
            self.handles.shared.leave_place(&mut self.place);
        }
    }
}

impl<Req, T, E> fmt::Debug for Pool<Req, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug(f, "Pool", &self.handles.shared)
    }
}

// === impl Handles ===

impl<Req, T, E> Drop for Handles<Req, T, E> {
    fn drop(&mut self) {
        self.shared.close();
    }
}

// === impl PoolHandle ===

impl<Req, T, E> PoolHandle<Req, T, E> {
    pub(crate) fn new(shared: Arc<Shared<Req, T, E>>) -> Self {
        Self { shared }
    }

    /// A handle that keeps nothing of the pool alive.
    pub fn downgrade(&self) -> WeakPoolHandle<Req, T, E> {
        WeakPoolHandle::new(Arc::downgrade(&self.shared))
    }

    /// What the pool has done and is doing.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// See [`Pool::drain`].
    pub async fn drain(&self, limit: Duration) -> Drained<Req>
    where
        E: LayerError,
    {
        drain::drain(Arc::clone(&self.shared), sleep(limit)).await
    }

    /// See [`Pool::close`].
    pub fn close(&self) {
        self.shared.close();
    }

    /// See [`Pool::abort`].
    pub fn abort(&self) -> Vec<Req>
    where
        E: LayerError,
    {
        drain::abort(&self.shared)
    }

    /// Waits for a signal, and [drains](Pool::drain) the pool then. A second signal ends the drain as the end of
    /// `limit` does: unstarted requests are handed back, and calls are cancelled.
    ///
    /// `signal` is called once for each signal and returns a future that ends with it, such as one of
    /// `tokio::signal::ctrl_c`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before the first signal changes nothing, and after it leaves the pool closed.
    ///
    /// # Panics
    ///
    /// In a runtime without time.
    pub async fn shutdown_on<F>(&self, signal: impl FnMut() -> F, limit: Duration) -> Drained<Req>
    where
        E: LayerError,
        F: Future<Output = ()>,
    {
        drain::shutdown_on(Arc::clone(&self.shared), signal, limit).await
    }

    /// Starts no job until [`resume`](Self::resume). What runs goes on, and the queue takes jobs while it has
    /// room, for which idle workers do not count meanwhile. A pool that is closed is not paused, so that it
    /// ends.
    pub fn pause(&self) {
        self.shared.pause();
    }

    /// Ends a [pause](Self::pause).
    pub fn resume(&self) {
        self.shared.resume();
    }

    /// Sets how many workers there are: a number, or a range, as [`PoolBuilder::workers`] takes it. Workers
    /// that are missing start at once; those that are too many leave, each after the job it runs. What is queued
    /// stays as it is.
    ///
    /// # Panics
    ///
    /// If the most is not from 1 to 1,048,576, or the range ends below its start.
    #[track_caller]
    pub fn resize(&self, workers: impl Workers) {
        self.shared.resize(Size::checked("PoolHandle::resize", workers));
    }

    /// How many workers there are, as it changes.
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.shared.size.subscribe()
    }
}

impl<Req, T, E> Clone for PoolHandle<Req, T, E> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<Req, T, E> fmt::Debug for PoolHandle<Req, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug(f, "PoolHandle", &self.shared)
    }
}

fn debug<Req, T, E>(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    shared: &Shared<Req, T, E>,
) -> fmt::Result {
    f.debug_struct(name)
        .field("settings", &shared.settings)
        .field("closed", &shared.is_closed())
        .finish_non_exhaustive()
}
