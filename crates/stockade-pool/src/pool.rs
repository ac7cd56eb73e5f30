//! The handle that callers have of a pool: they submit jobs to it, call it as a service, and close it.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use stockade_core::{LayerError, Reason, deadline, priority};
use tower_service::Service;

use crate::{
    Drained, IntoSource, Job, Outcomes, PoolHandle, Refused, Stats,
    admission::Verdict,
    drain,
    job::identity,
    lease::Counted,
    queue::{Key, Owner, Seen, Tag},
    shared::{Handles, Shared},
};

/// A pool of workers, as a `tower` service. Its clones share the workers and the queue.
///
/// As a service it gives real back-pressure:
///
/// - `poll_ready` waits for a place in the queue, first come, first served, and holds it until `call`. It never fails: a
///   pool that is closed or overloaded is ready, and refuses in `call`.
/// - `call` queues the request in that place. Without one it refuses with [`Reason::QueueFull`], unless there happens
///   to be room. The answer is a [`Job`].
/// - A clone holds no place. Dropping a clone gives its place back.
/// - Dropping the last clone closes the pool: what is queued still runs.
///
/// [`submit`](Self::submit) also waits for a place, and holds none while the handle is idle.
///
/// The [deadline](stockade_core::deadline) of the caller goes with the job: the job runs under it, and is not started once
/// it has passed. With the feature `tracing` the caller's span goes along too. Other task-locals go along if the pool
/// is told to [carry](crate::PoolBuilder::carry) them.
///
/// # A job and its own pool
///
/// A job may submit to its own pool, but must not wait there for a worker, because all workers could wait like that.
/// So inside a job there is no queue: another job is accepted only while a worker is free to take it. Otherwise it is
/// refused with [`Reason::QueueFull`], and the job may do the work itself. Only what the job polls itself counts as
/// inside; a task that it spawns may wait, as long as the job does not wait for the task.
pub struct Pool<Req, T, E> {
    handles: Counted<Handles<Req, T, E>>,
    place: Place,
    /// Of the task that polled it ready, which is about to call and to wait for the answer.
    waker: Option<Waker>,
}

/// A handle's way to a place in the queue.
#[derive(Clone, Copy, Debug, Default)]
enum Place {
    #[default]
    None,
    Waiting(Key),
    Held,
}

// === impl Pool ===

impl<Req, T, E> Pool<Req, T, E> {
    pub(crate) fn of(shared: Arc<Shared<Req, T, E>>) -> Self {
        Self {
            handles: Counted::new(Arc::new(Handles { shared })),
            place: Place::None,
            waker: None,
        }
    }

    /// Submits `request`. It is queued at once if there is a place; otherwise the job waits for one, as
    /// [`when_full`](crate::PoolBuilder::when_full) says.
    ///
    /// To submit no faster than the pool takes jobs, wait with [`Job::accepted`]. A job that is refused says so when it is
    /// awaited.
    pub fn submit(&self, request: Req) -> Job<Req, T, E> {
        self.queue(request, true).unwrap_or_else(|refused| {
            let Refused { rejected, request } = refused;
            Job::refused(rejected, Some(request))
        })
    }

    /// Submits `request` if there is a place in the queue, and nobody waits for it.
    ///
    /// # Errors
    ///
    /// [`Refused`] with the request.
    pub fn try_submit(&self, request: Req) -> Result<Job<Req, T, E>, Refused<Req>> {
        self.queue(request, false)
    }

    fn queue(&self, request: Req, waits: bool) -> Result<Job<Req, T, E>, Refused<Req>> {
        let pool = self.handles.share();
        let shared = &pool.shared;
        match shared.submit(request, Owner::Caller(None), false, waits) {
            Ok(submitted) => Ok(Job::submitted(submitted, pool, None)),
            Err((request, reason)) => Err(Refused::new(shared.refuse(reason), request)),
        }
    }

    /// Runs all requests of `source`, and tells what became of each, in the order in which they end.
    ///
    /// The source is an iterator, a [stream](crate::Streamed), or [by hand](crate::ByHand). Requests are taken from it as
    /// there is room for them.
    pub fn run<S>(&self, source: S) -> Outcomes<S::Source, T, E>
    where
        S: IntoSource<Item = Req>,
    {
        Outcomes::new(self.handles.share(), source.into_source())
    }

    /// Closes the pool, runs what is queued, and returns when all workers have ended, after `limit` at the latest.
    ///
    /// Shortly before that, the requests that were not started are handed back, and calls that run are dropped at their
    /// next await, for which a tenth of `limit` is left, at most 50 ms. A job that does not yield is not waited for. See
    /// [`Drained`].
    ///
    /// It needs a free thread of the runtime to return in time. A worker runs many jobs, one after the other, before it goes
    /// back to the runtime. So if jobs block on as many workers as there are threads, no timer fires until then, or until the
    /// queue is empty. Run such jobs on [threads of their own](crate::PoolBuilder::threads), or have fewer workers than the
    /// runtime has threads, or end each such job with `tokio::task::yield_now().await`.
    ///
    /// A job that still waits for a place is not accepted: it ends with [`Reason::PoolClosed`], and its request is not
    /// handed back, but returned by [`Job::accepted`]. One that was [detached](Job::detach) is accepted all the same.
    ///
    /// Callers whose request is handed back get [`Reason::PoolClosed`], as those do that were never accepted; callers whose
    /// call is dropped get [`Reason::Cancelled`]. In a [run](Self::run) the outcome tells
    /// [`HandedBack`](crate::Status::HandedBack).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the pool closed; another drain goes on.
    ///
    /// # Panics
    ///
    /// In a runtime without time.
    pub async fn drain(&self, limit: Duration) -> Drained<Req> {
        self.handle().drain(limit).await
    }

    /// Refuses new jobs from now on; those that are queued will run. Ends a [pause](PoolHandle::pause).
    pub fn close(&self) {
        self.handles.shared.close();
    }

    /// Closes the pool and stops it at once: returns the requests that were not started, in the order in which they were
    /// queued, and drops the calls that run at their next await.
    ///
    /// Does not wait for them; a [drain](Self::drain) afterwards does. Callers get the same refusals as in a drain.
    pub fn abort(&self) -> Vec<Req> {
        drain::abort(&self.handles.shared)
    }

    /// Whether the pool refuses new jobs.
    pub fn is_closed(&self) -> bool {
        self.handles.shared.closed.is_cancelled()
    }

    /// What the pool has done and is doing.
    pub fn stats(&self) -> Stats {
        self.handles.shared.stats()
    }

    /// A handle that watches and steers the pool without keeping it open.
    pub fn handle(&self) -> PoolHandle<Req, T, E> {
        PoolHandle::new(Arc::clone(&self.handles.shared))
    }

    /// Ready when a place is held, or there will be none, which a call will be told then.
    fn poll_place(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let shared = &self.handles.shared;
        match self.place {
            Place::Held => return Poll::Ready(()),
            Place::Waiting(key) => {
                let mut waker = Some(cx.waker().clone());
                let seen = shared.lock().queue.look(key, false, &mut waker);
                self.place = match seen {
                    Seen::Waiting => return Poll::Pending,
                    Seen::Accepted => Place::Held,
                    _ => Place::None,
                };
                return Poll::Ready(());
            }
            Place::None => {}
        }
        let inside = shared.is_inside();
        let mut core = shared.lock();
        if core.verdict(Tag::HANDLE, false, inside) == Verdict::Admit {
            core.queue.held += 1;
            self.place = Place::Held;
            return Poll::Ready(());
        }
        drop(core);
        self.poll_place_otherwise(cx)
    }

    /// There was no place.
    #[cold]
    fn poll_place_otherwise(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let shared = &self.handles.shared;
        if shared.is_fair() {
            // A place belongs to a job of some share, which is known when there is one.
            return Poll::Ready(());
        }
        let (waker, since) = (cx.waker().clone(), shared.clock());
        let mut gone = Vec::new();
        let (mut core, verdict) = shared.find_place(Tag::HANDLE, false, (true, false), &mut gone);
        match verdict {
            Verdict::Refuse(_) => {}
            Verdict::Wait => self.place = Place::Waiting(core.queue.wait_to_hold(waker, since)),
            Verdict::Admit | Verdict::DropOldest => {
                core.queue.held += 1;
                self.place = Place::Held;
            }
        }
        shared.let_go(core);
        shared.shed(gone);
        if matches!(self.place, Place::Waiting(_)) { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Gives back a place, or the wait for one.
    fn leave_place(&mut self) {
        let shared = &self.handles.shared;
        match std::mem::take(&mut self.place) {
            Place::None => {}
            Place::Waiting(key) => shared.leave(key, false),
            Place::Held => {
                let mut core = shared.lock();
                core.queue.held -= 1;
                shared.see_to(core);
            }
        }
    }
}

impl<Req, T, E: LayerError> Service<Req> for Pool<Req, T, E> {
    type Response = T;
    type Error = E;
    type Future = Job<Req, T, E>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        ready!(self.poll_place(cx));
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let pool = self.handles.lease();
        let shared = &pool.shared;
        if deadline::has_passed() {
            self.leave_place();
            shared.lock().counts.refused.count(Reason::Expired, priority::current());
            return Job::refused(shared.refuse(Reason::Expired), None);
        }
        let held = matches!(self.place, Place::Held);
        if held {
            self.place = Place::None;
        } else {
            self.leave_place();
        }
        let known = self.waker.as_ref().map(identity);
        let owner = Owner::Caller(self.waker.take());
        // A job in a place that is held waits only if there are too many of its key. Where jobs have shares, they wait here.
        let waits = held || shared.is_fair();
        match shared.submit(request, owner, held, waits) {
            Ok(submitted) => Job::submitted(submitted, pool, known),
            Err((_, reason)) => Job::refused(shared.refuse(reason), None),
        }
    }
}

impl<Req, T, E> Clone for Pool<Req, T, E> {
    fn clone(&self) -> Self {
        Self { handles: self.handles.clone(), place: Place::None, waker: None }
    }
}

impl<Req, T, E> Drop for Pool<Req, T, E> {
    fn drop(&mut self) {
        self.leave_place();
    }
}

impl<Req, T, E> fmt::Debug for Pool<Req, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handles.shared.debug(f, "Pool")
    }
}
