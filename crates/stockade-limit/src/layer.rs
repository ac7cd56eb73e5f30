use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use stockade_core::{
    BackpressureLayer, DefaultClassify, Fresh, IntoShare, Name,
    config::{allow, checked},
};
use tower_layer::Layer;

use crate::{
    Adaptive, ByPriority, Config, FairBy, Hooks, Limit, LimitHandle, Permit, Plain, Policy,
    config::MAXIMA, discipline::Discipline, shared::Shared,
};

/// Lets at most so many calls be in flight at once.
///
/// It starts nothing, does not bound the rate of calls, and does not end calls that take long.
///
/// All clones of a layer, all services it makes and all their clones share one limit, unless it is
/// [`per_service`](Self::per_service). A setter starts a new limit. Setters may come in any order.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use stockade_core::Error;
/// use stockade_limit::LimitLayer;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// let limit = LimitLayer::new(64).queue(1_000).max_wait(Duration::from_secs(1));
/// let (limit, handle) = limit.with_handle();
/// let svc = ServiceBuilder::new()
///     .layer(limit)
///     .map_err(Error::Service)
///     .service_fn(async |n: u32| Ok::<_, std::io::Error>(n + 1));
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// assert_eq!(svc.oneshot(1).await.unwrap(), 2);
/// assert_eq!((handle.in_flight(), handle.max()), (0, 64));
/// # });
/// ```
#[derive(Clone)]
#[must_use = "a setter returns the layer that it has changed"]
pub struct LimitLayer<M: Maximum = Fixed, X = Plain> {
    pub(crate) config: Config,
    pub(crate) maximum: M,
    discipline: Discipline,
    hook: X,
    state: Arc<OnceLock<(Arc<Shared>, M::Controller)>>,
}

/// Where the maximum of a [`LimitLayer`] comes from: [`Fixed`], or [`Adaptive`].
///
/// It is public so that bounds can name it; it cannot be implemented elsewhere.
pub trait Maximum: Clone + sealed::Sealed {
    /// What moves the maximum of one limit.
    #[doc(hidden)]
    type Controller: Clone;

    /// The service inside the limit, which `S` becomes.
    #[doc(hidden)]
    type Inner<S>;

    /// Whether the lower classes get a part of the maximum only, where calls wait by class.
    #[doc(hidden)]
    const CAPS_CLASSES: bool;

    /// The maximum to start with, where `max` is configured.
    #[doc(hidden)]
    fn initial(&self, max: usize) -> usize;

    /// Starts to move the maximum of `shared`.
    #[doc(hidden)]
    fn controller(&self, shared: &Arc<Shared>) -> Self::Controller;

    /// Lets `controller` see the calls of `service`.
    #[doc(hidden)]
    fn inner<S>(controller: &Self::Controller, service: S) -> Self::Inner<S>;
}

/// The maximum is what it was set to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fixed;

pub(crate) mod sealed {
    pub trait Sealed {}
}

// === impl LimitLayer ===

impl LimitLayer {
    /// At most `max` calls in flight, and a queue of 1,024 behind them.
    ///
    /// # Panics
    ///
    /// If `max` is not from 1 to `i32::MAX`. [`Config::try_build`] returns an error instead.
    #[track_caller]
    pub fn new(max: usize) -> Self {
        Self::of(Config::new(allow("LimitLayer::new", max, MAXIMA)), Fixed)
    }

    /// As many calls in flight as `policy` finds right, from 1 to 1,000 and 20 at first; and a queue of 1,024 behind
    /// them. [`Aimd`](crate::Aimd), [`Vegas`](crate::Vegas) and [`Gradient2`](crate::Gradient2) are such
    /// policies.
    ///
    /// See [`Adaptive`] for what it learns from. It reads the clock twice a call, which other limits do not.
    pub fn adaptive<P: Policy>(policy: P) -> LimitLayer<Adaptive<P>> {
        LimitLayer::of(Config::new(20), Adaptive::new(policy, DefaultClassify))
    }
}

impl<M: Maximum> LimitLayer<M> {
    /// A layer of this configuration, which was checked.
    pub(crate) fn of(config: Config, maximum: M) -> Self {
        let discipline = Discipline::Fifo;
        Self { config, maximum, discipline, hook: Plain::default(), state: Arc::default() }
    }
}

impl<M: Maximum, X> LimitLayer<M, X> {
    /// Waits in `poll_ready`, and not in the response future: for callers that decide by readiness, such as a
    /// `Balance`, a load shed, a loop that fetches work or the workers of a pool. The service inside need not be
    /// `Clone`.
    ///
    /// It shares the limit with the clones of this layer: calls and instances that wait stand in one queue.
    /// The bound of the queue and the longest wait do not hold for instances.
    #[must_use]
    pub fn backpressure(self) -> BackpressureLayer<Self> {
        BackpressureLayer::new(self)
    }

    fn handle(&self) -> LimitHandle {
        LimitHandle(Arc::clone(&self.state().0))
    }

    #[track_caller]
    pub(crate) fn changed(self) -> Self {
        checked(self.config.check("LimitLayer"));
        Self { state: Arc::default(), ..self }
    }

    pub(crate) fn with_maximum<N: Maximum>(self, maximum: impl FnOnce(M) -> N) -> LimitLayer<N, X> {
        let Self { config, discipline, hook, .. } = self;
        let maximum = maximum(self.maximum);
        LimitLayer { config, maximum, discipline, hook, state: Arc::default() }
    }

    fn state(&self) -> &(Arc<Shared>, M::Controller) {
        self.state.get_or_init(|| {
            let max = self.maximum.initial(self.config.max);
            let shared = Shared::new(&self.config, max as u32, self.discipline);
            let controller = self.maximum.controller(&shared);
            (shared, controller)
        })
    }
}

stockade_core::setters! { LimitLayer<M: Maximum, X>:
    /// At most `n` calls wait (default 1,024); further ones are refused with
    /// [`QueueFull`](stockade_core::Reason::QueueFull). With 0 a call that cannot run at once is refused at once.
    ///
    /// # Panics
    ///
    /// If `n` is above `i32::MAX`.
    queue(n: usize) => queue = n;

    /// A call that has waited for `wait` is refused with [`WaitExceeded`](stockade_core::Reason::WaitExceeded), up to
    /// about a millisecond later (default: it waits for as long as its caller does). Zero means not to wait.
    ///
    /// # Panics
    ///
    /// If `wait` is above ten years.
    max_wait(wait: Duration) => max_wait = Some(wait);

    /// A name for refusals and events.
    ///
    /// # Panics
    ///
    /// If it is an owned name that is [too long, or one too many](stockade_core::name).
    name(name: impl Into<Name>) => name = Some(name.into());
}

stockade_core::endings!(LimitLayer<M: Maximum, X> => LimitHandle);
stockade_core::shown!(LimitLayer<M: Maximum, X>: config);

impl<M: Maximum, B, H, O> LimitLayer<M, Hooks<B, H, O>> {
    /// Does not limit the calls for which `passes_by` says so, and does not count them either. For health checks and
    /// the like. Of two functions the last one counts.
    pub fn bypass<Req, F>(self, passes_by: F) -> LimitLayer<M, Hooks<F, H, O>>
    where
        F: Fn(&Req) -> bool,
    {
        self.with_hook(|Hooks { hold, order, .. }| Hooks { bypass: passes_by, hold, order })
    }

    /// Gives each response its permit, so that its place stays taken until `hold` or what it returns drops it. For
    /// responses that stream after the service has answered.
    ///
    /// The permit of a call that is not limited gives nothing back. Of two functions the last one counts.
    pub fn hold<T, U, F>(self, hold: F) -> LimitLayer<M, Hooks<B, F, O>>
    where
        F: Fn(T, Permit) -> U,
    {
        self.with_hook(|Hooks { bypass, order, .. }| Hooks { bypass, hold, order })
    }

    /// Admits waiting calls by their [priority](stockade_core::priority), and not as they came.
    ///
    /// While calls of both wait, each class gets ten times the share of the one below; within a class they are admitted as they
    /// came. Of 1,111 places that become free while calls of all classes wait, Critical gets 1,000, Default 100, Sheddable 10
    /// and Background 1. So the higher class is nearly always next, and none is starved; what a class does not
    /// use goes to the others.
    ///
    /// In a full queue a call of a lower class gives way to one of a higher class: the last one of the class with
    /// the most calls for its share, which is the lowest one unless a hundred times as many of a higher one wait. It is
    /// refused with [`Shed`](stockade_core::Reason::Shed). A newcomer for which none gives way is refused with
    /// [`QueueFull`](stockade_core::Reason::QueueFull). The share holds here, too: a class that was refused for so
    /// long that it would have had a turn gets the place of another.
    ///
    /// While there is room, a [fixed](Self::new) limit admits all classes alike. An [adaptive](LimitLayer::adaptive) one
    /// cuts the lower classes first as the limit falls: a Background call starts only while less than half of the
    /// limit is in flight, and a Sheddable one only below 80 %. What is left is for the others. (Stripe keeps 20 % from
    /// what is not critical: P. Tarjan, "Scaling your API with rate limiters", 2017. Half is where an adaptive limit
    /// begins to grow, so Background calls alone do not raise it.)
    ///
    /// Of this and [`fair_by`](Self::fair_by) the last one counts.
    ///
    /// # Example
    ///
    /// ```
    /// use stockade_core::{Error, priority::{Priority, PriorityLayer}};
    /// use stockade_limit::LimitLayer;
    /// use tower::{ServiceBuilder, ServiceExt};
    ///
    /// let svc = ServiceBuilder::new()
    ///     .layer(PriorityLayer::new(|n: &u32| match n {
    ///         0 => Priority::Critical,
    ///         _ => Priority::Default,
    ///     }))
    ///     .layer(LimitLayer::new(64).by_priority())
    ///     .map_err(Error::Service)
    ///     .service_fn(async |n: u32| Ok::<_, std::io::Error>(n + 1));
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// assert_eq!(svc.oneshot(0).await.unwrap(), 1);
    /// # });
    /// ```
    pub fn by_priority(self) -> LimitLayer<M, Hooks<B, H, ByPriority>> {
        let discipline = if M::CAPS_CLASSES { Discipline::Capped } else { Discipline::ByClass };
        self.with_order(discipline, ByPriority)
    }

    /// Admits waiting calls in equal shares for each tenant, or another key, and not as they came.
    ///
    /// `of` returns the key of a call, or a [`Share`](stockade_core::Share) of it with a weight and with what the call costs. A
    /// key that borrows from the request is given as `Share::of(&request.tenant)`, which needs no copy. `of` is called for
    /// calls that have to wait, before the lock is taken. Each key with waiting calls gets as many places as the others,
    /// however many calls it has; what a key does not use goes to the others.
    ///
    /// In a full queue the key with the most waiting calls for its weight loses the last of them to a key with fewer. That call is
    /// refused with [`Shed`](stockade_core::Reason::Shed). So the queue should have room for a few calls of each key. Nothing
    /// is kept of a key without waiting calls.
    ///
    /// Permits that are taken by hand and instances of [`backpressure`](Self::backpressure) have no request: together they
    /// count as one more key.
    ///
    /// The algorithm is self-clocked fair queueing (S. J. Golestani, "A Self-Clocked Fair Queueing Scheme for Broadband
    /// Applications", INFOCOM 1994).
    ///
    /// Of this and [`by_priority`](Self::by_priority) the last one counts. To have both, use tenant and class as the key,
    /// with a weight by class; each pair has a share of its own then, so a tenant with more or higher classes gets more.
    ///
    /// # Example
    ///
    /// ```
    /// use stockade_core::{Error, Share};
    /// use stockade_limit::LimitLayer;
    /// use tower::{ServiceBuilder, ServiceExt};
    ///
    /// struct Request {
    ///     tenant: u32,
    ///     rows: u32,
    /// }
    ///
    /// let equal = LimitLayer::new(64).fair_by(|request: &Request| request.tenant);
    /// // The first tenant gets three times as much, and a call costs as much as it reads.
    /// let weighted = LimitLayer::new(64).fair_by(|request: &Request| {
    ///     let weight = if request.tenant == 1 { 3 } else { 1 };
    ///     Share::of(request.tenant).weight(weight).cost(request.rows)
    /// });
    /// let svc = ServiceBuilder::new()
    ///     .layer(weighted)
    ///     .map_err(Error::Service)
    ///     .service_fn(async |request: Request| Ok::<_, std::io::Error>(request.rows));
    /// # drop(equal);
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// assert_eq!(svc.oneshot(Request { tenant: 1, rows: 7 }).await.unwrap(), 7);
    /// # });
    /// ```
    pub fn fair_by<Req, S, F>(self, of: F) -> LimitLayer<M, Hooks<B, H, FairBy<F>>>
    where
        F: Fn(&Req) -> S,
        S: IntoShare,
    {
        self.with_order(Discipline::ByShare, FairBy(of))
    }

    fn with_order<N>(self, discipline: Discipline, order: N) -> LimitLayer<M, Hooks<B, H, N>> {
        let layer = self.with_hook(|Hooks { bypass, hold, .. }| Hooks { bypass, hold, order });
        LimitLayer { discipline, ..layer }
    }

    fn with_hook<Y>(self, hook: impl FnOnce(Hooks<B, H, O>) -> Y) -> LimitLayer<M, Y> {
        let Self { config, maximum, discipline, .. } = self;
        LimitLayer { config, maximum, discipline, hook: hook(self.hook), state: Arc::default() }
    }
}

impl<M: Maximum, X: Clone> Fresh for LimitLayer<M, X> {
    fn fresh(&self) -> Self {
        self.clone().changed()
    }
}

impl<S, M: Maximum, X: Clone> Layer<S> for LimitLayer<M, X> {
    type Service = Limit<M::Inner<S>, X>;

    fn layer(&self, inner: S) -> Self::Service {
        let (shared, controller) = self.state();
        Limit::new(M::inner(controller, inner), Arc::clone(shared), self.hook.clone())
    }
}

// === impl Fixed ===

impl sealed::Sealed for Fixed {}

impl Maximum for Fixed {
    type Controller = ();
    type Inner<S> = S;

    const CAPS_CLASSES: bool = false;

    fn initial(&self, max: usize) -> usize {
        max
    }

    fn controller(&self, _: &Arc<Shared>) {}

    fn inner<S>((): &(), service: S) -> S {
        service
    }
}
