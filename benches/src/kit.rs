//! Our stacks: the 64 subsets of five layers and the pool, each with a type of its own.

use std::time::Duration;

use stockade::{
    BreakerLayer, LimitLayer, Pool, RateLayer, RetryLayer, TimeoutLayer, pool::PoolBuilder,
    retry::Backoff,
};
use tower::Layer;

use crate::{
    combo::Combo,
    service::{Payload, Source, Stack},
};

/// The layers that stacks are made of.
#[derive(Clone, Debug)]
pub struct Kit {
    /// The pool in front.
    pub pool: PoolBuilder,
    /// Around all other layers.
    pub retry: RetryLayer,
    /// Inside of retry.
    pub breaker: BreakerLayer,
    /// Inside of the breaker.
    pub rate: RateLayer,
    /// Inside of the rate limit.
    pub limit: LimitLayer,
    /// Around each attempt.
    pub timeout: TimeoutLayer,
}

/// What is done with a stack of any type.
pub trait Visit<R> {
    /// The result.
    type Out;
    /// Does it.
    fn visit<S: Stack<R>>(self, stack: S) -> Self::Out;
}

/// One leaf for each subset of the layers that are named, innermost first: an absent layer leaves nothing behind,
/// neither a box nor an `Either`. Each layer doubles the number of leaves, which are numbered.
macro_rules! subsets {
    ($kit:ident $combo:ident $visit:ident $source:ident $number:expr, [$($layer:ident)*]) => {
        if $combo.pool {
            let stack = $source.of::<{ $number * 2 + 1 }>();
            $(let stack = $kit.$layer.layer(stack);)*
            $visit.visit($kit.pool.clone().build(stack))
        } else {
            let stack = $source.of::<{ $number * 2 }>();
            $(let stack = $kit.$layer.layer(stack);)*
            $visit.visit(stack)
        }
    };
    ($kit:ident $combo:ident $visit:ident $source:ident $number:expr, [$($inner:ident)*] $layer:ident $($outer:ident)*) => {
        if $combo.$layer {
            subsets!($kit $combo $visit $source $number * 2 + 1, [$($inner)* $layer] $($outer)*)
        } else {
            subsets!($kit $combo $visit $source $number * 2, [$($inner)*] $($outer)*)
        }
    };
}

// === impl Kit ===

impl Kit {
    /// Layers that let every call pass.
    pub fn passing() -> Self {
        Self {
            pool: Pool::builder().workers(4).queue(1_024),
            retry: RetryLayer::max_attempts(3),
            breaker: BreakerLayer::new(),
            rate: RateLayer::per_second(1_000_000_000),
            limit: LimitLayer::new(4_096),
            timeout: TimeoutLayer::new(Duration::from_secs(10)),
        }
    }

    /// Layers as one would set them before a service that runs `places` calls at once, `capacity` a second, each
    /// in `mean` on average.
    pub fn before(places: usize, capacity: f64, mean: Duration, seed: u64) -> Self {
        let per_second = (capacity.round() as u32).max(1);
        Self {
            pool: Pool::builder().workers(places).queue(2 * places),
            retry: RetryLayer::max_attempts(3)
                .backoff(Backoff::exponential(2 * mean, 20 * mean))
                .seed(seed),
            breaker: BreakerLayer::new().open_for(20 * mean),
            rate: RateLayer::per_second(per_second).burst(places as u32).queue(2 * places),
            limit: LimitLayer::new(places).queue(2 * places),
            timeout: TimeoutLayer::new(10 * mean),
        }
    }

    /// Shows the stack of these layers to `visit`.
    ///
    /// # Panics
    ///
    /// With the pool, outside a tokio runtime.
    pub fn over<R: Payload, V: Visit<R>>(
        &self,
        combo: Combo,
        source: &impl Source<R>,
        visit: V,
    ) -> V::Out {
        let kit = self;
        subsets!(kit combo visit source 0, [] timeout limit rate breaker retry)
    }
}
