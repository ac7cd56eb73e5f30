use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use stockade_core::{
    BackpressureLayer, Configured, DefaultClassify, Fresh, Name, PerService,
    config::{allow, checked},
};
use tower_layer::{Identity, Layer};

use crate::{
    Adaptive, Bypass, Config, Hold, Limit, LimitHandle, Permit, Plain, Policy,
    config::{MAXIMA, QUEUES, WAITS},
    shared::Shared,
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
pub struct LimitLayer<M: Maximum = Fixed, X = Plain> {
    config: Config,
    pub(crate) maximum: M,
    hook: X,
    state: Arc<OnceLock<(Arc<Shared>, M::Inner)>>,
}

/// Where the maximum of a [`LimitLayer`] comes from: [`Fixed`], or [`Adaptive`].
///
/// It is there to be named in bounds; nobody else can implement it.
pub trait Maximum: Clone + sealed::Sealed {
    /// The layer inside the limit that moves its maximum.
    #[doc(hidden)]
    type Inner: Clone;

    /// The maximum to start with, where `max` is configured.
    #[doc(hidden)]
    fn initial(&self, max: usize) -> usize;

    /// Starts to move the maximum of `shared`.
    #[doc(hidden)]
    fn inner(&self, shared: &Arc<Shared>) -> Self::Inner;
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
    #[must_use]
    #[track_caller]
    pub fn new(max: usize) -> Self {
        Self::from_config(Config::new(allow("LimitLayer::new", max, MAXIMA)))
    }

    pub(crate) fn from_config(config: Config) -> Self {
        Self { config, maximum: Fixed, hook: Plain, state: Arc::default() }
    }

    /// As many calls in flight as `policy` finds right, from 1 to 1,000 and 20 at first; and a queue of 1,024 behind
    /// them. [`Aimd`](crate::Aimd), [`Vegas`](crate::Vegas) and [`Gradient2`](crate::Gradient2) are such
    /// policies.
    ///
    /// See [`Adaptive`] for what it learns from. It reads the clock twice a call, which other limits do not.
    #[must_use]
    pub fn adaptive<P: Policy>(policy: P) -> LimitLayer<Adaptive<P>> {
        LimitLayer {
            config: Config::new(20),
            maximum: Adaptive::new(policy, DefaultClassify),
            hook: Plain,
            state: Arc::default(),
        }
    }
}

impl<M: Maximum, X> LimitLayer<M, X> {
    /// At most `n` calls wait (default 1,024); further ones are refused with
    /// [`QueueFull`](stockade_core::Reason::QueueFull). With 0 a call that cannot run at once is refused at once.
    ///
    /// # Panics
    ///
    /// If `n` is above `i32::MAX`.
    #[must_use]
    #[track_caller]
    pub fn queue(self, n: usize) -> Self {
        let queue = allow("LimitLayer::queue", n, QUEUES);
        self.with(|config| config.queue = queue)
    }

    /// A call that has waited for `wait` is refused with [`WaitExceeded`](stockade_core::Reason::WaitExceeded), up to
    /// about a millisecond later (default: it waits for as long as its caller does). Zero means not to wait.
    ///
    /// # Panics
    ///
    /// If `wait` is above ten years.
    #[must_use]
    #[track_caller]
    pub fn max_wait(self, wait: Duration) -> Self {
        let wait = allow("LimitLayer::max_wait", wait, WAITS);
        self.with(|config| config.max_wait = Some(wait))
    }

    /// A name for refusals and events.
    ///
    /// # Panics
    ///
    /// If it is an owned name that is [too long, or one too many](stockade_core::name).
    #[must_use]
    #[track_caller]
    pub fn name(self, name: impl Into<Name>) -> Self {
        let name = checked(name.into().check("LimitLayer::name"));
        self.with(|config| config.name = Some(name.into()))
    }

    /// Does not limit the calls for which `passes_by` says so, and does not count them either. For health checks and
    /// the like.
    #[must_use]
    pub fn bypass<Req, F>(self, passes_by: F) -> LimitLayer<M, Bypass<F, X>>
    where
        F: Fn(&Req) -> bool,
    {
        self.with_hook(|hook| Bypass(passes_by, hook))
    }

    /// Gives each response its permit, so that its place stays taken until `hold` or what it returns drops it. For
    /// responses that stream after the service has answered.
    ///
    /// The permit of a call that is not limited gives nothing back. Of two functions the last one counts.
    #[must_use]
    pub fn hold<T, U, F>(self, hold: F) -> LimitLayer<M, Hold<F, X>>
    where
        F: Fn(T, Permit) -> U,
    {
        self.with_hook(|hook| Hold(hold, hook))
    }

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

    /// Gives each service that this layer makes a limit of its own, whose handle is [`Limit::handle`].
    #[must_use]
    pub fn per_service(self) -> PerService<Self> {
        PerService::new(self)
    }

    /// Ends the setters, and returns the handle of the limit that the layer, its clones and their services share.
    ///
    /// A setter after that would start a limit that the handle does not know, so there is none:
    ///
    /// ```compile_fail,E0599
    /// let (layer, handle) = stockade_limit::LimitLayer::new(5).with_handle();
    /// let layer = layer.name("db");
    /// ```
    #[must_use]
    pub fn with_handle(self) -> (Configured<Self>, LimitHandle) {
        let handle = LimitHandle::new(Arc::clone(&self.state().0));
        (Configured::new(self), handle)
    }

    pub(crate) fn with(mut self, set: impl FnOnce(&mut Config)) -> Self {
        set(&mut self.config);
        self.state = Arc::default();
        self
    }

    fn with_hook<Y>(self, hook: impl FnOnce(X) -> Y) -> LimitLayer<M, Y> {
        let Self { config, maximum, .. } = self;
        LimitLayer { config, maximum, hook: hook(self.hook), state: Arc::default() }
    }

    pub(crate) fn with_maximum<N: Maximum>(self, maximum: impl FnOnce(M) -> N) -> LimitLayer<N, X> {
        let Self { config, hook, .. } = self;
        LimitLayer { config, hook, maximum: maximum(self.maximum), state: Arc::default() }
    }

    fn state(&self) -> &(Arc<Shared>, M::Inner) {
        self.state.get_or_init(|| {
            let max = self.maximum.initial(self.config.max);
            let shared = Shared::new(&self.config, max as u32);
            let inner = self.maximum.inner(&shared);
            (shared, inner)
        })
    }
}

impl<M: Maximum, X: Clone> Fresh for LimitLayer<M, X> {
    fn fresh(&self) -> Self {
        self.clone().with(|_| ())
    }
}

impl<S, M: Maximum<Inner: Layer<S>>, X: Clone> Layer<S> for LimitLayer<M, X> {
    type Service = Limit<<M::Inner as Layer<S>>::Service, X>;

    fn layer(&self, inner: S) -> Self::Service {
        let (shared, maximum) = self.state();
        Limit::new(maximum.layer(inner), Arc::clone(shared), self.hook.clone())
    }
}

impl<M: Maximum, X> fmt::Debug for LimitLayer<M, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitLayer").field("config", &self.config).finish_non_exhaustive()
    }
}

// === impl Fixed ===

impl sealed::Sealed for Fixed {}

impl Maximum for Fixed {
    type Inner = Identity;

    fn initial(&self, max: usize) -> usize {
        max
    }

    fn inner(&self, _: &Arc<Shared>) -> Identity {
        Identity::new()
    }
}
