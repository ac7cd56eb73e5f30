//! How a pool is described, setting by setting, and started.

use std::{borrow::Cow, error, fmt, hash::Hash, io, sync::Arc, time::Duration};

use stockade_core::{
    IntoShare, Name, Share,
    config::{ConfigError, allow, checked},
};
use tokio::{runtime::Handle, time::sleep};

use crate::{
    MakeWorker, Never, Order, Pool, PoolService, Rebuild, Scale, Sizing, Workers,
    config::{Checked, Config, OrderBy, QUEUES, TIMES, WAITS, WhenFull},
    roster::Size,
    rules::Rules,
    service::CloneService,
    shared::Shared,
    spawn::{self, watch_runtime},
};

/// Describes a pool, and starts it, or starts one in the middle of a `ServiceBuilder`.
///
/// The setters only store, so their order does not matter, except that of [`affinity`](Self::affinity),
/// [`by_priority`](Self::by_priority), [`fair_by`](Self::fair_by), [`priority`](Self::priority) and [`order`](Self::order)
/// the last one counts.
///
/// `B` says after which results a worker makes its service anew.
///
/// # Example
///
/// ```
/// use stockade_core::Error;
/// use stockade_pool::Pool;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let pool = ServiceBuilder::new()
///     .layer(Pool::builder().workers(4))
///     .map_err(Error::Service)
///     .service_fn(async |n: u32| Ok::<_, std::io::Error>(n + 1));
/// assert_eq!(pool.oneshot(1).await.unwrap(), 2);
/// # }
/// ```
#[must_use = "a pool starts when it is built"]
pub struct PoolBuilder<Req, B = Never> {
    rules: Rules<Req>,
    rebuild: B,
    config: Checked,
}

/// What becomes of a job when its [`Job`](crate::Job) is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnDrop {
    /// It is cancelled: in the queue at once, while it runs at its next await.
    #[default]
    Cancel,
    /// It goes on, and its answer is dropped.
    Detach,
}

/// Why a pool could not be started.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// There is no tokio runtime here.
    NoRuntime,
    /// A worker's thread could not be spawned.
    Thread(io::Error),
}

// === impl PoolBuilder ===

impl<Req> Pool<Req, (), ()> {
    /// Describes a pool: one worker per core and a queue of 128, unless told otherwise.
    pub fn builder() -> PoolBuilder<Req> {
        PoolBuilder::default()
    }
}

impl<Req> Default for PoolBuilder<Req> {
    fn default() -> Self {
        Self::of(Checked::default())
    }
}

impl<Req> PoolBuilder<Req> {
    pub(crate) fn of(config: Checked) -> Self {
        Self { rules: Rules::default(), rebuild: Never, config }
    }
}

impl Config {
    /// A builder with these settings.
    ///
    /// # Errors
    ///
    /// The first setting that is not allowed.
    pub fn try_build<Req>(self) -> Result<PoolBuilder<Req>, ConfigError> {
        self.check().map(PoolBuilder::of)
    }
}

/// How many workers there are, and what they run on.
impl<Req, B> PoolBuilder<Req, B> {
    /// How many workers there are, each of which runs one job at a time: a number, or a range (default: one per
    /// core).
    ///
    /// A pool with a range starts with the fewest. When a job is queued that no worker is free to take, one is added; a
    /// worker that has been [idle](Self::idle) for long leaves. [`scale`](Self::scale) is another rule.
    ///
    /// # Panics
    ///
    /// If the most is not from 1 to 1,048,576, or the range ends below its start.
    #[track_caller]
    pub fn workers(mut self, n: impl Workers) -> Self {
        self.config.size = checked(Size::check("PoolBuilder::workers", n.range()));
        self
    }

    /// Sets workers and queue for a kind of work; see [`Sizing`] for the reasoning.
    pub fn sizing(mut self, sizing: Sizing) -> Self {
        self.config.size = sizing.size;
        self.config.capacity = sizing.queue;
        self
    }

    /// How long a worker is idle before it leaves, if there are more than the fewest (default 10 s).
    ///
    /// # Panics
    ///
    /// If `limit` is zero or above ten years.
    #[track_caller]
    pub fn idle(mut self, limit: Duration) -> Self {
        self.config.idle = allow("PoolBuilder::idle", limit, TIMES);
        self
    }

    /// Another rule for how many workers there are within the range (default [`PerJob`](crate::PerJob)). A pool with one
    /// reads the clock when a job is submitted, taken and ended.
    pub fn scale(mut self, scale: impl Scale) -> Self {
        self.rules.scale = Some(Arc::new(scale));
        self
    }

    /// Runs each worker on a thread of its own (default: workers are tasks), so that work which keeps a processor busy,
    /// or blocks, never delays the tasks and timers of the runtime.
    ///
    /// A job may block its thread in every way: `Handle::block_on`, `blocking_recv`, and clients without `async` work there.
    /// The runtime is entered on these threads, so a service may also use its timers and spawn tasks. The threads end
    /// with their workers, for which a drain waits, or when the runtime ends.
    pub fn threads(mut self) -> Self {
        self.config.threads = true;
        self
    }

    /// After how many failures in a row a worker gives jobs up (default: never). While its service cannot be made, or fails
    /// to become ready, the worker tries again with backoff, and jobs wait. From the `n`th failure on, each failure
    /// ends one job: with the error of readiness, or with [`Unavailable`](stockade_core::Reason::Unavailable) if there
    /// is no service.
    ///
    /// # Panics
    ///
    /// If `n` is 0.
    #[track_caller]
    pub fn give_up_after(mut self, n: u32) -> Self {
        self.config.give_up_after = Some(allow("PoolBuilder::give_up_after", n, 1..=u32::MAX));
        self
    }

    /// Makes a worker's service anew after each result for which `is_fatal` returns `true`, such as the error of a
    /// connection that broke (default: after none, only after panics and errors of readiness). The job keeps its result.
    ///
    /// # Example
    ///
    /// ```
    /// use std::io;
    /// use stockade_core::Error;
    /// use stockade_pool::Pool;
    /// use tower::service_fn;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let connect = service_fn(async |_worker: usize| {
    ///     Ok::<_, io::Error>(service_fn(async |n: u32| Ok::<_, Error<io::Error>>(n)))
    /// });
    /// let pool = Pool::builder()
    ///     .rebuild_on(|result: &Result<u32, Error<io::Error>>| matches!(result, Err(Error::Service(_))))
    ///     .build_make(connect);
    /// assert_eq!(pool.submit(1).await.unwrap(), 1);
    /// # }
    /// ```
    pub fn rebuild_on<T, E, F>(self, is_fatal: F) -> PoolBuilder<Req, F>
    where
        F: Fn(&Result<T, E>) -> bool + Send + Sync + 'static,
    {
        PoolBuilder { rules: self.rules, rebuild: is_fatal, config: self.config }
    }
}

/// What the queue holds, and in which order.
impl<Req, B> PoolBuilder<Req, B> {
    /// How many jobs may be queued while all workers are busy (default 128). With 0 a job is accepted only when a worker
    /// is free. A new pool accepts as many jobs as it has workers and room in the queue, at once.
    ///
    /// # Panics
    ///
    /// If `n` is above two billion (`2^31 - 1 - 2^20`).
    #[track_caller]
    pub fn queue(mut self, n: usize) -> Self {
        self.config.capacity = allow("PoolBuilder::queue", n, QUEUES);
        self
    }

    /// What becomes of a job that finds no place in the queue (default [`WhenFull::Wait`]).
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.config.when_full = when_full;
        self
    }

    /// How many callers may wait for a place in the queue (default: any number). The ones beyond that are refused with
    /// [`QueueFull`](stockade_core::Reason::QueueFull).
    pub fn max_waiting(mut self, n: usize) -> Self {
        self.config.max_waiting = n;
        self
    }

    /// How long a job may wait until it is started, from when it is submitted (default: as long as it takes). It is
    /// refused with [`WaitExceeded`](stockade_core::Reason::WaitExceeded) then. While the first of the queued jobs has
    /// waited for half of that, new ones are refused at once with [`Shed`](stockade_core::Reason::Shed), because they
    /// would wait in vain; not so in a pool with keys, priorities or an order. Both refusals say to come back after
    /// `limit`.
    ///
    /// With zero a job is accepted only when a worker is free for it, and does not wait. A pool with a limit reads the
    /// clock when a job is submitted, taken and ended, and registers a timer for each job whose answer is awaited.
    ///
    /// # Panics
    ///
    /// If `limit` is above ten years.
    #[track_caller]
    pub fn max_wait(mut self, limit: Duration) -> Self {
        let limit = allow("PoolBuilder::max_wait", limit, WAITS);
        self.config.max_wait = Some(limit);
        self
    }

    /// Bounds what the queued jobs weigh together, in the unit that `weight` returns; bytes, say. The bound on their
    /// [number](Self::queue) stays (default: no weights).
    ///
    /// A job waits for its place until its weight fits, in order; one that is heavier than the whole budget waits until it
    /// is alone. Only a handle that is polled ready holds a place before it knows the request: it waits until the
    /// budget is not used up, and its job may exceed it once.
    ///
    /// # Panics
    ///
    /// If `budget` is 0.
    #[track_caller]
    pub fn weigh(
        mut self,
        weight: impl Fn(&Req) -> usize + Send + Sync + 'static,
        budget: usize,
    ) -> Self {
        let budget = allow("PoolBuilder::weigh", budget, 1..=usize::MAX);
        self.config.budget = Some(budget as u64);
        self.rules.weigh = Some(Arc::new(weight));
        self
    }

    /// Keeps jobs of one key in order: they run one at a time, and on one worker as long as there are any. A worker takes
    /// up to 32 jobs of a key in a row while others wait, and a key fills at most half the queue
    /// ([`per_key`](Self::per_key)), so a busy key does not stall others. (Default: no keys.)
    ///
    /// A key is remembered while it has jobs in the pool, and no longer.
    pub fn affinity<K: Hash>(mut self, key: impl Fn(&Req) -> K + Send + Sync + 'static) -> Self {
        self.rules.share = Some(Arc::new(move |request| Share::of(key(request))));
        self.config.order_by = OrderBy::Key;
        self
    }

    /// How many jobs of one key may be queued, in a pool with [`affinity`](Self::affinity) (default: half the queue,
    /// and at least one). The ones beyond that wait for their place, and do not hold up others.
    ///
    /// # Panics
    ///
    /// If `n` is 0.
    #[track_caller]
    pub fn per_key(mut self, n: usize) -> Self {
        self.config.per_key = Some(allow("PoolBuilder::per_key", n, 1..=usize::MAX));
        self
    }

    /// Runs jobs by the [priority](stockade_core::priority) with which they were submitted (default: first in, first out).
    ///
    /// While both have queued jobs, each class gets ten times the share of the one below; within a class, jobs are
    /// started as they came. Of 1,111 jobs that are started while all classes have some, 1,000 are Critical, 100 Default,
    /// 10 Sheddable and 1 Background. So the higher class is nearly always next, and none is starved; what a class does
    /// not use goes to the others. Jobs wait in line for a place in the same order.
    ///
    /// A job that would be refused because the queue is full takes the place of one of a lower class: the last one of the
    /// class with the most jobs for its share, which is the lowest one unless a hundred times as many of a higher
    /// one are queued. That one ends with [`Shed`](stockade_core::Reason::Shed). This happens with [`WhenFull::Refuse`], for
    /// [`Pool::try_submit`], and in a line that is [bounded](Self::max_waiting). The share holds here, too: a class that was
    /// refused for so long that it would have had a turn gets the place of another. With [`WhenFull::DropOldest`] the oldest of
    /// the same class goes if none gives way.
    ///
    /// A handle of such a pool is always ready, because who gets a place depends on the job: a call waits for its place in its
    /// [`Job`](crate::Job).
    ///
    /// # Example
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use stockade_core::{Error, priority::{self, Priority, PriorityLayer}};
    /// use stockade_pool::Pool;
    /// use tower::{ServiceBuilder, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let pool = Pool::builder().workers(4).by_priority().build(service_fn(async |n: u32| {
    ///     Ok::<_, Error<Infallible>>((n, priority::current()))
    /// }));
    /// let svc = ServiceBuilder::new()
    ///     .layer(PriorityLayer::new(|n: &u32| match n {
    ///         0 => Priority::Critical,
    ///         _ => Priority::Default,
    ///     }))
    ///     .service(pool);
    /// assert_eq!(svc.oneshot(0).await, Ok((0, Priority::Critical)));
    /// # }
    /// ```
    pub fn by_priority(mut self) -> Self {
        self.config.order_by = OrderBy::Class;
        self
    }

    /// Runs jobs in equal shares for each tenant, or another key (default: first in, first out).
    ///
    /// `of` returns the key of a job, or a [`Share`](stockade_core::Share) of it with a weight and with what the job costs. A
    /// key that borrows from the request is given as `Share::of(&request.tenant)`, which needs no copy. Of each key with queued
    /// jobs as many are started as of the others, however many it has; what a key does not use goes to the others. Jobs wait
    /// in line for a place in the same order.
    ///
    /// A job that would be refused because the queue is full takes the place of another: of the last job of the key with
    /// the most queued jobs for its weight, if its own key has fewer. That one ends with
    /// [`Shed`](stockade_core::Reason::Shed). So the queue should have room for a few jobs of each key. When that
    /// happens, and when a handle is ready, is the same as for [`by_priority`](Self::by_priority). Nothing is kept of a
    /// key without jobs.
    ///
    /// The algorithm is self-clocked fair queueing (S. J. Golestani, "A Self-Clocked Fair Queueing Scheme for Broadband
    /// Applications", INFOCOM 1994).
    ///
    /// # Example
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use stockade_core::{Error, Share};
    /// use stockade_pool::Pool;
    /// use tower::service_fn;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// // Tenant 1 gets three times as much as the others.
    /// let pool = Pool::builder()
    ///     .fair_by(|tenant: &u32| Share::of(tenant).weight(if *tenant == 1 { 3 } else { 1 }))
    ///     .build(service_fn(async |tenant: u32| Ok::<_, Error<Infallible>>(tenant)));
    /// assert_eq!(pool.submit(7).await, Ok(7));
    /// # }
    /// ```
    pub fn fair_by<S: IntoShare>(mut self, of: impl Fn(&Req) -> S + Send + Sync + 'static) -> Self {
        self.rules.share = Some(Arc::new(move |request| of(request).into_share()));
        self.config.order_by = OrderBy::Share;
        self
    }

    /// Runs jobs of a higher priority first (default: first in, first out). Priorities age, so nothing starves: for
    /// each level of difference a job is overtaken by at most 32 jobs that were queued after it.
    pub fn priority<P: Into<u8>>(
        mut self,
        priority: impl Fn(&Req) -> P + Send + Sync + 'static,
    ) -> Self {
        self.rules.sort = Some(Arc::new(move |request| i64::from(priority(request).into())));
        self.config.order_by = OrderBy::Priority;
        self
    }

    /// Another order than first in, first out, by a rank: a closure `Fn(&Req) -> i64`, or an [`Order`].
    pub fn order(mut self, order: impl Order<Req>) -> Self {
        self.rules.sort = Some(Arc::new(move |request| order.rank(request)));
        self.config.order_by = OrderBy::Rank;
        self
    }
}

/// What goes along with a job, and what is known of it.
impl<Req, B> PoolBuilder<Req, B> {
    /// What becomes of a job when its [`Job`](crate::Job) is dropped (default [`OnDrop::Cancel`]). A
    /// [run](Pool::run) that is dropped is cancelled either way.
    pub fn on_drop(mut self, on_drop: OnDrop) -> Self {
        self.config.detach = on_drop == OnDrop::Detach;
        self
    }

    /// Carries task-locals from the caller to the worker, as the deadline goes by itself (default: none).
    ///
    /// `capture` is called where a job is submitted. `enter` is called around each poll of the job, with what was
    /// captured and a function that polls it. Costs one allocation a job.
    ///
    /// # Example
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use stockade_core::Error;
    /// use stockade_pool::Pool;
    /// use tower::service_fn;
    ///
    /// tokio::task_local! {
    ///     static USER: u32;
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let pool = Pool::builder()
    ///     .carry(|| USER.get(), |user, poll| USER.sync_scope(*user, poll))
    ///     .build(service_fn(async |()| Ok::<_, Error<Infallible>>(USER.get())));
    /// assert_eq!(USER.scope(7, async { pool.submit(()).await }).await, Ok(7));
    /// # }
    /// ```
    pub fn carry<C: Send + 'static>(
        mut self,
        capture: impl Fn() -> C + Send + Sync + 'static,
        enter: impl Fn(&C, &mut dyn FnMut()) + Send + Sync + 'static,
    ) -> Self {
        let enter = Arc::new(enter);
        self.rules.carry = Some(Arc::new(move || {
            let (captured, enter) = (capture(), Arc::clone(&enter));
            Box::new(move |poll| enter(&captured, poll))
        }));
        self
    }

    /// Keeps a copy of each request, and returns it if its job did not succeed: in [`Outcome::request`](crate::Outcome), and
    /// in [`Drained::started`](crate::Drained) if the pool was stopped while it ran (default: off). Costs a clone of the
    /// request and one allocation a job.
    pub fn keep_requests(mut self) -> Self
    where
        Req: Clone + 'static,
    {
        self.rules.keep = Some(Arc::new(Req::clone));
        self
    }

    /// Names each job, for [`PoolHandle::running`](crate::PoolHandle::running) (default: no names). Costs one allocation a
    /// job, and the clock is read when a job is submitted, taken and ended.
    pub fn job_name<N: Into<Cow<'static, str>>>(
        mut self,
        name: impl Fn(&Req) -> N + Send + Sync + 'static,
    ) -> Self {
        self.rules.name = Some(Arc::new(move |request| name(request).into()));
        self
    }

    /// A name for refusals, events and threads (default: none).
    ///
    /// # Panics
    ///
    /// If an owned name is longer than 128 bytes, or the process has 4,096 of them already.
    #[track_caller]
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.config.name = Some(checked(name.into().check("PoolBuilder::name")));
        self
    }

    /// Measures how long each job is queued and runs, for [`Stats`](crate::Stats) and [`Outcome`](crate::Outcome)
    /// (default: off, because it reads the clock three times a job).
    pub fn measure(mut self) -> Self {
        self.config.measure = true;
        self
    }
}

/// Starting it.
impl<Req: Send + 'static, B> PoolBuilder<Req, B> {
    /// Starts the pool; each worker owns a clone of `service`.
    ///
    /// After a panic, or an error of readiness, the worker goes on with another clone.
    ///
    /// # Panics
    ///
    /// Where [`try_build`](Self::try_build) fails; and in a runtime without time, if the number of workers is a range.
    #[track_caller]
    pub fn build<S>(self, service: S) -> Pool<Req, S::Response, S::Error>
    where
        S: PoolService<Req> + Clone,
        B: Rebuild<S::Response, S::Error>,
    {
        self.build_make(CloneService(service))
    }

    /// Starts the pool; each worker makes its own service by calling a clone of `make` with the worker's number, counted
    /// from 0. One connection per worker is made like that.
    ///
    /// After a panic, or an error of readiness, the worker makes another. Until that succeeds, with backoff up to a second,
    /// it takes no job.
    ///
    /// # Panics
    ///
    /// Where [`try_build`](Self::try_build) fails; and in a runtime without time, if the number of workers is a range.
    #[track_caller]
    pub fn build_make<M, S>(self, make: M) -> Pool<Req, S::Response, S::Error>
    where
        M: MakeWorker<S>,
        S: PoolService<Req>,
        B: Rebuild<S::Response, S::Error>,
    {
        match self.try_build_make(make) {
            Ok(pool) => pool,
            Err(error) => panic!("stockade: {error}"),
        }
    }

    /// Starts the pool, as [`build`](Self::build) does.
    ///
    /// # Errors
    ///
    /// [`BuildError`]: outside a tokio runtime, or if a worker's thread cannot be spawned.
    ///
    /// # Panics
    ///
    /// In a runtime without time, if the number of workers is a range.
    pub fn try_build<S>(self, service: S) -> Result<Pool<Req, S::Response, S::Error>, BuildError>
    where
        S: PoolService<Req> + Clone,
        B: Rebuild<S::Response, S::Error>,
    {
        self.try_build_make(CloneService(service))
    }

    /// Starts the pool, as [`build_make`](Self::build_make) does.
    ///
    /// # Errors
    ///
    /// [`BuildError`]: outside a tokio runtime, or if a worker's thread cannot be spawned.
    ///
    /// # Panics
    ///
    /// In a runtime without time, if the number of workers is a range.
    pub fn try_build_make<M, S>(
        self,
        make: M,
    ) -> Result<Pool<Req, S::Response, S::Error>, BuildError>
    where
        M: MakeWorker<S>,
        S: PoolService<Req>,
        B: Rebuild<S::Response, S::Error>,
    {
        let runtime = Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        let Self { rules, rebuild, config } = self;
        if !config.size.is_fixed() {
            // A runtime without time says so here, and not when the first worker is idle.
            drop(sleep(Duration::ZERO));
        }
        let spawn = Box::new(spawn::Workers::new(make, runtime.clone(), config.threads));
        let is_fatal = Box::new(move |result: &_| rebuild.is_fatal(result));
        let shared = Arc::new(Shared::new(config, rules, is_fatal, spawn));
        // Closes the pool again if a worker cannot be started.
        let pool = Pool::of(Arc::clone(&shared));
        if config.threads {
            runtime.spawn(watch_runtime(&shared));
        }
        shared.start().map_err(BuildError::Thread)?;
        Ok(pool)
    }
}

impl<Req, B: Clone> Clone for PoolBuilder<Req, B> {
    fn clone(&self) -> Self {
        Self { rules: self.rules.clone(), rebuild: self.rebuild.clone(), config: self.config }
    }
}

impl<Req, B> fmt::Debug for PoolBuilder<Req, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}

// === impl BuildError ===

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRuntime => "a pool is built inside a tokio runtime, and there is none here",
            Self::Thread(_) => "a thread of the pool could not be spawned",
        })
    }
}

impl error::Error for BuildError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::NoRuntime => None,
            Self::Thread(error) => Some(error),
        }
    }
}
