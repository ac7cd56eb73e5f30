//! The layer and its setters.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use stockade_core::{
    Configured, Name, NoBypass, Only,
    config::{allow, checked},
};
use tower_layer::Layer;

use crate::{Chaos, ChaosHandle, Config, Latency, NoError, config::PROBABILITIES, handle::Shared};

/// Makes some calls slow, fail, hang or panic. It is off until its [handle](Self::with_handle) turns it on.
///
/// Each setter takes a probability from 0 to 1, which holds for each call by itself. If several faults befall a
/// call, the first of this order counts: refused, failed, hanging, panicked, slow. The same seed gives the same
/// faults in the same order of calls.
///
/// | setter | default |
/// |---|---|
/// | [`latency`](Self::latency) [`error`](Self::error) [`reject`](Self::reject) [`hang`](Self::hang) [`panic`](Self::panic) | never |
/// | [`only`](Self::only) | every request |
///
/// All clones of the layer, and the services they make, share one source of chance and one switch.
#[derive(Clone)]
pub struct ChaosLayer<F = NoError, O = NoBypass> {
    seed: u64,
    config: Config,
    error: F,
    only: O,
    shared: Arc<OnceLock<Arc<Shared>>>,
}

// === impl ChaosLayer ===

impl ChaosLayer {
    /// No faults yet. `seed` makes them repeatable.
    pub fn new(seed: u64) -> Self {
        Self::from_config(Config::default(), seed)
    }

    pub(crate) fn from_config(config: Config, seed: u64) -> Self {
        Self { seed, config, error: NoError, only: NoBypass, shared: Arc::default() }
    }
}

impl<F, O> ChaosLayer<F, O> {
    /// Holds back the answer of a call, with this probability and for this long.
    ///
    /// # Panics
    ///
    /// If `probability` is not from 0 to 1, a length is above ten years, or the range is empty.
    #[must_use]
    #[track_caller]
    pub fn latency(self, probability: f64, length: impl Into<Latency>) -> Self {
        let latency = allow("ChaosLayer::latency", probability, PROBABILITIES);
        let length = Some(checked(length.into().check("ChaosLayer::latency")));
        self.set(|config| *config = Config { latency, length, ..*config })
    }

    /// Fails a call, with this probability and with what `error` makes. The call is not made.
    ///
    /// # Panics
    ///
    /// If `probability` is not from 0 to 1.
    #[must_use]
    #[track_caller]
    pub fn error<E, G>(self, probability: f64, error: G) -> ChaosLayer<G, O>
    where
        G: Fn() -> E,
    {
        let probability = allow("ChaosLayer::error", probability, PROBABILITIES);
        let Self { seed, config, only, .. } = self.set(|config| config.error = probability);
        ChaosLayer { seed, config, error, only, shared: Arc::default() }
    }

    /// Refuses a call, with this probability, as a layer that sheds load does:
    /// [`Shed`](stockade_core::Reason::Shed). The call is not made.
    ///
    /// # Panics
    ///
    /// If `probability` is not from 0 to 1.
    #[must_use]
    #[track_caller]
    pub fn reject(self, probability: f64) -> Self {
        let probability = allow("ChaosLayer::reject", probability, PROBABILITIES);
        self.set(|config| config.reject = probability)
    }

    /// Lets a call hang for ever, with this probability. The call is not made.
    ///
    /// # Panics
    ///
    /// If `probability` is not from 0 to 1.
    #[must_use]
    #[track_caller]
    pub fn hang(self, probability: f64) -> Self {
        let probability = allow("ChaosLayer::hang", probability, PROBABILITIES);
        self.set(|config| config.hang = probability)
    }

    /// Lets the future of a call panic, with this probability. The call is not made.
    ///
    /// # Panics
    ///
    /// If `probability` is not from 0 to 1.
    #[must_use]
    #[track_caller]
    pub fn panic(self, probability: f64) -> Self {
        let probability = allow("ChaosLayer::panic", probability, PROBABILITIES);
        self.set(|config| config.panic = probability)
    }

    /// Only requests for which `only` says so. It is asked once a call, while chaos is on.
    #[must_use]
    pub fn only<Req, P>(self, only: P) -> ChaosLayer<F, Only<P>>
    where
        P: Fn(&Req) -> bool,
    {
        let Self { seed, config, error, .. } = self;
        ChaosLayer { seed, config, error, only: Only(only), shared: Arc::default() }
    }

    /// A name for refusals and events.
    ///
    /// # Panics
    ///
    /// If the name is owned and too long, or there are too many: see [`Name`].
    #[must_use]
    #[track_caller]
    pub fn name(self, name: impl Into<Name>) -> Self {
        let name = checked(name.into().check("ChaosLayer::name"));
        self.set(|config| config.name = Some(name))
    }

    /// Ends the setters, and gives the handle that turns chaos on.
    pub fn with_handle(self) -> (Configured<Self>, ChaosHandle) {
        let handle = ChaosHandle::new(self.shared());
        (Configured::new(self), handle)
    }

    /// A setter starts over, so that what was cloned before keeps its own.
    fn set(mut self, set: impl FnOnce(&mut Config)) -> Self {
        set(&mut self.config);
        self.shared = Arc::default();
        self
    }

    fn shared(&self) -> Arc<Shared> {
        let new = || Arc::new(Shared::new(self.config, self.seed));
        Arc::clone(self.shared.get_or_init(new))
    }
}

impl<S, F: Clone, O: Clone> Layer<S> for ChaosLayer<F, O> {
    type Service = Chaos<S, F, O>;

    fn layer(&self, inner: S) -> Self::Service {
        Chaos::new(inner, self.error.clone(), self.only.clone(), self.shared())
    }
}

/// Without the closures, which cannot be shown.
impl<F, O> fmt::Debug for ChaosLayer<F, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChaosLayer")
            .field("seed", &self.seed)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
