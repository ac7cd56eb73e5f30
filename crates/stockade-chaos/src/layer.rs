//! The layer and its setters.

use std::sync::Arc;

use stockade_core::{Configured, Name, NoBypass, Only, config::checked};
use tower_layer::Layer;

use crate::{Chaos, ChaosHandle, Config, Latency, NoError, handle::Shared};

/// Makes some calls slow, fail, hang or panic. It is off until its [handle](Self::with_handle) turns it on.
///
/// Each setter takes a probability from 0 to 1, which holds for each call by itself. If several faults befall a
/// call, the first of this order counts: refused, failed, hanging, panicked, slow. The same seed gives the same
/// faults in the same order of calls.
///
/// | setter | default |
/// |---|---|
/// | [`latency`](Self::latency) [`error`](Self::error) [`reject`](Self::reject) [`hang`](Self::hang) [`panic`](Self::panic) | never |
/// | [`only`](Self::only), or [`bypass`](Self::bypass) | every request |
///
/// All clones of the layer, and the services they make, share one source of chance and one switch.
#[must_use = "a layer does nothing until a service is made with it"]
#[derive(Clone)]
pub struct ChaosLayer<F = NoError, B = NoBypass> {
    pub(crate) error: F,
    pub(crate) bypass: B,
    pub(crate) shared: Arc<Shared>,
}

stockade_core::shown!(ChaosLayer<F, B>: shared);

// === impl ChaosLayer ===

impl ChaosLayer {
    /// No faults yet. `seed` makes them repeatable.
    pub fn new(seed: u64) -> Self {
        Self::from_config(Config::default(), seed)
    }

    pub(crate) fn from_config(config: Config, seed: u64) -> Self {
        // There is no function that makes errors.
        let config = Config { error: 0.0, ..config };
        Self { error: NoError, bypass: NoBypass, shared: Arc::new(Shared::new(config, seed)) }
    }
}

impl<F, B> ChaosLayer<F, B> {
    /// Holds back the answer of a call, with this probability and for this long.
    ///
    /// # Panics
    ///
    /// If `probability` is not from 0 to 1, a length is above ten years, or the range is empty.
    #[track_caller]
    pub fn latency(self, probability: f64, length: impl Into<Latency>) -> Self {
        let length = Some(length.into());
        self.set(|config| (config.latency, config.length) = (probability, length))
    }

    /// Fails a call, with this probability and with what `error` makes. The call is not made.
    ///
    /// # Panics
    ///
    /// If `probability` is not from 0 to 1.
    #[track_caller]
    pub fn error<E, G>(self, probability: f64, error: G) -> ChaosLayer<G, B>
    where
        G: Fn() -> E,
    {
        let Self { bypass, shared, .. } = self.set(|config| config.error = probability);
        ChaosLayer { error, bypass, shared }
    }

    /// Refuses a call, with this probability, as a layer that sheds load does:
    /// [`Shed`](stockade_core::Reason::Shed). The call is not made.
    ///
    /// # Panics
    ///
    /// If `probability` is not from 0 to 1.
    #[track_caller]
    pub fn reject(self, probability: f64) -> Self {
        self.set(|config| config.reject = probability)
    }

    /// Lets a call hang for ever, with this probability. The call is not made.
    ///
    /// # Panics
    ///
    /// If `probability` is not from 0 to 1.
    #[track_caller]
    pub fn hang(self, probability: f64) -> Self {
        self.set(|config| config.hang = probability)
    }

    /// Lets the future of a call panic, with this probability. The call is not made.
    ///
    /// # Panics
    ///
    /// If `probability` is not from 0 to 1.
    #[track_caller]
    pub fn panic(self, probability: f64) -> Self {
        self.set(|config| config.panic = probability)
    }

    /// Only requests for which `only` says so. It is asked once a call, while chaos is on.
    pub fn only<Req, P>(self, only: P) -> ChaosLayer<F, Only<P>>
    where
        P: Fn(&Req) -> bool,
    {
        self.choose(Only(only))
    }

    /// All requests except those for which `passes_by` says so: the other way round than [`only`](Self::only), which it
    /// replaces.
    pub fn bypass<Req, P>(self, passes_by: P) -> ChaosLayer<F, P>
    where
        P: Fn(&Req) -> bool,
    {
        self.choose(passes_by)
    }

    /// A name for refusals and events.
    ///
    /// # Panics
    ///
    /// If the name is owned and too long, or there are too many: see [`Name`].
    #[track_caller]
    pub fn name(self, name: impl Into<Name>) -> Self {
        let name = checked(name.into().check("ChaosLayer::name"));
        self.set(|config| config.name = Some(name))
    }

    /// Ends the setters, and gives the handle that turns chaos on.
    pub fn with_handle(self) -> (Configured<Self>, ChaosHandle) {
        let handle = ChaosHandle(Arc::clone(&self.shared));
        (Configured::new(self), handle)
    }

    fn choose<P>(self, bypass: P) -> ChaosLayer<F, P> {
        let Self { error, shared, .. } = self.set(|_| ());
        ChaosLayer { error, bypass, shared }
    }

    /// A setter starts over, so that what was cloned before keeps its own.
    #[track_caller]
    fn set(self, set: impl FnOnce(&mut Config)) -> Self {
        let mut config = self.shared.config();
        set(&mut config);
        checked(config.check());
        Self { shared: Arc::new(Shared::new(config, self.shared.seed)), ..self }
    }
}

impl<S, F: Clone, B: Clone> Layer<S> for ChaosLayer<F, B> {
    type Service = Chaos<S, F, B>;

    fn layer(&self, inner: S) -> Self::Service {
        Chaos { inner, layer: self.clone() }
    }
}
