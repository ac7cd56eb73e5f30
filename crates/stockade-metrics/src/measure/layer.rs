use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use stockade_core::{Configured, DefaultClassify, Fresh, NoBypass, PerService};
use tower_layer::Layer;

use super::{Measure, MeasureHandle, shard::Shared};

/// Counts calls and times them: what came of them, why layers refused them, how many attempts they took, how long
/// they took, and how many are in flight.
///
/// It changes nothing of a call. Where it stands decides what it sees: outermost, what callers see, with the attempts
/// of a retry inside; innermost, each attempt as a call of its own. A call counts when it ends, by its class:
///
/// | how the call ended | counts as |
/// |---|---|
/// | the classifier says what the result means | that [class](stockade_core::Class) |
/// | a layer inside refused it | refused |
/// | it was dropped before there was an answer, or there was a panic | dropped, and its time does not count |
///
/// Why layers inside refused calls, or ended them, as a timeout does, is counted by
/// [reason](stockade_core::Reason) as well.
///
/// Each thread counts in a place of its own: a measured call allocates nothing, and threads do not wait for each other.
/// That takes about 5 KiB a processor for each layer, for up to 64 processors.
///
/// All clones of a layer, all services it makes and their clones count together, unless it is
/// [`per_service`](Self::per_service). Setters may come in any order.
///
/// # Example
///
/// ```
/// use stockade_core::Error;
/// use stockade_metrics::MeasureLayer;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let (measure, handle) = MeasureLayer::new().with_handle();
/// let svc = ServiceBuilder::new()
///     .layer(measure)
///     .map_err(Error::Service)
///     .service_fn(async |n: u32| u8::try_from(n));
/// svc.clone().oneshot(7).await.unwrap();
/// svc.oneshot(700).await.unwrap_err();
///
/// let calls = handle.calls();
/// assert_eq!((calls.succeeded, calls.transient, calls.latency.count), (1, 1, 2));
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a setter returns the layer that it has changed"]
pub struct MeasureLayer<C = DefaultClassify, B = NoBypass> {
    classify: C,
    bypass: B,
    /// Made when it is first needed. A setter puts another one here, so that it changes no clone.
    shared: Arc<OnceLock<Arc<Shared>>>,
}

// === impl MeasureLayer ===

impl MeasureLayer {
    /// Judges results as [`DefaultClassify`] does.
    pub fn new() -> Self {
        Self { classify: DefaultClassify, bypass: NoBypass, shared: Arc::default() }
    }
}

impl<C, B> MeasureLayer<C, B> {
    /// How to judge results: a [`Classify`](stockade_core::Classify), or a closure `Fn(Result<&T, &E>) -> Class`; best
    /// the same as that of retry and breaker. It is not asked about refusals by layers inside, and it runs under no
    /// lock.
    ///
    /// It is cloned for every call, so keep it small.
    pub fn classify<D>(self, classify: D) -> MeasureLayer<D, B> {
        MeasureLayer { classify, bypass: self.bypass, shared: Arc::default() }
    }

    /// Does not measure the calls for which `passes_by` says so: a closure `Fn(&Req) -> bool`. For health checks, say.
    pub fn bypass<Req, F>(self, passes_by: F) -> MeasureLayer<C, F>
    where
        F: Fn(&Req) -> bool,
    {
        MeasureLayer { classify: self.classify, bypass: passes_by, shared: Arc::default() }
    }

    /// Gives each service that this layer makes numbers of its own, whose handle is [`Measure::handle`].
    pub fn per_service(self) -> PerService<Self> {
        PerService::new(self)
    }

    /// Ends the setters, and returns the handle of what the layer, its clones and their services measure.
    pub fn with_handle(self) -> (Configured<Self>, MeasureHandle) {
        let handle = MeasureHandle::new(self.shared());
        (Configured::new(self), handle)
    }

    fn shared(&self) -> Arc<Shared> {
        Arc::clone(self.shared.get_or_init(|| Arc::new(Shared::new())))
    }
}

impl Default for MeasureLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<C: Clone, B: Clone> Fresh for MeasureLayer<C, B> {
    fn fresh(&self) -> Self {
        Self { shared: Arc::default(), ..self.clone() }
    }
}

impl<S, C: Clone, B: Clone> Layer<S> for MeasureLayer<C, B> {
    type Service = Measure<S, C, B>;

    fn layer(&self, inner: S) -> Self::Service {
        Measure::new(inner, self.shared(), self.classify.clone(), self.bypass.clone())
    }
}

/// Without the closures, which cannot be shown.
impl<C, B> fmt::Debug for MeasureLayer<C, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeasureLayer").finish_non_exhaustive()
    }
}
