//! The layer, which is the configuration.

use std::{fmt, sync::Arc, time::Duration};

use stockade_core::{
    DefaultClassify,
    config::{MAX_DURATION, MIN_DURATION, allow},
};
use tower_layer::Layer;

use crate::{
    Breaker, BreakerHandle, Window,
    owner::Owner,
    settings::{Mode, Settings, Slow},
};

/// Stops calling a service that fails, and probes it until it has recovered.
///
/// It does not repeat calls, and it does not limit how long they take; a call that is too slow for a
/// timeout counts, be the timeout inside or outside.
///
/// - *Closed*: calls pass. It opens when [`failure_rate`](Self::failure_rate) of the calls in the
///   [`window`](Self::window) failed, provided that there are [`min_calls`](Self::min_calls) in it; or
///   by what [`consecutive`](Self::consecutive) and [`slow`](Self::slow) say, which are off.
/// - *Open*: calls are refused at once, for [`open_for`](Self::open_for).
/// - *Half-open*: as many calls pass as there are [`probes`](Self::probes). When as many have succeeded it
///   closes, at once or by a [`ramp`](Self::ramp); when one fails, or takes longer than
///   [`probe_timeout`](Self::probe_timeout), it opens again, for twice as long as before. A probe that is
///   dropped gives its place to another.
/// - *ForcedOpen*: calls are refused by [hand](BreakerHandle::force_open).
///
/// It stays closed if it is to [observe only](Self::observe_only), or is [disabled](Self::disabled).
///
/// A call counts for the time in which it was admitted: one from before the breaker opened says nothing
/// about whether to close it.
///
/// | what came of the call | counts as |
/// |---|---|
/// | [`Success`] or [`Permanent`], by the [classifier](Self::classify) | success |
/// | [`Transient`], [`Overload`] or [`NoEffect`], by the classifier | failure |
/// | a layer inside ended it, as `Elapsed` or `Panicked` | failure |
/// | a layer inside refused it for another reason | nothing |
/// | the service inside, or its future, panicked | failure |
/// | it was dropped after its [deadline](stockade_core::deadline), pending | failure |
/// | it was dropped otherwise | nothing |
///
/// All clones of a layer, and all services made by them, share one state, unless it is
/// [`per_service`](Self::per_service). A setter begins a new state, so take the [`handle`](Self::handle) last.
///
/// A call does not keep that state alive: it goes on when all else is dropped, and then counts for nothing.
/// The memory of a breaker is not given back to the system but to the next breaker, so there is never more
/// of it than for as many breakers as there were at once; a large window is given back.
///
/// Closed, with successes only in a full window of calls, it costs one load before and after the call. It
/// reads the clock only where it is open, half-open or opens, and for [`Window::time`] and `slow`.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use stockade_breaker::{BreakerLayer, Window};
/// use tower::{ServiceBuilder, service_fn};
///
/// let service = ServiceBuilder::new()
///     .layer(
///         BreakerLayer::new()
///             .window(Window::calls(50))
///             .failure_rate(0.25)
///             .open_for(Duration::from_secs(2)),
///     )
///     .service(service_fn(|_: ()| async { Ok::<_, stockade_core::BoxError>(()) }));
/// # let _ = service;
/// ```
///
/// [`Success`]: stockade_core::Class::Success
/// [`Permanent`]: stockade_core::Class::Permanent
/// [`Transient`]: stockade_core::Class::Transient
/// [`Overload`]: stockade_core::Class::Overload
/// [`NoEffect`]: stockade_core::Class::NoEffect
pub struct BreakerLayer<C = DefaultClassify> {
    settings: Settings,
    classify: C,
    owner: Arc<Owner>,
    per_service: bool,
}

/// The lowest rate that can be set, as a window has a million calls at most.
const MIN_RATE: f64 = 1e-6;

/// The most probes that can be out at once.
const MAX_PROBES: u32 = 1_000;

// === impl BreakerLayer ===

impl BreakerLayer {
    /// A breaker with the defaults, which the setters name.
    pub fn new() -> Self {
        Self::with(Settings::default(), DefaultClassify, false)
    }
}

impl<C> BreakerLayer<C> {
    fn with(settings: Settings, classify: C, per_service: bool) -> Self {
        Self { settings, classify, owner: Arc::new(Owner::new(settings)), per_service }
    }

    /// The handle of this breaker. The services of an [`per_service`](Self::per_service) layer have
    /// [handles](Breaker::handle) of their own.
    pub fn handle(&self) -> BreakerHandle {
        BreakerHandle::new(Arc::clone(&self.owner))
    }

    /// How to judge results: a [`Classify`](stockade_core::Classify), or a closure
    /// `Fn(Result<&T, &E>) -> Class`. By default [`DefaultClassify`], to which every error of the service is
    /// a failure. It is not asked about refusals by layers inside, and it runs under no lock.
    ///
    /// It is cloned for every call. That costs nothing for a function or a closure that captures nothing,
    /// and next to nothing for one that captures plain values; an `Arc` in it would be counted up and down.
    pub fn classify<D>(self, classify: D) -> BreakerLayer<D> {
        let Self { settings, per_service, owner, .. } = self;
        // First, so that its gate is the one that is taken again.
        drop(owner);
        BreakerLayer::with(settings, classify, per_service)
    }

    /// Which outcomes it looks at: by default [`Window::calls(100)`](Window::calls).
    ///
    /// # Panics
    ///
    /// If [`min_calls`](Self::min_calls) was set to more than the window can hold.
    #[track_caller]
    pub fn window(self, window: Window) -> Self {
        if let Some(n) = self.settings.min_calls {
            allow("BreakerLayer::min_calls", n, 1..=window.capacity());
        }
        self.set(|settings| settings.window = window)
    }

    /// The part of the calls in the window that have to fail to open it, from `0.000001` to `1.0`: by
    /// default half of them, `0.5`.
    ///
    /// # Panics
    ///
    /// If `rate` is outside of that, or not a number.
    #[track_caller]
    pub fn failure_rate(self, rate: f64) -> Self {
        allow("BreakerLayer::failure_rate", rate, MIN_RATE..=1.0);
        self.set(|settings| settings.failure_rate = rate)
    }

    /// Opens it as well when `rate` of the calls in the window took `after` or longer, whether they failed
    /// or not; a probe that does counts as a failure. Off by default. It costs two reads of the clock
    /// a call.
    ///
    /// # Panics
    ///
    /// If `after` is zero or above ten years, or `rate` is not from `0.000001` to `1.0`.
    #[track_caller]
    pub fn slow(self, after: Duration, rate: f64) -> Self {
        allow("BreakerLayer::slow", after, MIN_DURATION..=MAX_DURATION);
        allow("BreakerLayer::slow", rate, MIN_RATE..=1.0);
        self.set(|settings| settings.slow = Some(Slow { after, rate }))
    }

    /// Opens it as well when `n` calls have failed with no success between, however few there are in the
    /// window. Off by default.
    ///
    /// # Panics
    ///
    /// If `n` is 0.
    #[track_caller]
    pub fn consecutive(self, n: u32) -> Self {
        allow("BreakerLayer::consecutive", n, 1..=u32::MAX);
        self.set(|settings| settings.consecutive = Some(n))
    }

    /// How many calls there have to be in the window before a rate means anything: by default 20, or the
    /// whole window where that is smaller.
    ///
    /// # Panics
    ///
    /// If `n` is 0, or more than the window that was set can hold.
    #[track_caller]
    pub fn min_calls(self, n: u32) -> Self {
        allow("BreakerLayer::min_calls", n, 1..=self.settings.window.capacity());
        self.set(|settings| settings.min_calls = Some(n))
    }

    /// How long it is open: by default 5 s. Every time that it opens again without having been closed
    /// doubles that, up to 60 s or to `duration`, whichever is longer. A random part of up to a fifth is
    /// taken away each time, lest all callers of a service come back at once.
    ///
    /// # Panics
    ///
    /// If `duration` is zero or above ten years.
    #[track_caller]
    pub fn open_for(self, duration: Duration) -> Self {
        allow("BreakerLayer::open_for", duration, MIN_DURATION..=MAX_DURATION);
        self.set(|settings| settings.open_for = duration)
    }

    /// How many probes a half-open breaker lets pass at once, and how many have to succeed: by default 3.
    ///
    /// # Panics
    ///
    /// If `n` is not from 1 to 1,000.
    #[track_caller]
    pub fn probes(self, n: u32) -> Self {
        allow("BreakerLayer::probes", n, 1..=MAX_PROBES);
        self.set(|settings| settings.probes = n)
    }

    /// After what time a probe counts as failed: by default 30 s. No timer runs for it, and the probe
    /// itself goes on: it is noticed when the next call comes, the probe ends or the state is read.
    ///
    /// # Panics
    ///
    /// If `duration` is zero or above ten years.
    #[track_caller]
    pub fn probe_timeout(self, duration: Duration) -> Self {
        allow("BreakerLayer::probe_timeout", duration, MIN_DURATION..=MAX_DURATION);
        self.set(|settings| settings.probe_timeout = duration)
    }

    /// After the probes have succeeded, lets a share of the calls pass that grows from a tenth to all of them
    /// over `duration`, evenly, and refuses the others: so a service that has just recovered is not run
    /// over. Off by default: it closes as soon as the probes have succeeded.
    ///
    /// It is half-open until the ramp is over. The calls count as those of a closed one, so it opens for the
    /// same reasons, but for twice as long as before.
    ///
    /// # Panics
    ///
    /// If `duration` is zero or above ten years.
    #[track_caller]
    pub fn ramp(self, duration: Duration) -> Self {
        allow("BreakerLayer::ramp", duration, MIN_DURATION..=MAX_DURATION);
        self.set(|settings| settings.ramp = Some(duration))
    }

    /// Stays closed whatever comes, but counts as ever: the handle shows what there is in the window, to choose
    /// the settings by. Refuses only while it is [forced open](BreakerHandle::force_open) by hand.
    ///
    /// It and [`disabled`](Self::disabled) exclude each other, and the last one counts.
    pub fn observe_only(self) -> Self {
        self.set(|settings| settings.mode = Mode::Observing)
    }

    /// Stays closed whatever comes, and counts nothing. Refuses only while it is
    /// [forced open](BreakerHandle::force_open) by hand.
    ///
    /// So a breaker can be turned off by configuration with no other type of the whole service.
    pub fn disabled(self) -> Self {
        self.set(|settings| settings.mode = Mode::Disabled)
    }

    /// The name of this breaker in refusals and events. None by default.
    pub fn name(self, name: &'static str) -> Self {
        self.set(|settings| settings.name = Some(name))
    }

    /// Gives each service that the layer makes a state of its own, which only clones of that service share.
    pub fn per_service(mut self) -> Self {
        self.per_service = true;
        self
    }

    fn set(mut self, setter: impl FnOnce(&mut Settings)) -> Self {
        setter(&mut self.settings);
        let Self { settings, classify, owner, per_service } = self;
        drop(owner);
        Self::with(settings, classify, per_service)
    }
}

impl<S, C: Clone> Layer<S> for BreakerLayer<C> {
    type Service = Breaker<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        let owner = if self.per_service {
            Arc::new(Owner::new(self.settings))
        } else {
            Arc::clone(&self.owner)
        };
        Breaker::new(inner, owner, self.classify.clone())
    }
}

impl Default for BreakerLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<C: Clone> Clone for BreakerLayer<C> {
    fn clone(&self) -> Self {
        Self {
            settings: self.settings,
            classify: self.classify.clone(),
            owner: Arc::clone(&self.owner),
            per_service: self.per_service,
        }
    }
}

impl<C> fmt::Debug for BreakerLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerLayer")
            .field("settings", &self.settings)
            .field("owner", &self.owner)
            .field("per_service", &self.per_service)
            .finish()
    }
}
