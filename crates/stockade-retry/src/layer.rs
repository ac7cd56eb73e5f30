//! The layer and its setters.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use stockade_core::{Budget, Fresh, Name, Reusable, config::checked};
use tower_layer::Layer;

use crate::{
    Backoff, Config, Policy, Retry, RetryHandle,
    account::{Account, Member},
    shared::Shared,
};

/// Repeats calls that fail.
///
/// It repeats what the *service* did. What a layer inside refused (an open breaker, a full queue, an empty
/// bucket, a closed pool) ends the call at once, unless [`retry_refusals`](Self::retry_refusals) says to wait. It
/// does not limit the time of an attempt, and it refuses nothing itself. [`Retry`] tells how a call proceeds.
///
/// All clones of a layer, the services they make and the clones of those share one budget and one set of counts.
/// A setter starts a new layer, which shares nothing with the one before it except a [`budget`](Self::budget)
/// that was set.
///
/// | setter | default |
/// |---|---|
/// | [`backoff`](Self::backoff) | exponential, 50 ms doubling to 10 s, full jitter |
/// | [`budget`](Self::budget) | 20 % of the calls, and 10 a second |
/// | [`classify`](Self::classify) | [`DefaultClassify`](stockade_core::DefaultClassify): every error is transient |
/// | [`idempotent`](Self::idempotent) | every request may be repeated |
/// | [`clone_request`](Self::clone_request) | the request's own `Clone` |
/// | [`prepare`](Self::prepare) | every attempt sends the same request |
/// | [`max_elapsed`](Self::max_elapsed) | none |
/// | [`retry_refusals`](Self::retry_refusals) | a refusal ends the call |
/// | [`bypass`](Self::bypass) | no request passes the layer by |
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
///         Ok(429) => Class::Overload { after: Some(Duration::from_secs(1)), processed: false },
///         Ok(500..) | Err(_) => Class::TRANSIENT,
///         Ok(_) => Class::Success,
///     })
///     .idempotent(|path: &String| !path.starts_with("/pay"));
/// let stack = ServiceBuilder::new().layer(retry);
/// ```
#[derive(Clone)]
#[must_use = "a setter returns the layer that it has changed"]
pub struct RetryLayer<P = Policy> {
    config: Config,
    policy: P,
    // Made when the first service or handle needs it. A setter starts a new one.
    shared: Arc<OnceLock<Arc<Shared>>>,
}

// === impl RetryLayer ===

impl RetryLayer {
    /// At most `max_attempts` attempts of one call, the first one included. With 1 nothing is repeated.
    ///
    /// # Panics
    ///
    /// If `max_attempts` is zero. [`Config::try_build`] returns an error instead, here and for all setters.
    #[track_caller]
    pub fn max_attempts(max_attempts: u32) -> Self {
        Self::with_config(Config::new(max_attempts), Policy::default()).changed()
    }
}

impl<P> RetryLayer<P> {
    pub(crate) fn with_config(config: Config, policy: P) -> Self {
        Self { config, policy, shared: Arc::default() }
    }

    /// Takes all functions from `other`: how it judges results, which requests it repeats, and the rest. The values stay
    /// those of this layer. For one whose values come from a file, and a retry layer that is ready-made for a client.
    ///
    /// ```
    /// use stockade_retry::{Config, RetryLayer};
    ///
    /// let of_client = RetryLayer::max_attempts(1).idempotent(|path: &String| path != "/pay");
    /// let retry = Config::new(4).try_build()?.with_functions_of(of_client);
    /// # let _ = retry;
    /// # Ok::<_, stockade_core::ConfigError>(())
    /// ```
    pub fn with_functions_of<Q>(self, other: RetryLayer<Q>) -> RetryLayer<Q> {
        RetryLayer::with_config(self.config, other.policy)
    }

    fn handle(&self) -> RetryHandle {
        let shared = || Arc::new(Shared::new(self.config.clone()));
        RetryHandle(Arc::clone(self.shared.get_or_init(shared)))
    }

    #[track_caller]
    fn changed(self) -> Self {
        checked(self.config.check("RetryLayer"));
        Self::with_config(self.config, self.policy)
    }
}

stockade_core::setters! { RetryLayer<P>:
    /// How long to wait before a further attempt: [`Backoff::exponential`], [`constant`](Backoff::constant),
    /// [`none`](Backoff::none) or [`custom`](Backoff::custom). If a server says when to come back, the longer wait is used.
    backoff(backoff: Backoff) => backoff = backoff;

    /// How many further attempts there may be, as a share of the calls. A clone of it in another layer shares
    /// the tokens.
    budget(budget: Budget) => budget = Some(budget);

    /// No attempt starts when this time has passed since the first one started, and no call waits for that.
    ///
    /// It ends neither an attempt nor a wait for the service to become ready: a timeout outside does. Under such
    /// a timeout, leave the last attempt as much time as an attempt may take. With this setting the clock is read
    /// on each call.
    ///
    /// # Panics
    ///
    /// If `max_elapsed` is zero or above ten years.
    max_elapsed(max_elapsed: Duration) => max_elapsed = Some(max_elapsed);

    /// Lets a call that a layer inside refuses wait and try again. All such waits of one call together take at
    /// most `total`; zero is the same as not to wait.
    ///
    /// A call waits for as long as the layer told it with `retry_after`, and up to a tenth longer, so that not all
    /// callers come back in one instant. Where no time was told it waits by the [`backoff`](Self::backoff). It
    /// never waits for what [cannot pass later](stockade_core::Rejected::may_pass_later): a call that is too
    /// costly, a closed pool, a breaker that is held open by hand, an expired deadline. These waits take no attempt
    /// and nothing from the budget.
    ///
    /// # Panics
    ///
    /// If `total` is above ten years.
    retry_refusals(total: Duration) => retry_refusals = Some(total);

    /// The name in events and metrics.
    ///
    /// # Panics
    ///
    /// If it is owned and longer than 128 bytes, or there are too many owned names: see [`Name`].
    name(name: impl Into<Name>) => name = Some(name.into());

    /// Makes the jitter reproducible: the n-th call that waits, counted over all who share the layer, draws the
    /// same waits in each run.
    seed(seed: u64) => seed = Some(seed);
}

stockade_core::endings!(RetryLayer<P> => RetryHandle);
stockade_core::shown!(RetryLayer<P>: config);

impl<C, I, K, P, B> RetryLayer<Policy<C, I, K, P, B>> {
    /// Judges results: a [`Classify`](stockade_core::Classify), or a closure
    /// `|result: Result<&Response, &Error>| -> Class`.
    ///
    /// It is asked once for each result of the service, and not about refusals by layers inside.
    pub fn classify<D>(self, classify: D) -> RetryLayer<Policy<D, I, K, P, B>> {
        let Policy { idempotent, clone_request, prepare, bypass, .. } = self.policy;
        let policy = Policy { classify, idempotent, clone_request, prepare, bypass };
        RetryLayer::with_config(self.config, policy)
    }

    /// Which requests may be repeated after an attempt that may have reached the service:
    /// [`Transient`](stockade_core::Class::Transient), or a processed
    /// [`Overload`](stockade_core::Class::Overload). What had [no effect](stockade_core::Class::had_no_effect)
    /// is repeated in any case.
    ///
    /// It is asked after a failure, and is shown the copy of the request.
    pub fn idempotent<Req, F>(self, idempotent: F) -> RetryLayer<Policy<C, F, K, P, B>>
    where
        F: Fn(&Req) -> bool,
    {
        let Policy { classify, clone_request, prepare, bypass, .. } = self.policy;
        let policy = Policy { classify, idempotent, clone_request, prepare, bypass };
        RetryLayer::with_config(self.config, policy)
    }

    /// How a request is copied, instead of by its `Clone`. `None`: this request cannot be repeated.
    ///
    /// It is asked before each attempt that another one may follow.
    pub fn clone_request<Req, F>(self, clone_request: F) -> RetryLayer<Policy<C, I, F, P, B>>
    where
        F: Fn(&Req) -> Option<Req>,
    {
        let Policy { classify, idempotent, prepare, bypass, .. } = self.policy;
        let policy = Policy { classify, idempotent, clone_request, prepare, bypass };
        RetryLayer::with_config(self.config, policy)
    }

    /// Changes a request before each attempt: a header with its number, a fresh token after a 401.
    ///
    /// `prepare` gets the request, the number of the attempt (from 1), and the result of the attempt before it.
    /// It is called in `call` for the first attempt, and as soon as a further one is decided on, before the wait
    /// for it. What it changes stays changed for the attempts after that. An attempt that a layer inside refused
    /// gives its number to the next one.
    ///
    /// ```
    /// use stockade_core::Error;
    /// use stockade_retry::RetryLayer;
    ///
    /// #[derive(Clone)]
    /// struct Request { attempt: u32 }
    /// type Answer = Result<String, Error<std::io::Error>>;
    ///
    /// let retry = RetryLayer::max_attempts(3)
    ///     .prepare(|request: &mut Request, attempt, _last: Option<&Answer>| request.attempt = attempt);
    /// ```
    pub fn prepare<Req, T, E, F>(self, prepare: F) -> RetryLayer<Policy<C, I, K, F, B>>
    where
        F: Fn(&mut Req, u32, Option<&Result<T, E>>),
    {
        let Policy { classify, idempotent, clone_request, bypass, .. } = self.policy;
        let policy = Policy { classify, idempotent, clone_request, prepare, bypass };
        RetryLayer::with_config(self.config, policy)
    }

    /// Requests for which `bypass` returns true go straight to the service inside: they are neither copied nor
    /// repeated, and pay nothing into the budget.
    pub fn bypass<Req, F>(self, bypass: F) -> RetryLayer<Policy<C, I, K, P, F>>
    where
        F: Fn(&Req) -> bool,
    {
        let Policy { classify, idempotent, clone_request, prepare, .. } = self.policy;
        let policy = Policy { classify, idempotent, clone_request, prepare, bypass };
        RetryLayer::with_config(self.config, policy)
    }
}

impl<S: Reusable, P: Clone> Layer<S> for RetryLayer<P> {
    type Service = Retry<S, P>;

    fn layer(&self, inner: S) -> Retry<S, P> {
        let account = Account::new(self.handle().0);
        let member = Member::new(inner.clone(), Arc::new(self.policy.clone()), account);
        Retry { inner, member }
    }
}

impl<P: Clone> Fresh for RetryLayer<P> {
    fn fresh(&self) -> Self {
        let mut config = self.config.clone();
        config.budget = config.budget.as_ref().map(Budget::fresh);
        Self::with_config(config, self.policy.clone())
    }
}
