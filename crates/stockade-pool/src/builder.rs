use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    hash::Hash,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use stockade_core::{
    LayerError,
    config::{MAX_DURATION, MIN_DURATION, allow},
};
use tokio::{runtime::Handle, time::sleep};
use tower_service::Service;

use crate::{
    Any, Of, Order, Pool, PoolLayer, Rules, Scale, Workers,
    places::NO_BUDGET,
    scale::{MOST, Size},
    shared::{Settings, Shared, Start},
    sizing::{Sizing, cores},
    tasks::Tasks,
    threads::Threads,
};

/// Describes a pool, and starts it.
///
/// `R` says what the pool looks into a request for: [`Any`] nothing, until [`weigh`](Self::weigh),
/// [`affinity`](Self::affinity) or [`order`](Self::order) names the type of the requests.
#[derive(Clone)]
#[must_use = "a pool starts when it is built"]
pub struct PoolBuilder<R = Any> {
    rules: R,
    settings: Settings,
    scale: Option<Arc<dyn Scale>>,
    threads: bool,
}

/// What becomes of a job when the future of its answer is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnDrop {
    /// It is cancelled: in the queue at once, while it runs at its next await.
    #[default]
    Cancel,
    /// It goes on, and its answer is dropped. It counts as what it ends as.
    Detach,
}

// === impl PoolBuilder ===

impl Default for PoolBuilder {
    fn default() -> Self {
        let workers = cores();
        let settings = Settings {
            workers: Size { min: workers, max: workers },
            capacity: 128,
            idle: Duration::from_secs(10),
            measure: false,
            clock: false,
            detach: false,
            codel: None,
            budget: NO_BUDGET,
            name: None,
        };
        Self { rules: Any, settings, scale: None, threads: false }
    }
}

impl<R> PoolBuilder<R> {
    /// How many workers there are, each of which runs one job at a time: a number, or a range (default: one per
    /// core).
    ///
    /// A pool with a range starts with as many as the range begins with. When a job is queued that nobody is
    /// free to take, a worker is added; one that has been [idle](Self::idle) for long leaves.
    /// [`scale`](Self::scale) is another rule.
    ///
    /// # Panics
    ///
    /// If the most is not from 1 to 1,048,576, or the range ends below its start.
    #[track_caller]
    pub fn workers(mut self, n: impl Workers) -> Self {
        self.settings.workers = Size::checked("PoolBuilder::workers", n);
        self
    }

    /// Sets workers and queue for a kind of work; see [`Sizing`] for the reasoning.
    pub fn sizing(mut self, sizing: Sizing) -> Self {
        self.settings.workers = sizing.size;
        self.settings.capacity = sizing.queue;
        self
    }

    /// How long a worker is idle before it leaves, if there are more than the fewest (default 10 s). Fires up
    /// to a millisecond late.
    ///
    /// # Panics
    ///
    /// If `limit` is zero or above ten years.
    #[track_caller]
    pub fn idle(mut self, limit: Duration) -> Self {
        self.settings.idle = allow("PoolBuilder::idle", limit, MIN_DURATION..=MAX_DURATION);
        self
    }

    /// Another rule for how many workers there are within the range (default [`PerJob`](crate::PerJob)). A pool
    /// with one reads the clock when a job is queued and taken.
    pub fn scale(mut self, scale: impl Scale) -> Self {
        self.scale = Some(Arc::new(scale));
        self.settings.clock = true;
        self
    }

    /// Runs each worker on a thread of its own, so that work which keeps a processor busy, or blocks, never
    /// stalls the tasks and timers of the runtime. Off by default: workers are tasks.
    ///
    /// The runtime is entered on these threads, so a service may use its timers and spawn tasks. The threads end
    /// with their workers, and a drain waits for that.
    pub fn threads(mut self) -> Self {
        self.threads = true;
        self
    }

    /// Sheds jobs when the queue stands: once every job has waited for longer than `target` for a whole
    /// `interval`, one is refused with [`Reason::Shed`](stockade_core::Reason::Shed) as it would be started, and
    /// more and more until one comes through that has waited for less. A burst that is over within `interval` is
    /// let through. Off by default; `target` is about the delay that callers put up with, and `interval` ten to
    /// twenty times that, no less than what a caller takes to react.
    ///
    /// The algorithm is CoDel (Nichols and Jacobson, ACM Queue 2012; RFC 8289). The pool reads the clock when a job
    /// is queued and taken. `retry_after` of the refusal is `interval`.
    ///
    /// # Panics
    ///
    /// If `target` is zero or above `interval`, or `interval` is above ten years.
    #[track_caller]
    pub fn codel(mut self, target: Duration, interval: Duration) -> Self {
        let what = "PoolBuilder::codel";
        let interval = allow(what, interval, MIN_DURATION..=MAX_DURATION);
        self.settings.codel = Some((allow(what, target, MIN_DURATION..=interval), interval));
        self.settings.clock = true;
        self
    }

    /// Bounds what the queued jobs weigh together, in whatever unit `weight` returns; bytes, say. The bound on
    /// their [number](Self::queue) stays. Off by default.
    ///
    /// A job waits for a place until its weight fits, in order, and one that is heavier than the whole budget until
    /// it is alone. Only a handle that is polled ready as a `tower` service holds a place before it knows the
    /// request: it waits until the budget is not used up, and its job may exceed it once.
    ///
    /// # Panics
    ///
    /// If `budget` is 0.
    #[track_caller]
    pub fn weigh<Req>(
        self,
        weight: impl Fn(&Req) -> usize + Send + Sync + 'static,
        budget: usize,
    ) -> PoolBuilder<Of<Req>>
    where
        R: Rules<Req>,
    {
        let budget = allow("PoolBuilder::weigh", budget, 1..=usize::MAX);
        let mut builder = self.typed();
        builder.settings.budget = (budget as u64).min(NO_BUDGET - 1);
        builder.rules.weigh = Some(Arc::new(weight));
        builder
    }

    /// Keeps jobs of one key in order: they run one at a time, and on one worker as long as there are any. A
    /// worker takes up to 32 jobs of a key in a row while others wait, so a busy key does not stall others'. Off by
    /// default. Takes the place of an [`order`](Self::order).
    ///
    /// A key is remembered while it has jobs in the pool, and no longer.
    pub fn affinity<Req, K: Hash>(
        self,
        key: impl Fn(&Req) -> K + Send + Sync + 'static,
    ) -> PoolBuilder<Of<Req>>
    where
        R: Rules<Req>,
    {
        let mut builder = self.typed();
        builder.rules.set_lane(key);
        builder.rules.order = None;
        builder
    }

    /// Another order than first in, first out; each pool that is built has a clone of it. Takes the place of an
    /// [`affinity`](Self::affinity).
    pub fn order<Req>(self, order: impl Order<Req> + Clone + Sync + 'static) -> PoolBuilder<Of<Req>>
    where
        R: Rules<Req>,
    {
        let mut builder = self.typed();
        builder.rules.order = Some(Arc::new(move || Box::new(order.clone())));
        builder.rules.lane = None;
        builder
    }

    /// What becomes of a job when the future of its answer is dropped (default [`OnDrop::Cancel`]). A
    /// [run](Pool::run) that is dropped is cancelled either way.
    pub fn on_drop(mut self, on_drop: OnDrop) -> Self {
        self.settings.detach = on_drop == OnDrop::Detach;
        self
    }

    /// How many jobs may wait while all workers are busy (default 128). With 0 a job is accepted only when a
    /// worker is free.
    ///
    /// # Panics
    ///
    /// If `n` is above `u32::MAX - 1,048,577`.
    #[track_caller]
    pub fn queue(mut self, n: usize) -> Self {
        let most = u32::MAX as usize - 1 - MOST;
        self.settings.capacity = allow("PoolBuilder::queue", n, 0..=most);
        self
    }

    /// A name for refusals and events.
    pub fn name(mut self, name: &'static str) -> Self {
        self.settings.name = Some(name);
        self
    }

    /// Measures how long each job is queued and runs, for [`Stats`](crate::Stats) and
    /// [`Outcome`](crate::Outcome). Off by default, because it reads the clock three times a job.
    pub fn measure(mut self) -> Self {
        self.settings.measure = true;
        self.settings.clock = true;
        self
    }

    /// Starts the pool; each worker owns a clone of `service`.
    ///
    /// After a panic, or an error of readiness, the worker goes on with another clone.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, or in one without time if the number of workers is a range.
    #[track_caller]
    pub fn build<S, Req>(self, service: S) -> Pool<Req, S::Response, S::Error>
    where
        S: Service<Req> + Clone + Send + 'static,
        S::Future: Send,
        S::Response: Send + 'static,
        S::Error: LayerError + Send + 'static,
        Req: Send + 'static,
        R: Rules<Req>,
    {
        self.build_make(CloneService(service))
    }

    /// Starts the pool; each worker makes its own service by calling a clone of `make` with the worker's
    /// number, counted from 0. One connection a worker is made so.
    ///
    /// After a panic, or an error of readiness, the worker makes another; until that succeeds, with backoff up
    /// to a second, it takes no job.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, or in one without time if the number of workers is a range.
    #[track_caller]
    pub fn build_make<M, S, Req>(self, make: M) -> Pool<Req, S::Response, S::Error>
    where
        M: Service<usize, Response = S> + Clone + Send + 'static,
        M::Future: Send,
        M::Error: fmt::Display + Send,
        S: Service<Req> + Send + 'static,
        S::Future: Send,
        S::Response: Send + 'static,
        S::Error: LayerError + Send + 'static,
        Req: Send + 'static,
        R: Rules<Req>,
    {
        let Ok(runtime) = Handle::try_current() else {
            panic!("stockade: a pool is built inside a tokio runtime, and there is none here");
        };
        if !self.settings.workers.is_fixed() {
            // A runtime without time says so here, and not when the first worker is idle.
            drop(sleep(Duration::ZERO));
        }
        let start: Box<dyn Start<_, _, _>> = if self.threads {
            Box::new(Threads::new(make, runtime))
        } else {
            Box::new(Tasks::new(make, runtime))
        };
        let shared =
            Arc::new(Shared::new(self.settings, self.rules.into_rules(), self.scale, start));
        shared.open();
        Pool::new(shared)
    }

    /// The pool as a layer, which starts it when it is applied to a service.
    pub fn into_layer<Req>(self) -> PoolLayer<Req>
    where
        R: Rules<Req>,
    {
        PoolLayer::new(self.typed())
    }

    #[cfg(all(test, shuttle))]
    pub(crate) fn settings(&self) -> Settings {
        self.settings
    }

    fn typed<Req>(self) -> PoolBuilder<Of<Req>>
    where
        R: Rules<Req>,
    {
        let Self { rules, settings, scale, threads } = self;
        PoolBuilder { rules: rules.into_rules(), settings, scale, threads }
    }
}

impl<R> fmt::Debug for PoolBuilder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Makes services by cloning one.
#[derive(Clone, Debug)]
struct CloneService<S>(S);

impl<S: Clone> Service<usize> for CloneService<S> {
    type Response = S;
    type Error = Infallible;
    type Future = Ready<Result<S, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: usize) -> Self::Future {
        ready(Ok(self.0.clone()))
    }
}
