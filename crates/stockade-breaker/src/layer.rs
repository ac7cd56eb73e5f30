//! The layer and its setters.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use stockade_core::{BackpressureLayer, DefaultClassify, Fresh, Name, NoBypass, config::checked};
use tower_layer::Layer;

use crate::{Breaker, BreakerHandle, Config, Slow, Window, shared::Lease};

/// Stops calling a service that fails, and probes it until it has recovered.
///
/// It does not repeat calls, and it does not limit how long they take.
///
/// - *Closed*: calls pass. It opens when [`failure_rate`](Self::failure_rate) of the calls in the
///   [`window`](Self::window) failed, provided that there are [`min_calls`](Self::min_calls) in it; or
///   by [`consecutive`](Self::consecutive) or [`slow`](Self::slow), which are off by default.
/// - *Open*: calls are refused at once, for [`open_for`](Self::open_for), or for longer if the service asked
///   for it.
/// - *Half-open*: as many calls pass at once as there are [`probes`](Self::probes). When as many have succeeded
///   it closes, at once or by a [`ramp`](Self::ramp). When one fails it opens again, for twice as long as
///   before. Callers that find no place are told when to come back, each at another time.
/// - *ForcedOpen*: calls are refused [by hand](BreakerHandle::force_open).
///
/// A call counts for the time in which it was admitted: one from before the breaker opened says nothing about
/// whether to close it.
///
/// | how the call ended | counts as |
/// |---|---|
/// | [`Success`] or [`Permanent`], by the [classifier](Self::classify) | success |
/// | [`Transient`], [`Overload`] or [`NoEffect`], by the classifier | failure |
/// | [`Ignored`], by the classifier | nothing |
/// | a layer inside refused it, or cancelled it | nothing |
/// | the service inside, or its future, panicked | failure |
/// | dropped while pending, after its [deadline](stockade_core::deadline) | failure |
/// | dropped while pending, when it had been out for the time of [`slow`](Self::slow) | failure, slow |
/// | dropped while pending, and no call was answered since it was admitted | failure |
/// | dropped otherwise, or while it waited in a queue of a layer inside | nothing |
///
/// So a timeout of any kind around the breaker is seen, and callers that merely lose interest in a service
/// that answers others do no harm. A probe that counts as nothing gives its place to the next call.
///
/// While the window is full of successes, it is not known whether others were answered before a call was dropped:
/// such a call counts as soon as a later one is dropped with no answer in between.
///
/// All clones of a layer, and all services made by them, share one state, unless it is
/// [`per_service`](Self::per_service). A setter starts a new state.
///
/// A call does not keep that state alive: it goes on when all else is dropped, and then counts for nothing. The
/// memory of a breaker, apart from its window, is kept for the next breaker.
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
/// [`Ignored`]: stockade_core::Class::Ignored
#[derive(Clone)]
#[must_use = "a setter returns the layer that it has changed"]
pub struct BreakerLayer<C = DefaultClassify, B = NoBypass> {
    config: Config,
    classify: C,
    bypass: B,
    /// Made when it is first needed. A setter puts another one here, so that it changes no clone.
    lease: Arc<OnceLock<Arc<Lease>>>,
}

// === impl BreakerLayer: what it is made of ===

impl BreakerLayer {
    /// A breaker with the defaults, which the setters name.
    pub fn new() -> Self {
        Self::from_config(Config::DEFAULT)
    }

    pub(crate) fn from_config(config: Config) -> Self {
        Self { config, classify: DefaultClassify, bypass: NoBypass, lease: Arc::default() }
    }
}

impl<C, B> BreakerLayer<C, B> {
    /// How to judge results: a [`Classify`](stockade_core::Classify), or a closure
    /// `Fn(Result<&T, &E>) -> Class`. By default [`DefaultClassify`], to which every error of the service is
    /// a failure. It is not asked about refusals by layers inside, and it runs under no lock.
    ///
    /// An [`after`](stockade_core::Class::after) in a failure's class is a floor for the open time: the breaker
    /// does not call the service earlier than it asked for, nor at that very instant, but within the tenth
    /// after. More than a day counts as a day.
    ///
    /// It is cloned for every call, so keep it small.
    pub fn classify<D>(self, classify: D) -> BreakerLayer<D, B> {
        let Self { config, bypass, .. } = self;
        BreakerLayer { config, classify, bypass, lease: Arc::default() }
    }

    /// Lets the calls pass for which `bypass` says so, whatever the state of the breaker, and does not count them:
    /// a closure `Fn(&Req) -> bool`. Under [`backpressure`](Self::backpressure) such a call still waits in
    /// `poll_ready`, where nobody knows what the call will be. None by default.
    pub fn bypass<Req, D>(self, bypass: D) -> BreakerLayer<C, D>
    where
        D: Fn(&Req) -> bool,
    {
        let Self { config, classify, .. } = self;
        BreakerLayer { config, classify, bypass, lease: Arc::default() }
    }

    /// Waits in `poll_ready` while calls are refused, so that a `tower::balance` avoids this endpoint: while it is
    /// open or forced open, while half-open without a place for a probe, and for a turn on the ramp.
    ///
    /// Being ready reserves nothing, because a balancer keeps ready instances idle. If the breaker opens between
    /// `poll_ready` and `call`, the call is refused; an instance that is polled again waits again. A caller
    /// that must not wait for ever bounds `poll_ready` with a timeout. The service inside need not be `Clone`.
    pub const fn backpressure(self) -> BackpressureLayer<Self> {
        BackpressureLayer::new(self)
    }

    fn handle(&self) -> BreakerHandle {
        BreakerHandle(Arc::clone(self.lease.get_or_init(|| Arc::new(Lease::new(self.config)))))
    }

    #[track_caller]
    fn changed(self) -> Self {
        checked(self.config.check());
        Self { lease: Arc::default(), ..self }
    }
}

// === impl BreakerLayer: setters ===

stockade_core::setters! { BreakerLayer<C, B>:
    /// Which outcomes it looks at: by default [`Window::calls(100)`](Window::calls).
    window(window: Window) => window = window;

    /// The share of the calls in the window that have to fail to open it, from `0.000001` to `1.0`: by
    /// default half of them, `0.5`.
    ///
    /// # Panics
    ///
    /// If `rate` is outside that range, or not a number.
    failure_rate(rate: f64) => failure_rate = rate;

    /// Opens it as well when `rate` of the calls in the window took `after` or longer, whether they failed or
    /// not. A probe that is slow has failed. Off by default. It costs two reads of the clock per call.
    ///
    /// It times the service only: what a call waits for in a limit or a rate limit inside does not count.
    ///
    /// # Panics
    ///
    /// If `after` is zero or above ten years, or `rate` is not from `0.000001` to `1.0`.
    slow(after: Duration, rate: f64) => slow = Some(Slow { after, rate });

    /// Opens it as well when `n` calls have failed with no success in between, however few are in the window.
    /// Off by default.
    ///
    /// # Panics
    ///
    /// If `n` is 0.
    consecutive(n: u32) => consecutive = Some(n);

    /// How many calls have to be in the window before a rate means anything: by default 20. More than fit
    /// into the window means a full window.
    ///
    /// # Panics
    ///
    /// If `n` is 0.
    min_calls(n: u32) => min_calls = n;

    /// How long it is open: by default 5 s. Every time that it opens again without having been closed doubles that, up
    /// to [`max_open_for`](Self::max_open_for). A random part of up to a fifth is taken away each time, so that the
    /// callers of a service do not all come back at once.
    ///
    /// # Panics
    ///
    /// If `duration` is zero or above ten years.
    open_for(duration: Duration) => open_for = duration;

    /// The longest time that it is open at once: by default 60 s. After a long outage that is how long the service may
    /// be back before a call is let in. It is never below [`open_for`](Self::open_for), and a server that asks for a
    /// longer pause gets it.
    ///
    /// # Panics
    ///
    /// If `duration` is zero or above ten years.
    max_open_for(duration: Duration) => max_open_for = duration;

    /// How many probes a half-open breaker lets pass at once, and how many have to succeed: by default 3.
    ///
    /// # Panics
    ///
    /// If `n` is not from 1 to 1,000.
    probes(n: u32) => probes = n;

    /// After what time a probe is overdue: by default the time that it was open, and at least a second. It has failed
    /// then, whatever it says later, and its place goes to another call. The breaker opens again when as many
    /// probes are overdue as have succeeded, so one call that hangs does not keep a healthy service away.
    ///
    /// No timer runs for it: it is noticed when the next call comes, a probe ends or the state is read. Time in
    /// a queue of a layer inside counts here.
    ///
    /// # Panics
    ///
    /// If `duration` is zero or above ten years.
    probe_timeout(duration: Duration) => probe_timeout = Some(duration);

    /// After the probes have succeeded, lets a share of the calls pass that grows from a tenth to all of them
    /// over `duration`, evenly, and refuses the others, so that a service that has just recovered is not
    /// overrun. Off by default: it closes as soon as the probes have succeeded.
    ///
    /// It is half-open until the ramp is over. The calls count as those of a closed one, so it opens for the
    /// same reasons, but for twice as long as before.
    ///
    /// # Panics
    ///
    /// If `duration` is zero or above ten years.
    ramp(duration: Duration) => ramp = Some(duration);

    /// Stays closed whatever happens, but counts as ever: the handle shows what is in the window, to choose the
    /// settings by. It refuses only while it is [forced open](BreakerHandle::force_open) by hand.
    observe_only() => observe_only = true;

    /// Stays closed whatever happens, and counts nothing, until the handle
    /// [enables](BreakerHandle::set_enabled) it. It refuses only while it is
    /// [forced open](BreakerHandle::force_open) by hand.
    disabled() => enabled = false;

    /// The name of this breaker in refusals and events. None by default.
    ///
    /// # Panics
    ///
    /// If it is an owned name that is too [long](stockade_core::name::MAX_BYTES), or one too
    /// [many](stockade_core::name::MAX_NAMES).
    name(name: impl Into<Name>) => name = Some(checked(name.into().check("BreakerLayer::name")));
}

stockade_core::endings!(BreakerLayer<C, B> => BreakerHandle);
stockade_core::shown!(BreakerLayer<C, B>: config);

impl<S, C: Clone, B: Clone> Layer<S> for BreakerLayer<C, B> {
    type Service = Breaker<S, C, B>;

    fn layer(&self, inner: S) -> Self::Service {
        let (classify, bypass, lease) =
            (self.classify.clone(), self.bypass.clone(), self.handle().0);
        Breaker { inner, shared: lease.shared(), lease, classify, bypass, readied: false }
    }
}

impl<C: Clone, B: Clone> Fresh for BreakerLayer<C, B> {
    fn fresh(&self) -> Self {
        Self { lease: Arc::default(), ..self.clone() }
    }
}

impl Default for BreakerLayer {
    fn default() -> Self {
        Self::new()
    }
}
