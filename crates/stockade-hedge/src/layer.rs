//! The layer and its setters.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use stockade_core::{
    Budget, Configured, DefaultClassify, Fresh, Name, NoBypass, PerService, config::checked,
};
use tower_layer::Layer;

use crate::{ByClone, Config, Hedge, HedgeHandle, Idempotent, Rule, shared::Shared};

/// Makes another attempt when a call takes long, and takes the first good answer.
///
/// | setter | default |
/// |---|---|
/// | [`max`](Self::max) | 1 more attempt |
/// | [`budget`](Self::budget) | 5 % of the calls, and one a second |
/// | [`classify`](Self::classify) | [`DefaultClassify`] |
/// | [`idempotent`](Self::idempotent), [`clone_request`](Self::clone_request) | every request may be sent twice, and is cloned |
/// | [`bypass`](Self::bypass) | no call passes by |
///
/// All clones of the layer, the services they make and their clones share one budget, one window of latencies
/// and one set of counts, unless it is [`per_service`](Self::per_service).
///
/// Put it right above what is slow now and then: inside of retry and outside of the breaker, so that each attempt
/// has its own place in the limits.
#[must_use = "a layer does nothing until a service is made with it"]
#[derive(Clone)]
pub struct HedgeLayer<C = DefaultClassify, K = ByClone, B = NoBypass> {
    config: Config,
    policy: Policy<C, K, B>,
    // Made when the first service or handle needs it. A setter starts a new one.
    shared: Arc<OnceLock<Arc<Shared>>>,
}

stockade_core::shown!(HedgeLayer<C, K, B>: config);

/// What the user decides for each call: how it is judged, how its request is copied, and whether it passes by.
#[derive(Clone)]
pub(crate) struct Policy<C, K, B> {
    pub(crate) classify: C,
    pub(crate) copies: K,
    pub(crate) bypass: B,
}

// === impl HedgeLayer ===

impl HedgeLayer {
    /// Another attempt is made once a call has taken `delay`.
    ///
    /// # Panics
    ///
    /// If `delay` is longer than ten years.
    #[track_caller]
    pub fn after(delay: Duration) -> Self {
        Self::from_config(Config::new(Rule::After(delay))).set(|_| ())
    }

    /// Another attempt is made once a call has taken longer than this share of the calls of the last minute:
    /// with 0.95, longer than 95 of 100. Calls that failed or were refused do not count.
    ///
    /// Nothing is hedged until 100 calls were seen. The percentile is worked out anew when a sixteenth more calls were
    /// seen, and at the latest after half a minute in which there were calls. It reads the clock twice a call.
    ///
    /// # Panics
    ///
    /// If `percentile` is not from 0.5 to 0.9999.
    #[track_caller]
    pub fn percentile(percentile: f64) -> Self {
        Self::from_config(Config::new(Rule::Percentile(percentile))).set(|_| ())
    }

    pub(crate) fn from_config(config: Config) -> Self {
        let policy = Policy { classify: DefaultClassify, copies: ByClone, bypass: NoBypass };
        Self::with_policy(config, policy)
    }
}

impl<C, K, B> HedgeLayer<C, K, B> {
    fn with_policy(config: Config, policy: Policy<C, K, B>) -> Self {
        Self { config, policy, shared: Arc::default() }
    }

    /// At most `n` further attempts for one call (default 1), each after a further delay.
    ///
    /// # Panics
    ///
    /// If `n` is not from 1 to 10.
    #[track_caller]
    pub fn max(self, n: u32) -> Self {
        self.set(|config| config.max = n)
    }

    /// How many further attempts there may be, as a share of the calls. Give a clone of the budget of retry to
    /// bound both together: a call pays once, in the outer one of the two. Behind a pool or another task between the two it
    /// pays in both.
    pub fn budget(self, budget: Budget) -> Self {
        self.set(|config| config.budget = Some(budget))
    }

    /// Judges results: a failure does not win while another attempt is on its way, and a server that has too
    /// much to do gets no further attempts, of any call, for as long as it says, or for a second.
    pub fn classify<D>(self, classify: D) -> HedgeLayer<D, K, B> {
        let Policy { copies, bypass, .. } = self.policy;
        HedgeLayer::with_policy(self.config, Policy { classify, copies, bypass })
    }

    /// Only requests for which `idempotent` says so are sent twice. They are cloned for it.
    pub fn idempotent<Req, F: Fn(&Req) -> bool>(
        self,
        idempotent: F,
    ) -> HedgeLayer<C, Idempotent<F>, B> {
        self.copies(Idempotent(idempotent))
    }

    /// How a request is copied, in place of its `Clone`; `None`: it may not be sent twice.
    pub fn clone_request<Req, F>(self, clone_request: F) -> HedgeLayer<C, F, B>
    where
        F: Fn(&Req) -> Option<Req>,
    {
        self.copies(clone_request)
    }

    /// Makes one attempt only of the calls for which `passes_by` says so, as if the layer were not there: they copy
    /// no request, count nowhere and pay nothing into the budget. For streams, long polls and the like.
    pub fn bypass<Req, F>(self, passes_by: F) -> HedgeLayer<C, K, F>
    where
        F: Fn(&Req) -> bool,
    {
        let Policy { classify, copies, .. } = self.policy;
        HedgeLayer::with_policy(self.config, Policy { classify, copies, bypass: passes_by })
    }

    /// A name for events.
    ///
    /// # Panics
    ///
    /// If the name is owned and too long, or there are too many: see [`Name`].
    #[track_caller]
    pub fn name(self, name: impl Into<Name>) -> Self {
        let name = name.into();
        self.set(|config| config.name = Some(name))
    }

    /// Gives each service that the layer makes a budget, a window and counts of its own. Ends the setters.
    pub fn per_service(self) -> PerService<Self> {
        PerService::new(self)
    }

    /// Ends the setters, and gives a handle to what all services of the layer share.
    pub fn with_handle(self) -> (Configured<Self>, HedgeHandle) {
        let handle = HedgeHandle(self.shared());
        (Configured::new(self), handle)
    }

    fn copies<L>(self, copies: L) -> HedgeLayer<C, L, B> {
        let Policy { classify, bypass, .. } = self.policy;
        HedgeLayer::with_policy(self.config, Policy { classify, copies, bypass })
    }

    #[track_caller]
    fn set(mut self, set: impl FnOnce(&mut Config)) -> Self {
        set(&mut self.config);
        checked(self.config.check("HedgeLayer"));
        Self::with_policy(self.config, self.policy)
    }

    fn shared(&self) -> Arc<Shared> {
        Arc::clone(self.shared.get_or_init(|| Arc::new(Shared::new(self.config.clone()))))
    }
}

impl<C: Clone, K: Clone, B: Clone> Fresh for HedgeLayer<C, K, B> {
    fn fresh(&self) -> Self {
        let budget = self.config.budget.as_ref().map(Budget::fresh);
        Self::with_policy(Config { budget, ..self.config.clone() }, self.policy.clone())
    }
}

impl<S: Clone, C: Clone, K: Clone, B: Clone> Layer<S> for HedgeLayer<C, K, B> {
    type Service = Hedge<S, C, K, B>;

    fn layer(&self, inner: S) -> Self::Service {
        Hedge::new(inner, self.policy.clone(), self.shared())
    }
}
