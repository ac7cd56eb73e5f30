//! What the layers of a scenario become: a stack for each client.
//!
//! Every layer is boxed where it meets the next one, so that a file can put them in any order. But for that they are
//! as they always are.

use std::time::Duration;

use stockade::{
    BreakerLayer, ChaosLayer, Class, Classify, Configured, DefaultClassify, Error, HedgeLayer,
    LimitLayer, Pool, RateLayer, RetryLayer, TimeoutLayer, breaker::Window, chaos::ChaosHandle,
};
use tower::{Layer as _, ServiceExt, util::BoxCloneService};

use crate::{
    layers::{Breaker, BreakerText, Delay, Hedge, Layer, Limit, Rate, Retry, Speed, Workers},
    scenario::Chaos,
    server::{Answer, Busy, Client, Request},
    values::{Count, Share, Span},
};

/// A stack, ready to be called.
pub(crate) type Stacked = BoxCloneService<Request, Answer, Error<Busy>>;

/// What a refusal by the server means: it has more to do than it can.
#[derive(Clone, Copy, Debug)]
struct Judge;

/// What makes the faults on the way, for all clients.
pub(crate) type Faults = Configured<ChaosLayer<fn() -> Error<Busy>>>;

impl Chaos {
    /// The layer, and what switches it.
    pub(crate) fn layer(&self, seed: u64) -> (Faults, ChaosHandle) {
        let share = |share: Option<Share>| share.map_or(0.0, Share::get);
        let by = self.by.map_or(Duration::from_millis(500), Span::get);
        let busy: fn() -> Error<Busy> = || Error::Service(Busy);
        ChaosLayer::new(seed)
            .latency(share(self.slow), by)
            .hang(share(self.hangs))
            .error(share(self.errors), busy)
            .with_handle()
    }
}

/// One client's stack of `layers`, outermost first, for a client that makes `rate` calls a second when calm.
pub(crate) fn build(
    layers: &[Layer],
    rate: f64,
    client: Client,
    faults: Option<&Faults>,
) -> Stacked {
    let client = client.map_err(Error::Service);
    let client = match faults {
        Some(faults) => faults.layer(client).boxed_clone(),
        None => client.boxed_clone(),
    };
    layers.iter().rev().fold(client, |inner, layer| layer.around(inner, rate))
}

impl Layer {
    fn around(&self, inner: Stacked, rate: f64) -> Stacked {
        match self {
            Self::Timeout(limit) => TimeoutLayer::new(limit.get()).layer(inner).boxed_clone(),
            Self::Retry(retry) => retry.layer().classify(Judge).layer(inner).boxed_clone(),
            Self::Breaker(breaker) => breaker.layer().classify(Judge).layer(inner).boxed_clone(),
            Self::Rate(limit) => limit.layer(rate).layer(inner).boxed_clone(),
            Self::Limit(limit) => limit.layer().layer(inner).boxed_clone(),
            Self::Hedge(hedge) => hedge.layer().classify(Judge).layer(inner).boxed_clone(),
            Self::Pool(Workers { workers, queue }) => {
                let mut pool = Pool::builder().workers(workers.size());
                if let Some(queue) = queue {
                    pool = pool.queue(queue.size());
                }
                pool.layer(inner).boxed_clone()
            }
        }
    }
}

impl Retry {
    fn layer(&self) -> RetryLayer {
        let layer = RetryLayer::max_attempts(self.attempts.get())
            .backoff(self.backoff)
            .budget(self.budget.fresh());
        match self.max_elapsed {
            Some(time) => layer.max_elapsed(time.get()),
            None => layer,
        }
    }
}

impl Hedge {
    fn layer(&self) -> HedgeLayer {
        let layer = match self.delay {
            Delay::After(after) => HedgeLayer::after(after.get()),
            Delay::Percentile(percentile) => HedgeLayer::percentile(percentile),
        };
        let layer = layer.budget(self.budget.fresh());
        match self.max {
            Some(max) => layer.max(max.get()),
            None => layer,
        }
    }
}

impl Breaker {
    fn layer(&self) -> BreakerLayer {
        let mut layer = BreakerLayer::new();
        let text = self.0;
        if let Some(window) = text.window() {
            layer = layer.window(window);
        }
        if let Some(rate) = text.failure_rate {
            layer = layer.failure_rate(rate.get());
        }
        if let Some(n) = text.min_calls {
            layer = layer.min_calls(n.get());
        }
        if let Some(n) = text.consecutive {
            layer = layer.consecutive(n.get());
        }
        if let Some(time) = text.open_for {
            layer = layer.open_for(time.get());
        }
        if let Some(n) = text.probes {
            layer = layer.probes(n.get());
        }
        if let Some(time) = text.probe_timeout {
            layer = layer.probe_timeout(time.get());
        }
        if let Some(time) = text.ramp {
            layer = layer.ramp(time.get());
        }
        layer
    }
}

impl BreakerText {
    fn window(&self) -> Option<Window> {
        let calls = self.calls.map(|n| Window::calls(n.get()));
        calls.or_else(|| self.time.map(|time| Window::time(time.get())))
    }
}

impl Rate {
    fn layer(&self, rate: f64) -> RateLayer {
        let rate = match self.speed {
            Speed::PerSecond(n) => n.get(),
            Speed::Times(times) => times.get() * rate,
        };
        // So that a rate need not be a whole number.
        let period = Duration::from_secs_f64((1.0 / rate).clamp(1e-6, 1e6));
        let burst = self.burst.map_or(rate.ceil().clamp(1.0, 1e6) as u32, Count::get);
        // The layer takes no burst that takes longer than twenty years to come; no run is as long as one.
        let burst = burst.clamp(1, (1e8 / period.as_secs_f64()).max(1.0) as u32);
        let mut layer = RateLayer::new(1, period).burst(burst);
        if let Some(queue) = self.queue {
            layer = layer.queue(queue.size());
        }
        if let Some(wait) = self.max_wait {
            layer = layer.max_wait(wait.get());
        }
        layer
    }
}

impl Limit {
    fn layer(&self) -> LimitLayer {
        let mut layer = LimitLayer::new(self.max.size());
        if let Some(queue) = self.queue {
            layer = layer.queue(queue.size());
        }
        if let Some(wait) = self.max_wait {
            layer = layer.max_wait(wait.get());
        }
        layer
    }
}

impl Classify<Answer, Error<Busy>> for Judge {
    fn classify(&self, result: Result<&Answer, &Error<Busy>>) -> Class {
        match result {
            Err(Error::Service(Busy)) => Class::OVERLOAD,
            result => DefaultClassify.classify(result),
        }
    }
}
