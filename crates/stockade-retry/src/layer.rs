//! The layer, which is the configuration.

use std::{fmt, sync::Arc, time::Duration};

use stockade_core::{
    DefaultClassify,
    config::{MAX_DURATION, MIN_DURATION, allow},
    deadline,
    internal::Moment,
};
use tokio::time::Instant;
use tower_layer::Layer;

use crate::{
    Always, Backoff, Budget, ByClone, CloneRequest, Retry, RetryHandle, handle::State,
    service::Application,
};

/// Repeats calls that fail.
///
/// It does not repeat what [succeeded](stockade_core::Class::Success) or would fail
/// [again](stockade_core::Class::Permanent), it does not limit the time of an attempt, and it never
/// refuses a call.
///
/// The layer, its clones, every service they make and every clone of those share one budget and one set
/// of counts, unless the layer is [`per_service`](Self::per_service). How a call proceeds is told at [`Retry`].
///
/// | setter | default |
/// |---|---|
/// | [`backoff`](Self::backoff) | exponential, 50 ms doubling to 10 s, full jitter |
/// | [`budget`](Self::budget) | 20 % of the calls, and 10 a second |
/// | [`classify`](Self::classify) | [`DefaultClassify`] |
/// | [`idempotent`](Self::idempotent) | every request may be repeated |
/// | [`clone_request`](Self::clone_request) | the request's own `Clone` |
/// | [`max_elapsed`](Self::max_elapsed) | none |
/// | [`seed`](Self::seed) | chance |
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use stockade_core::{Class, Error};
/// use stockade_retry::RetryLayer;
/// use tower::ServiceBuilder;
///
/// let retry = RetryLayer::max_attempts(4)
///     .classify(|result: Result<&u16, &Error<std::io::Error>>| match result {
///         Ok(429) => Class::Overload { after: Some(Duration::from_secs(1)), processed: true },
///         Ok(500..) | Err(_) => Class::Transient { after: None },
///         Ok(_) => Class::Success,
///     })
///     .idempotent(|path: &String| !path.starts_with("/pay"));
/// let stack = ServiceBuilder::new().layer(retry);
/// ```
#[derive(Clone)]
pub struct RetryLayer<C = DefaultClassify, I = Always, K = ByClone> {
    policy: Policy<C, I, K>,
    state: Arc<State>,
    per_service: bool,
}

/// What was configured.
#[derive(Clone)]
pub(crate) struct Policy<C, I, K> {
    pub(crate) max_attempts: u32,
    pub(crate) max_elapsed: Option<Duration>,
    pub(crate) backoff: Backoff,
    pub(crate) budget: Budget,
    pub(crate) seed: Option<u64>,
    pub(crate) name: Option<&'static str>,
    pub(crate) classify: C,
    pub(crate) idempotent: I,
    pub(crate) clone_request: K,
}

// === impl RetryLayer ===

impl RetryLayer {
    /// At most `max_attempts` attempts a call, the first one included; with 1 nothing is repeated.
    ///
    /// # Panics
    ///
    /// If `max_attempts` is zero.
    #[track_caller]
    pub fn max_attempts(max_attempts: u32) -> Self {
        let policy = Policy {
            max_attempts: allow("RetryLayer::max_attempts", max_attempts, 1..=u32::MAX),
            max_elapsed: None,
            backoff: Backoff::default(),
            budget: Budget::default(),
            seed: None,
            name: None,
            classify: DefaultClassify,
            idempotent: Always,
            clone_request: ByClone,
        };
        Self { policy, state: Arc::new(State::new()), per_service: false }
    }
}

impl<C, I, K> RetryLayer<C, I, K> {
    /// How long to wait before a further attempt. A server's hint is kept if it is longer.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.policy.backoff = backoff;
        self
    }

    /// How many further attempts there may be, as a share of the calls.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.policy.budget = budget;
        self
    }

    /// Judges results: a [`Classify`](stockade_core::Classify), or a closure
    /// `|result: Result<&Response, &Error>| -> Class`.
    ///
    /// It is asked once an attempt, on each call.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> RetryLayer<D, I, K> {
        self.with(|p| Policy {
            max_attempts: p.max_attempts,
            max_elapsed: p.max_elapsed,
            backoff: p.backoff,
            budget: p.budget,
            seed: p.seed,
            name: p.name,
            classify,
            idempotent: p.idempotent,
            clone_request: p.clone_request,
        })
    }

    /// Which requests may be repeated although an attempt may have had an effect, that is after
    /// [`Transient`](stockade_core::Class::Transient) and [`Overload`](stockade_core::Class::Overload).
    /// What never reached the service is repeated in any case.
    ///
    /// It is asked only when an attempt has failed, and is shown the copy of the request.
    #[must_use]
    pub fn idempotent<Req, F>(self, idempotent: F) -> RetryLayer<C, F, K>
    where
        F: Fn(&Req) -> bool,
    {
        self.with(|p| Policy {
            max_attempts: p.max_attempts,
            max_elapsed: p.max_elapsed,
            backoff: p.backoff,
            budget: p.budget,
            seed: p.seed,
            name: p.name,
            classify: p.classify,
            idempotent,
            clone_request: p.clone_request,
        })
    }

    /// How a request is copied, instead of by its `Clone`; `None`: this request cannot be repeated.
    ///
    /// It is asked before each attempt but the last one.
    #[must_use]
    pub fn clone_request<Req, F>(self, clone_request: F) -> RetryLayer<C, I, F>
    where
        F: Fn(&Req) -> Option<Req>,
    {
        self.with(|p| Policy {
            max_attempts: p.max_attempts,
            max_elapsed: p.max_elapsed,
            backoff: p.backoff,
            budget: p.budget,
            seed: p.seed,
            name: p.name,
            classify: p.classify,
            idempotent: p.idempotent,
            clone_request,
        })
    }

    /// No attempt begins later than this after the first one; what would is not waited for.
    ///
    /// It does not end an attempt, nor a wait for the service to become ready: a timeout outside does. Under such a
    /// one, what is left of it for a last attempt is best what an attempt may take: a probe of a breaker inside that
    /// begins with no time left counts as a failure of the service. With it, the clock is read on each call.
    ///
    /// # Panics
    ///
    /// If `max_elapsed` is zero or above ten years.
    #[must_use]
    #[track_caller]
    pub fn max_elapsed(mut self, max_elapsed: Duration) -> Self {
        let allowed = MIN_DURATION..=MAX_DURATION;
        self.policy.max_elapsed = Some(allow("RetryLayer::max_elapsed", max_elapsed, allowed));
        self
    }

    /// A name for this instance, for events and handles.
    #[must_use]
    pub fn name(mut self, name: &'static str) -> Self {
        self.policy.name = Some(name);
        self
    }

    /// Makes the jitter reproducible: the n-th call that fails, counted over all who share the layer,
    /// draws the same waits in each run.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.policy.seed = Some(seed);
        self
    }

    /// Gives each application of the layer a budget and counts of its own, to be seen through
    /// [`Retry::handle`]; the clones of one service still share theirs.
    #[must_use]
    pub fn per_service(mut self) -> Self {
        self.per_service = true;
        self
    }

    /// Shows what was repeated and given up by all who share the layer. Of an
    /// [per-service](Self::per_service) layer it shows nothing.
    pub fn handle(&self) -> RetryHandle {
        RetryHandle::new(Arc::clone(&self.state), self.policy.name)
    }

    fn with<D, J, L>(
        self,
        policy: impl FnOnce(Policy<C, I, K>) -> Policy<D, J, L>,
    ) -> RetryLayer<D, J, L> {
        RetryLayer { policy: policy(self.policy), state: self.state, per_service: self.per_service }
    }
}

impl<S, C, I, K> Layer<S> for RetryLayer<C, I, K>
where
    S: Clone,
    C: Clone,
    I: Clone,
    K: Clone,
{
    type Service = Retry<S, C, I, K>;

    fn layer(&self, inner: S) -> Self::Service {
        let state = if self.per_service { Arc::new(State::new()) } else { Arc::clone(&self.state) };
        Retry::new(inner.clone(), Application::new(inner, self.policy.clone()), state)
    }
}

impl<C, I, K> fmt::Debug for RetryLayer<C, I, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryLayer")
            .field("policy", &self.policy)
            .field("per_service", &self.per_service)
            .finish_non_exhaustive()
    }
}

// === impl Policy ===

impl<C, I, K> Policy<C, I, K> {
    /// The copy of `request` that the attempt leaves for the one after it; the last one leaves none.
    #[inline]
    pub(crate) fn copy<Req>(&self, attempt: u32, request: &Req) -> Option<Req>
    where
        K: CloneRequest<Req>,
    {
        (attempt < self.max_attempts).then(|| self.clone_request.clone_request(request)).flatten()
    }

    /// When it is too late to begin another attempt of a call that begins now.
    #[inline]
    pub(crate) fn until(&self) -> Moment {
        self.max_elapsed.map_or(Moment::NONE, after)
    }
}

/// Without the closures, which cannot be shown.
impl<C, I, K> fmt::Debug for Policy<C, I, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("max_attempts", &self.max_attempts)
            .field("max_elapsed", &self.max_elapsed)
            .field("backoff", &self.backoff)
            .field("budget", &self.budget)
            .field("seed", &self.seed)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Apart, because most calls have no use for it.
#[cold]
fn after(limit: Duration) -> Moment {
    Moment::of(deadline::saturating_add(Instant::now(), limit))
}
