//! The handle of an operator: it watches a pool, pauses, resizes and drains it, and does not keep it open.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use stockade_core::config::ConfigError;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    Drained, Percentiles, Stats, Workers, drain, roster::Size, shared::Shared, stats::between,
};

/// Watches, steers and drains a pool without keeping it open.
///
/// It keeps what the pool's workers are made from, and its numbers. A [`WeakPoolHandle`] keeps nothing.
pub struct PoolHandle<Req, T, E> {
    shared: Arc<Shared<Req, T, E>>,
}

/// A [`PoolHandle`] that keeps nothing of the pool alive, for a list of all pools, say. Made by
/// [`PoolHandle::downgrade`].
pub struct WeakPoolHandle<Req, T, E> {
    shared: Weak<Shared<Req, T, E>>,
}

/// A job that runs, as [`PoolHandle::running`] lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunningJob {
    /// Its name, if the pool [names its jobs](crate::PoolBuilder::job_name).
    pub name: Option<Cow<'static, str>>,
    /// Which worker runs it, counted from 0.
    pub worker: usize,
    /// For how long it has run, if the pool [names its jobs](crate::PoolBuilder::job_name) or
    /// [measures](crate::PoolBuilder::measure).
    pub running_for: Option<Duration>,
}

// === impl PoolHandle ===

impl<Req, T, E> PoolHandle<Req, T, E> {
    pub(crate) fn new(shared: Arc<Shared<Req, T, E>>) -> Self {
        Self { shared }
    }

    /// A handle that keeps nothing of the pool alive.
    pub fn downgrade(&self) -> WeakPoolHandle<Req, T, E> {
        WeakPoolHandle { shared: Arc::downgrade(&self.shared) }
    }

    /// What the pool has done and is doing.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// The jobs that run, the oldest first. Looks at all jobs of the pool under its lock, so it is for a status page and
    /// not for every call.
    pub fn running(&self) -> Vec<RunningJob> {
        let now = self.shared.clock();
        let core = self.shared.lock();
        let running = core.queue.running().map(|(_, worker, job)| RunningJob {
            name: job.and_then(|job| job.extra.as_ref()?.name.clone()),
            worker,
            running_for: between(job.and_then(|job| job.since), now),
        });
        let mut jobs: Vec<RunningJob> = running.collect();
        drop(core);
        jobs.sort_by_key(|job| std::cmp::Reverse(job.running_for));
        jobs
    }

    /// See [`Pool::drain`](crate::Pool::drain), also for what it needs to return in time.
    pub async fn drain(&self, limit: Duration) -> Drained<Req> {
        let until = sleep(drain::until_stopped(limit));
        drain::drain(Arc::clone(&self.shared), until).await
    }

    /// See [`Pool::close`](crate::Pool::close).
    pub fn close(&self) {
        self.shared.close();
    }

    /// Whether the pool refuses new jobs.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.is_cancelled()
    }

    /// Waits until the pool is closed and refuses new jobs.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn closed(&self) {
        self.shared.closed.cancelled().await;
    }

    /// See [`Pool::abort`](crate::Pool::abort).
    pub fn abort(&self) -> Vec<Req> {
        drain::abort(&self.shared)
    }

    /// Waits for a signal, and [drains](crate::Pool::drain) the pool then. A second signal ends the drain as the end of
    /// `limit` does: requests that were not started are handed back, and calls are dropped.
    ///
    /// `signal` is called once for each signal and returns a future that ends with it. For Ctrl-C and SIGTERM, make tokio's
    /// `Signal` inside of it:
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// use tokio::signal::{ctrl_c, unix::{SignalKind, signal}};
    ///
    /// # async fn run(handle: stockade_pool::PoolHandle<u32, (), std::io::Error>) {
    /// let stop = async || {
    ///     let mut terminate = signal(SignalKind::terminate()).expect("signals can be waited for");
    ///     tokio::select! {
    ///         _ = ctrl_c() => {}
    ///         _ = terminate.recv() => {}
    ///     }
    /// };
    /// let drained = handle.shutdown_on(stop, Duration::from_secs(5)).await;
    /// println!("{} requests were not started", drained.unfinished.len());
    /// # }
    /// ```
    ///
    /// If jobs block all threads of the runtime, a signal is seen late. [`Pool::drain`](crate::Pool::drain) says what to do.
    ///
    /// Until this future is first polled, a signal ends the program as usual. From then on it does not: tokio keeps its
    /// handler until the program ends. So a signal for which nobody waits, such as one after the drain, has no effect.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before the first signal changes nothing, and after it leaves the pool closed.
    ///
    /// # Panics
    ///
    /// In a runtime without time.
    pub async fn shutdown_on<F>(
        &self,
        mut signal: impl FnMut() -> F,
        limit: Duration,
    ) -> Drained<Req>
    where
        F: Future<Output = ()>,
    {
        signal().await;
        let second = signal();
        let until = async {
            // An error means that the time is up, and so does a signal.
            let _ = timeout(drain::until_stopped(limit), second).await;
        };
        drain::drain(Arc::clone(&self.shared), until).await
    }

    /// Starts no job until [`resume`](Self::resume). What runs goes on, and the queue takes as many jobs as it holds
    /// while all workers are busy. A pool that is closed is not paused, so that it ends.
    pub fn pause(&self) {
        let mut core = self.shared.lock();
        core.paused = !core.closed;
    }

    /// Ends a [pause](Self::pause).
    pub fn resume(&self) {
        let mut core = self.shared.lock();
        core.paused = false;
        self.shared.see_to(core);
    }

    /// Whether it is [paused](Self::pause).
    pub fn is_paused(&self) -> bool {
        self.shared.lock().paused
    }

    /// Sets how many workers there are: a number, or a range, as
    /// [`PoolBuilder::workers`](crate::PoolBuilder::workers) takes it. Workers that are missing start at once; those that
    /// are too many leave, each after the job it runs. What is queued stays.
    ///
    /// # Errors
    ///
    /// If the most is not from 1 to 1,048,576, or the range ends below its start.
    pub fn resize(&self, workers: impl Workers) -> Result<(), ConfigError> {
        self.shared.resize(Size::check("PoolHandle::resize", workers.range())?);
        Ok(())
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
        self.shared.debug(f, "PoolHandle")
    }
}

// === impl WeakPoolHandle ===

impl<Req, T, E> WeakPoolHandle<Req, T, E> {
    /// The handle, or none if the pool is gone: its clones and handles are dropped, and its workers have left.
    pub fn upgrade(&self) -> Option<PoolHandle<Req, T, E>> {
        self.shared.upgrade().map(PoolHandle::new)
    }
}

impl<Req, T, E> Clone for WeakPoolHandle<Req, T, E> {
    fn clone(&self) -> Self {
        Self { shared: Weak::clone(&self.shared) }
    }
}

impl<Req, T, E> fmt::Debug for WeakPoolHandle<Req, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WeakPoolHandle").field(&self.upgrade()).finish()
    }
}

impl<Req, T, E> Shared<Req, T, E> {
    /// What the pool has done and is doing.
    pub(crate) fn stats(&self) -> Stats {
        let now = self.clock();
        let mut core = self.lock();
        let mut stats = core.counts.clone();
        let window = core.measured.as_mut().zip(now).map(|(measured, now)| measured.window(now));
        (stats.queued, stats.waiting) = (core.queue.len(), core.queue.waiting());
        (stats.workers, stats.idle) = (core.roster.alive(), core.roster.idle());
        (stats.min_workers, stats.max_workers) = (core.roster.size.min, core.roster.size.max);
        stats.capacity = core.config.capacity;
        stats.oldest = between(core.queue.oldest(), now);
        drop(core);
        [stats.queue_wait, stats.run_time] = match window {
            Some(window) => window.map(|halves| Some(Percentiles::of(halves))),
            None => [None, None],
        };
        stats
    }
}
