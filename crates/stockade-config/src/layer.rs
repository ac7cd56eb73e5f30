use std::sync::Arc;

use stockade_breaker::BreakerLayer;
use stockade_core::{Configured, DefaultClassify, NoBypass};
use stockade_limit::LimitLayer;
use stockade_rate::RateLayer;
use stockade_retry::{Policy, RetryLayer};
use stockade_timeout::TimeoutLayer;
use tower::util::{Either, option_layer};
use tower_layer::{Identity, Layer};

use crate::{Stack, StackConfig, StackHandle, handle::Shared, kept::KeptLimit};

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
pub struct StackBuilder<P = Policy, C = DefaultClassify, B = NoBypass> {
    pub(crate) config: StackConfig,
    pub(crate) timeout: Option<TimeoutLayer>,
    pub(crate) retry: Option<RetryLayer<P>>,
    pub(crate) breaker: Option<BreakerLayer<C, B>>,
    pub(crate) rate: Option<RateLayer>,
    pub(crate) limit: Option<LimitLayer>,
    pub(crate) attempt_timeout: Option<TimeoutLayer<KeptLimit>>,
}

/// The layers of a stack in the recommended order, of which each may be absent.
///
/// An absent layer costs nothing. But the type is the same with and without it: so the service inside has to be
/// `Clone`, its error a [`LayerError`](stockade_core::LayerError), and the request `Clone`, also where there is no retry.
#[derive(Clone, Debug)]
pub struct StackLayer<P = Policy, C = DefaultClassify, B = NoBypass> {
    layers: Layers<P, C, B>,
    handle: StackHandle,
}

type Maybe<L> = Either<Configured<L>, Identity>;

/// The second is outside the first.
type Two<I, O> = tower_layer::Stack<I, O>;

/// The attempt timeout is innermost.
type Layers<P, C, B> = Two<
    Two<
        Two<
            Two<Two<Maybe<TimeoutLayer<KeptLimit>>, Maybe<LimitLayer>>, Maybe<RateLayer>>,
            Maybe<BreakerLayer<C, B>>,
        >,
        Maybe<RetryLayer<P>>,
    >,
    Maybe<TimeoutLayer>,
>;

// === impl StackBuilder ===

impl<P, C, B> StackBuilder<P, C, B> {
    /// Sets what is to be set of the retry by functions. It is not called if there is none. Values come from the file,
    /// so leave them as they are.
    pub fn retry<Q>(
        self,
        set: impl FnOnce(RetryLayer<P>) -> RetryLayer<Q>,
    ) -> StackBuilder<Q, C, B> {
        let Self { config, timeout, retry, breaker, rate, limit, attempt_timeout } = self;
        let retry = retry.map(set);
        StackBuilder { config, timeout, retry, breaker, rate, limit, attempt_timeout }
    }

    /// The same for the breaker.
    pub fn breaker<D, E>(
        self,
        set: impl FnOnce(BreakerLayer<C, B>) -> BreakerLayer<D, E>,
    ) -> StackBuilder<P, D, E> {
        let Self { config, timeout, retry, breaker, rate, limit, attempt_timeout } = self;
        let breaker = breaker.map(set);
        StackBuilder { config, timeout, retry, breaker, rate, limit, attempt_timeout }
    }

    /// The layer, and the handles of all that is in it.
    pub fn with_handle(self) -> (StackLayer<P, C, B>, StackHandle) {
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

impl<C, B, I, K, R, D, E> StackBuilder<Policy<C, I, K, R, B>, D, E> {
    /// Judges results, for retry and breaker alike: a [`Classify`](stockade_core::Classify), or a closure.
    pub fn classify<J: Clone>(self, judge: J) -> StackBuilder<Policy<J, I, K, R, B>, J, E> {
        let copy = judge.clone();
        self.retry(|retry| retry.classify(copy)).breaker(|breaker| breaker.classify(judge))
    }
}

// === impl StackLayer ===

impl<S, P, C, B> Layer<S> for StackLayer<P, C, B>
where
    Layers<P, C, B>: Layer<S>,
{
    type Service = Stack<<Layers<P, C, B> as Layer<S>>::Service>;

    fn layer(&self, inner: S) -> Self::Service {
        let attempt_timeout = self.handle.attempt_timeout.clone();
        Stack::new(self.layers.layer(inner), Arc::clone(&self.handle.shared.gate), attempt_timeout)
    }
}
