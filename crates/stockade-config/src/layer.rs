use std::sync::Arc;

use stockade_breaker::BreakerLayer;
use stockade_core::{Configured, DefaultClassify, NoBypass};
use stockade_limit::{Fixed, LimitLayer, Plain};
use stockade_rate::{Policy as RatePolicy, RateHandle, RateLayer, Single};
use stockade_retry::{Policy, RetryLayer};
use stockade_timeout::TimeoutLayer;
use tower::util::{Either, option_layer};
use tower_layer::{Identity, Layer};

use crate::{StackConfig, StackHandle, StackService, handle::Shared, kept::KeptLimit};

/// Takes what no file can say: how results are judged, and which requests may be repeated.
///
/// Made by [`StackConfig::try_build`].
///
/// # Example
///
/// ```
/// use stockade_config::{StackConfig, toml};
/// use stockade_core::{Class, Error};
///
/// type Failure = Error<std::io::Error>;
///
/// fn judge(result: Result<&u16, &Failure>) -> Class {
///     match result {
///         Ok(500..) | Err(_) => Class::TRANSIENT,
///         Ok(_) => Class::Success,
///     }
/// }
///
/// let config: StackConfig = toml("[retry]\nmax_attempts = 3\n[breaker]\nprobes = 2")?;
/// let builder = config.try_build()?.classify(judge);
/// let (layer, handle) = builder
///     .retry(|retry| retry.idempotent(|path: &String| !path.starts_with("/pay")))
///     .with_handle();
/// assert_eq!(handle.retry.unwrap().config().max_attempts, 3);
/// # drop(layer);
/// # Ok::<_, stockade_config::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "it is a layer only by `with_handle`"]
pub struct StackBuilder<P = Policy, C = DefaultClassify, B = NoBypass, R = Single, X = Plain> {
    pub(crate) config: StackConfig,
    pub(crate) timeout: Option<TimeoutLayer>,
    pub(crate) retry: Option<RetryLayer<P>>,
    pub(crate) breaker: Option<BreakerLayer<C, B>>,
    pub(crate) rate: Option<RateLayer<R>>,
    pub(crate) limit: Option<LimitLayer<Fixed, X>>,
    pub(crate) attempt_timeout: Option<TimeoutLayer<KeptLimit>>,
}

/// The layers of a stack in the recommended order, of which each may be absent.
///
/// An absent layer costs nothing. But the type is the same with and without it: so the service inside has to be
/// `Clone` and its error a [`LayerError`](stockade_core::LayerError), and the request `Clone` or copied by
/// [`clone_request`](RetryLayer::clone_request), also where there is no retry.
#[derive(Clone, Debug)]
pub struct StackLayer<P = Policy, C = DefaultClassify, B = NoBypass, R = Single, X = Plain> {
    layers: Layers<P, C, B, R, X>,
    handle: StackHandle,
}

type Maybe<L> = Either<Configured<L>, Identity>;

/// The second is outside the first.
type Two<I, O> = tower_layer::Stack<I, O>;

/// The attempt timeout is innermost.
type Layers<P, C, B, R, X> = Two<
    Two<
        Two<
            Two<
                Two<Maybe<TimeoutLayer<KeptLimit>>, Maybe<LimitLayer<Fixed, X>>>,
                Maybe<RateLayer<R>>,
            >,
            Maybe<BreakerLayer<C, B>>,
        >,
        Maybe<RetryLayer<P>>,
    >,
    Maybe<TimeoutLayer>,
>;

// === impl StackBuilder ===

impl<P, C, B, R, X> StackBuilder<P, C, B, R, X> {
    /// Sets what is to be set of the retry by functions. It is not called if there is none. Values come from the file,
    /// so leave them as they are.
    ///
    /// Without this every request is repeated, also one that must not be sent twice.
    pub fn retry<Q>(
        self,
        set: impl FnOnce(RetryLayer<P>) -> RetryLayer<Q>,
    ) -> StackBuilder<Q, C, B, R, X> {
        let Self { config, timeout, retry, breaker, rate, limit, attempt_timeout } = self;
        let retry = retry.map(set);
        StackBuilder { config, timeout, retry, breaker, rate, limit, attempt_timeout }
    }

    /// Takes all functions of the retry from a layer that is ready-made for a client, such as
    /// `stockade_clients::reqwest::retry(1)`: how it judges results, which requests it repeats, and how it copies them. The
    /// values, the number of attempts as well, are those of the file.
    pub fn retry_layer<Q>(self, of_client: RetryLayer<Q>) -> StackBuilder<Q, C, B, R, X> {
        self.retry(|retry| retry.with_functions_of(of_client))
    }

    /// Does for the breaker what [`retry`](Self::retry) does for the retry.
    pub fn breaker<D, E>(
        self,
        set: impl FnOnce(BreakerLayer<C, B>) -> BreakerLayer<D, E>,
    ) -> StackBuilder<P, D, E, R, X> {
        let Self { config, timeout, retry, breaker, rate, limit, attempt_timeout } = self;
        let breaker = breaker.map(set);
        StackBuilder { config, timeout, retry, breaker, rate, limit, attempt_timeout }
    }

    /// The same for the rate limit: [`cost`](RateLayer::cost) and [`bypass`](RateLayer::bypass).
    pub fn rate<Q>(
        self,
        set: impl FnOnce(RateLayer<R>) -> RateLayer<Q>,
    ) -> StackBuilder<P, C, B, Q, X> {
        let Self { config, timeout, retry, breaker, rate, limit, attempt_timeout } = self;
        let rate = rate.map(set);
        StackBuilder { config, timeout, retry, breaker, rate, limit, attempt_timeout }
    }

    /// The same for the limit: [`by_priority`](LimitLayer::by_priority), [`fair_by`](LimitLayer::fair_by),
    /// [`hold`](LimitLayer::hold) and [`bypass`](LimitLayer::bypass). As the file may have no limit, the function of
    /// `hold` has to return what it is given.
    pub fn limit<Y>(
        self,
        set: impl FnOnce(LimitLayer<Fixed, X>) -> LimitLayer<Fixed, Y>,
    ) -> StackBuilder<P, C, B, R, Y> {
        let Self { config, timeout, retry, breaker, rate, limit, attempt_timeout } = self;
        let limit = limit.map(set);
        StackBuilder { config, timeout, retry, breaker, rate, limit, attempt_timeout }
    }

    /// The layer, and the handles of all that is in it.
    pub fn with_handle(self) -> (StackLayer<P, C, B, R, X>, StackHandle)
    where
        R: RatePolicy<Handle = RateHandle, Limiter = <Single as RatePolicy>::Limiter>,
    {
        let Self { config, timeout, retry, breaker, rate, limit, attempt_timeout } = self;
        let (timeout, timeout_handle) = timeout.map(TimeoutLayer::with_handle).unzip();
        let (retry, retry_handle) = retry.map(RetryLayer::with_handle).unzip();
        let (breaker, breaker_handle) = breaker.map(BreakerLayer::with_handle).unzip();
        let (rate, rate_handle) = rate.map(RateLayer::with_handle).unzip();
        let (limit, limit_handle) = limit.map(LimitLayer::with_handle).unzip();
        let attempt_timeout = attempt_timeout.map(TimeoutLayer::with_handle);
        let (attempt_timeout, attempt_timeout_handle) = attempt_timeout.unzip();
        let layers = Two::new(option_layer(attempt_timeout), option_layer(limit));
        let layers = Two::new(Two::new(layers, option_layer(rate)), option_layer(breaker));
        let layers = Two::new(Two::new(layers, option_layer(retry)), option_layer(timeout));
        let handle = StackHandle {
            timeout: timeout_handle,
            retry: retry_handle,
            breaker: breaker_handle,
            rate: rate_handle,
            limit: limit_handle,
            attempt_timeout: attempt_timeout_handle,
            shared: Arc::new(Shared::new(config)),
        };
        (StackLayer { layers, handle: handle.clone() }, handle)
    }
}

impl<C, I, K, M, B, D, E, R, X> StackBuilder<Policy<C, I, K, M, B>, D, E, R, X> {
    /// Judges results, for retry and breaker alike: a [`Classify`](stockade_core::Classify), or a closure.
    #[expect(clippy::type_complexity, reason = "it is the builder with another parameter")]
    pub fn classify<J: Clone>(self, judge: J) -> StackBuilder<Policy<J, I, K, M, B>, J, E, R, X> {
        let copy = judge.clone();
        self.retry(|retry| retry.classify(copy)).breaker(|breaker| breaker.classify(judge))
    }
}

// === impl StackLayer ===

impl<S, P, C, B, R, X> Layer<S> for StackLayer<P, C, B, R, X>
where
    Layers<P, C, B, R, X>: Layer<S>,
{
    type Service = StackService<<Layers<P, C, B, R, X> as Layer<S>>::Service>;

    fn layer(&self, inner: S) -> Self::Service {
        let attempt_timeout = self.handle.attempt_timeout.clone();
        StackService::new(
            self.layers.layer(inner),
            Arc::clone(&self.handle.shared.gate),
            attempt_timeout,
        )
    }
}
