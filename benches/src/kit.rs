//! Our stacks: the 64 subsets of five layers and the pool, each with a type of its own.
//!
//! Stacks with hedge, fallback, coalesce, keyed or chaos in them have one type, because 1,984 more would take too long
//! to compile: the service and each layer are in a box, which costs an allocation a call. Compare them with each other
//! only.

use std::{
    future::{Ready, ready},
    io,
    time::Duration,
};

use stockade::{
    BreakerLayer, ChaosLayer, CoalesceLayer, Error, FallbackLayer, HedgeLayer, KeyedLayer,
    LayerError, LimitLayer, Pool, RateLayer, RetryLayer, TimeoutLayer,
    coalesce::{Bypass, SharedError},
    fallback::OnError,
    pool::PoolBuilder,
    retry::Backoff,
};
use tower::{Layer, ServiceBuilder, layer::layer_fn, util::BoxCloneSyncService};

use crate::{
    combo::Combo,
    service::{Failure, Payload, Source, Stack},
};

/// The layers that stacks are made of.
#[derive(Clone, Debug)]
pub struct Kit {
    /// The workers of the pool in front, and its queue.
    pub pool: (usize, usize),
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
    /// Around all other layers.
    pub fallback: FallbackLayer<OnError<Answer>>,
    /// Inside of retry, around the breaker.
    pub hedge: HedgeLayer,
    /// Right above the service, and switched off.
    pub chaos: ChaosLayer,
}

/// An answer in place of an error.
pub type Answer = fn(Failure) -> Ready<Result<u64, Failure>>;

/// How many keys there are in a stack with a stack for each.
const KEYS: u64 = 1_000;

type Boxed<R> = BoxCloneSyncService<R, u64, Failure>;

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
            $visit.visit($kit.pool().build(stack))
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
            pool: (4, 1_024),
            retry: RetryLayer::max_attempts(3),
            breaker: BreakerLayer::new(),
            rate: RateLayer::per_second(1_000_000_000),
            limit: LimitLayer::new(4_096),
            timeout: TimeoutLayer::new(Duration::from_secs(10)),
            fallback: fallback(),
            hedge: HedgeLayer::after(Duration::from_secs(10)),
            chaos: ChaosLayer::new(1),
        }
    }

    /// Layers as one would set them before a service that runs `places` calls at once, `capacity` a second, each
    /// in `mean` on average.
    pub fn before(places: usize, capacity: f64, mean: Duration, seed: u64) -> Self {
        let per_second = (capacity.round() as u32).max(1);
        Self {
            pool: (places, 2 * places),
            retry: RetryLayer::max_attempts(3)
                .backoff(Backoff::exponential(2 * mean, 20 * mean))
                .seed(seed),
            breaker: BreakerLayer::new().open_for(20 * mean),
            rate: RateLayer::per_second(per_second).burst(places as u32).queue(2 * places),
            limit: LimitLayer::new(places).queue(2 * places),
            timeout: TimeoutLayer::new(10 * mean),
            fallback: fallback(),
            hedge: HedgeLayer::percentile(0.95),
            chaos: ChaosLayer::new(seed),
        }
    }

    /// The pool in front.
    fn pool<R>(&self) -> PoolBuilder<R> {
        let (workers, queue) = self.pool;
        Pool::builder().workers(workers).queue(queue)
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
        if combo.has_newer() {
            return self.over_newer(combo, source, visit);
        }
        let kit = self;
        subsets!(kit combo visit source 0, [] timeout limit rate breaker retry)
    }

    /// The same for stacks with newer layers in them, in the order of [`stockade::order`].
    fn over_newer<R: Payload, V: Visit<R>>(
        &self,
        combo: Combo,
        source: &impl Source<R>,
        visit: V,
    ) -> V::Out {
        let mut stack = BoxCloneSyncService::new(source.of::<64>());
        if combo.chaos {
            stack = BoxCloneSyncService::new(self.chaos.layer(stack));
        }
        stack = if combo.keyed { self.keyed(combo, stack) } else { self.guarded(combo, stack) };
        if combo.hedge {
            stack = BoxCloneSyncService::new(self.hedge.layer(stack));
        }
        if combo.retry {
            stack = BoxCloneSyncService::new(self.retry.layer(stack));
        }
        if combo.coalesce {
            stack = coalesce(stack);
        }
        if combo.fallback {
            stack = BoxCloneSyncService::new(self.fallback.layer(stack));
        }
        if combo.pool { visit.visit(self.pool().build(stack)) } else { visit.visit(stack) }
    }

    /// The layers from the breaker to the timeout. They share nothing with those of another stack.
    fn guarded<R: Payload>(&self, combo: Combo, mut stack: Boxed<R>) -> Boxed<R> {
        if combo.timeout {
            stack = BoxCloneSyncService::new(self.timeout.clone().per_service().layer(stack));
        }
        if combo.limit {
            stack = BoxCloneSyncService::new(self.limit.clone().per_service().layer(stack));
        }
        if combo.rate {
            stack = BoxCloneSyncService::new(self.rate.clone().per_service().layer(stack));
        }
        if combo.breaker {
            stack = BoxCloneSyncService::new(self.breaker.clone().per_service().layer(stack));
        }
        stack
    }

    /// The same layers anew for each key.
    fn keyed<R: Payload>(&self, combo: Combo, stack: Boxed<R>) -> Boxed<R> {
        let kit = self.clone();
        let layers = move |_: &u64| {
            let kit = kit.clone();
            layer_fn(move |stack| kit.guarded::<R>(combo, stack))
        };
        let key = |request: &R| request.number() % KEYS;
        BoxCloneSyncService::new(KeyedLayer::new(key, KEYS as usize, layers).layer(stack))
    }
}

/// Answers whatever fails.
fn fallback() -> FallbackLayer<OnError<Answer>> {
    FallbackLayer::new((|_| ready(Ok(0))) as Answer)
}

/// Calls with the same number share an answer, or an error.
fn coalesce<R: Payload>(stack: Boxed<R>) -> Boxed<R> {
    BoxCloneSyncService::new(shared(stack))
}

/// A stack whose calls share an answer where they have the same number and are in flight at once.
pub fn shared<R: Payload>(stack: impl Stack<R>) -> impl Stack<R> {
    coalesced(CoalesceLayer::new(R::number), stack)
}

/// The same for no call at all: each passes the layer by.
pub fn unshared<R: Payload>(stack: impl Stack<R>) -> impl Stack<R> {
    coalesced(CoalesceLayer::new(R::number).only(|_: &R| false), stack)
}

/// Makes errors ones that can be cloned for each caller, and makes them ours again.
fn coalesced<R, S, F, O>(layer: CoalesceLayer<R, u64, F, O>, stack: S) -> impl Stack<R>
where
    R: Payload,
    S: Stack<R>,
    F: Fn(&R) -> u64 + Clone + Send + Sync + 'static,
    O: Bypass<R> + Clone + Send + Sync + 'static,
{
    ServiceBuilder::new()
        .map_err(|error: SharedError| match error.rejected() {
            Some(rejected) => Error::Rejected(*rejected),
            None => Error::Service(io::Error::other(error)),
        })
        .layer(layer)
        .map_err(|error: Failure| SharedError::new(error))
        .service(stack)
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Runtime;
    use tower::ServiceExt;

    use super::*;
    use crate::{
        combo::{self, Selection},
        service::AtOnce,
        turns,
    };

    struct Answers<'a>(&'a Runtime);

    impl Visit<u64> for Answers<'_> {
        type Out = ();

        fn visit<S: Stack>(self, stack: S) {
            assert_eq!(self.0.block_on(stack.oneshot(7)).unwrap(), 7);
        }
    }

    #[test]
    fn every_stack_with_newer_layers_lets_a_call_pass() {
        let layers = combo::layers(&combo::PARTS.join(",")).unwrap();
        let runtime = turns::runtime(1);
        let _guard = runtime.enter();
        let combos = Selection { layers: Some(layers), filter: None }.combos();
        for combo in combos.into_iter().filter(|combo| combo.has_newer()) {
            Kit::passing().over::<u64, _>(combo, &AtOnce, Answers(&runtime));
        }
    }
}
