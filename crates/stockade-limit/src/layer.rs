use std::{marker::PhantomData, sync::Arc, time::Duration};

use stockade_core::{
    DefaultClassify,
    config::{MAX_DURATION, MIN_DURATION, allow},
};
use tower_layer::Layer;

use crate::{
    Adaptive, Backpressure, Limit, LimitHandle, Policy,
    adaptive::Bounds,
    gate::MAX,
    meter::{Fixed, Meter},
    state::{Settings, State},
};

/// Lets at most so many calls be in flight at once.
///
/// It does not start anything, bound the rate of calls, or end calls that take long.
///
/// All clones of a layer, all services it makes and all their clones share one limit, unless it is
/// [`per_service`](Self::per_service). A setter starts a new limit, so set first and clone then.
///
/// # Example
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use stockade_core::Error;
/// use stockade_limit::LimitLayer;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// let limit = LimitLayer::new(64).queue(1_000).max_wait(Duration::from_secs(1));
/// let handle = limit.handle();
/// let svc = ServiceBuilder::new()
///     .layer(limit)
///     .map_err(Error::Service)
///     .service_fn(async |n: u32| Ok::<_, std::io::Error>(n + 1));
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// assert_eq!(svc.oneshot(1).await.unwrap(), 2);
/// assert_eq!((handle.in_flight(), handle.max()), (0, 64));
/// # });
/// ```
#[derive(Debug)]
pub struct LimitLayer<A = Fixed, W = InCall> {
    settings: Settings,
    state: Arc<State<A>>,
    per_service: bool,
    waits: PhantomData<W>,
}

/// Calls wait in their response future: a [`LimitLayer`] that makes [`Limit`].
#[derive(Debug)]
pub enum InCall {}

/// Calls wait in `poll_ready`: a [`LimitLayer`] that makes [`Backpressure`].
#[derive(Debug)]
pub enum InReady {}

// === impl LimitLayer ===

impl LimitLayer {
    /// At most `max` calls in flight, and a queue of 1,024 behind them.
    ///
    /// # Panics
    ///
    /// If `max` is not from 1 to `i32::MAX`.
    #[track_caller]
    pub fn new(max: usize) -> Self {
        let max = allow("LimitLayer::new", max, 1..=MAX) as u32;
        let settings = Settings { max, queue: 1_024, max_wait: None, name: None };
        Self::with_meter(settings, &Fixed, false)
    }

    /// As many calls in flight as `policy` finds right, from 1 to 1,000 and 20 at first; and a queue of 1,024
    /// behind them. [`Aimd`](crate::Aimd), [`Vegas`](crate::Vegas) and [`Gradient2`](crate::Gradient2) are such
    /// policies.
    ///
    /// Every call that ends is a sample. Successes and [`Permanent`](stockade_core::Class::Permanent) errors tell
    /// how long a call takes; [`Overload`](stockade_core::Class::Overload), a timeout inside, and a call
    /// that is dropped after its deadline tell of too much load. Other errors and calls dropped earlier tell
    /// nothing.
    ///
    /// Each change of the limit starts a new epoch, and the results of calls that were admitted before it change
    /// nothing. So the limit moves about once a round trip, and one burst of failures counts once.
    /// It grows only when at least half of it was in flight.
    ///
    /// It reads the clock twice a call, which other limits do not.
    pub fn adaptive<P: Policy>(policy: P) -> LimitLayer<Adaptive<P>> {
        let settings = Settings { max: 20, queue: 1_024, max_wait: None, name: None };
        let bounds = Bounds { min: 1, max: 1_000 };
        let meter = Adaptive::new(policy, DefaultClassify, bounds, settings.max);
        LimitLayer::with_meter(settings, &meter, false)
    }
}

impl<P, C, W> LimitLayer<Adaptive<P, C>, W>
where
    P: Policy,
    C: Clone + Send + Sync + 'static,
{
    /// The limit never goes below `n` (default 1).
    ///
    /// # Panics
    ///
    /// If `n` is not from 1 to the highest limit.
    #[must_use]
    #[track_caller]
    pub fn min(self, n: usize) -> Self {
        let Bounds { max, .. } = self.state.meter.bounds();
        let min = allow("LimitLayer::min", n, 1..=max as usize) as u32;
        self.within(Bounds { min, max })
    }

    /// The limit never goes above `n` (default 1,000).
    ///
    /// # Panics
    ///
    /// If `n` is not from the lowest limit to `i32::MAX`.
    #[must_use]
    #[track_caller]
    pub fn max(self, n: usize) -> Self {
        let Bounds { min, .. } = self.state.meter.bounds();
        let max = allow("LimitLayer::max", n, min as usize..=MAX) as u32;
        self.within(Bounds { min, max })
    }

    /// The limit to start with (default 20, or the nearest that the bounds allow).
    ///
    /// # Panics
    ///
    /// If `n` is not within the bounds.
    #[must_use]
    #[track_caller]
    pub fn initial(self, n: usize) -> Self {
        let Bounds { min, max } = self.state.meter.bounds();
        let initial = allow("LimitLayer::initial", n, min as usize..=max as usize) as u32;
        self.with(|settings| settings.max = initial)
    }

    /// Judges results with `classify` (default [`DefaultClassify`]).
    #[must_use]
    pub fn classify<D>(self, classify: D) -> LimitLayer<Adaptive<P, D>, W>
    where
        D: Clone + Send + Sync + 'static,
    {
        let Self { settings, state, per_service, .. } = self;
        let Bounds { min, max } = state.meter.bounds();
        let policy = state.meter.policy().clone();
        let meter = Adaptive::new(policy, classify, Bounds { min, max }, settings.max);
        LimitLayer::with_meter(settings, &meter, per_service)
    }

    fn within(self, bounds: Bounds) -> Self {
        let Self { mut settings, state, per_service, .. } = self;
        settings.max = settings.max.clamp(bounds.min, bounds.max);
        let (policy, classify) = (state.meter.policy().clone(), state.meter.classifier().clone());
        let meter = Adaptive::new(policy, classify, bounds, settings.max);
        Self::with_meter(settings, &meter, per_service)
    }
}

impl<A: Meter> LimitLayer<A> {
    /// Waits in `poll_ready`, and not in the response future: for whoever decides by readiness, such as a
    /// `Balance`, a load shed, a loop that fetches work or the workers of a pool. See [`Backpressure`].
    ///
    /// It shares the limit with the layer it is made from, and with its clones: callers and pollers stand in one queue.
    /// The bound of the queue and the longest wait hold for callers alone.
    #[must_use]
    pub fn backpressure(self) -> LimitLayer<A, InReady> {
        let Self { settings, state, per_service, .. } = self;
        LimitLayer { settings, state, per_service, waits: PhantomData }
    }
}

impl<A: Meter, W> LimitLayer<A, W> {
    /// At most `n` calls wait (default 1,024); further ones are refused with
    /// [`QueueFull`](stockade_core::Reason::QueueFull). With 0 a call that cannot run at once is refused at once.
    ///
    /// # Panics
    ///
    /// If `n` is above `i32::MAX`.
    #[must_use]
    #[track_caller]
    pub fn queue(self, n: usize) -> Self {
        let queue = allow("LimitLayer::queue", n, 0..=MAX) as u32;
        self.with(|settings| settings.queue = queue)
    }

    /// A call that has waited for `wait` is refused with [`WaitExceeded`](stockade_core::Reason::WaitExceeded), up to about a
    /// millisecond later (default: it waits for as long as its caller does).
    ///
    /// # Panics
    ///
    /// If `wait` is not from a nanosecond to ten years.
    #[must_use]
    #[track_caller]
    pub fn max_wait(self, wait: Duration) -> Self {
        let wait = allow("LimitLayer::max_wait", wait, MIN_DURATION..=MAX_DURATION);
        self.with(|settings| settings.max_wait = Some(wait))
    }

    /// A name for refusals and events.
    #[must_use]
    pub fn name(self, name: &'static str) -> Self {
        self.with(|settings| settings.name = Some(name))
    }

    /// Gives each service that this layer makes a limit of its own, whose handle is
    /// [`Limit::handle`].
    #[must_use]
    pub fn per_service(mut self) -> Self {
        self.per_service = true;
        self
    }

    /// Shows and changes the shared limit.
    pub fn handle(&self) -> LimitHandle {
        LimitHandle::new(Arc::clone(&self.state) as _)
    }

    fn with_meter(settings: Settings, meter: &A, per_service: bool) -> Self {
        let state = State::new(settings, meter);
        Self { settings, state, per_service, waits: PhantomData }
    }

    fn with(mut self, set: impl FnOnce(&mut Settings)) -> Self {
        set(&mut self.settings);
        self.state = State::new(self.settings, &self.state.meter);
        self
    }

    /// The state of one service.
    fn state(&self) -> Arc<State<A>> {
        if self.per_service {
            State::new(self.settings, &self.state.meter)
        } else {
            Arc::clone(&self.state)
        }
    }
}

impl<A, W> Clone for LimitLayer<A, W> {
    fn clone(&self) -> Self {
        let Self { settings, ref state, per_service, waits } = *self;
        Self { settings, state: Arc::clone(state), per_service, waits }
    }
}

impl<S, A: Meter> Layer<S> for LimitLayer<A> {
    type Service = Limit<S, A>;

    fn layer(&self, inner: S) -> Limit<S, A> {
        Limit::new(inner, self.state())
    }
}

impl<S, A: Meter> Layer<S> for LimitLayer<A, InReady> {
    type Service = Backpressure<S, A>;

    fn layer(&self, inner: S) -> Backpressure<S, A> {
        Backpressure::new(inner, self.state())
    }
}
