//! The layers of a stack, as a scenario names them, and what they become.
//!
//! Every layer is boxed where it meets the next one, so that a file can put them in any order. Without that they
//! are as they always are.

use std::{fmt, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};
use stockade::{
    BreakerLayer, Class, Classify, DefaultClassify, Error, LimitLayer, Pool, RateLayer, RetryLayer,
    TimeoutLayer, breaker::Window, retry::Backoff, retry::Budget,
};
use tower::{Layer as _, ServiceExt, util::BoxCloneService};

use crate::{
    server::{Answer, Busy, Client, Request},
    values::{Amount, Count, CountOrNone, Positive, Share, Span},
};

/// A stack, ready to be called.
pub(crate) type Stacked = BoxCloneService<Request, Answer, Error<Busy>>;

/// A layer. What is left out is as by the layer's own default.
#[derive(Clone, Copy, Debug)]
pub enum Layer {
    /// Ends what takes longer than this.
    Timeout(Span),
    /// Repeats what failed.
    Retry(Retry),
    /// Stops calling what fails.
    Breaker(Breaker),
    /// Lets so many calls a second pass.
    Rate(Rate),
    /// Lets so many calls be in flight.
    Limit(Limit),
    /// A pool in front of what is inside.
    Pool(Workers),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Timeout,
    Retry,
    Breaker,
    Rate,
    Limit,
    Pool,
}

/// For [`RetryLayer`].
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "RetryText")]
pub struct Retry {
    attempts: Count,
    backoff: Backoff,
    budget: Budget,
    max_elapsed: Option<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryText {
    attempts: Count,
    base: Option<Span>,
    cap: Option<Span>,
    budget: Option<BudgetText>,
    max_elapsed: Option<Span>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged, expecting = "a budget is \"unlimited\" or { ratio = 0.1, per_second = 0.5 }")]
enum BudgetText {
    Unlimited(Unlimited),
    Limited(Income),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Unlimited {
    Unlimited,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Income {
    ratio: Amount,
    per_second: Amount,
}

/// For [`BreakerLayer`].
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "BreakerText")]
pub struct Breaker(BreakerText);

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BreakerText {
    calls: Option<Count>,
    time: Option<Span>,
    failure_rate: Option<Share>,
    min_calls: Option<Count>,
    consecutive: Option<Count>,
    open_for: Option<Span>,
    probes: Option<Count>,
    probe_timeout: Option<Span>,
    ramp: Option<Span>,
}

/// For [`RateLayer`].
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "RateText")]
pub struct Rate {
    speed: Speed,
    burst: Option<Count>,
    queue: Option<CountOrNone>,
    max_wait: Option<Span>,
}

#[derive(Clone, Copy, Debug)]
enum Speed {
    PerSecond(Positive),
    /// So many times what a calm client makes.
    Times(Positive),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RateText {
    per_second: Option<Positive>,
    times: Option<Positive>,
    burst: Option<Count>,
    queue: Option<CountOrNone>,
    max_wait: Option<Span>,
}

/// For [`LimitLayer`].
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    max: Count,
    queue: Option<CountOrNone>,
    max_wait: Option<Span>,
}

/// For [`Pool`].
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workers {
    workers: Count,
    queue: Option<CountOrNone>,
}

/// What a refusal by the server means: it has more to do than it can.
#[derive(Clone, Copy, Debug)]
struct Judge;

// === building ===

/// One client's stack of `layers`, outermost first, for a client that makes `rate` calls a second when calm.
pub(crate) fn stack(layers: &[Layer], rate: f64, client: Client) -> Stacked {
    let client = client.map_err(Error::Service).boxed_clone();
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
            Self::Pool(Workers { workers, queue }) => {
                let mut pool = Pool::builder().workers(workers.size());
                if let Some(queue) = queue {
                    pool = pool.queue(queue.size());
                }
                pool.into_layer().layer(inner).boxed_clone()
            }
        }
    }
}

impl Retry {
    fn layer(&self) -> RetryLayer {
        let layer = RetryLayer::new(self.attempts.get()).backoff(self.backoff).budget(self.budget);
        match self.max_elapsed {
            Some(time) => layer.max_elapsed(time.get()),
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
            Err(Error::Service(Busy)) => Class::Overload { after: None },
            result => DefaultClassify.classify(result),
        }
    }
}

// === reading ===

struct OneLayer;

impl<'de> Deserialize<'de> for Layer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OneLayer)
    }
}

impl<'de> Visitor<'de> for OneLayer {
    type Value = Layer;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one layer in braces, such as { timeout = \"1s\" } or { breaker = {} }")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Layer, A::Error> {
        let Some(kind) = map.next_key()? else { return Err(A::Error::invalid_length(0, &self)) };
        let layer = match kind {
            Kind::Timeout => Layer::Timeout(map.next_value()?),
            Kind::Retry => Layer::Retry(map.next_value()?),
            Kind::Breaker => Layer::Breaker(map.next_value()?),
            Kind::Rate => Layer::Rate(map.next_value()?),
            Kind::Limit => Layer::Limit(map.next_value()?),
            Kind::Pool => Layer::Pool(map.next_value()?),
        };
        match map.next_key::<IgnoredAny>()? {
            None => Ok(layer),
            Some(_) => Err(A::Error::invalid_length(map.size_hint().unwrap_or(0) + 2, &self)),
        }
    }
}

impl TryFrom<RetryText> for Retry {
    type Error = String;

    fn try_from(text: RetryText) -> Result<Self, String> {
        let base = text.base.map_or(Duration::from_millis(50), Span::get);
        let cap = text.cap.map_or(Duration::from_secs(10).max(base), Span::get);
        if cap < base {
            let base = humantime::format_duration(base);
            return Err(format!(
                "`cap` is the longest wait, and has to be at least `base`, {base}"
            ));
        }
        let budget = match text.budget {
            None => Budget::default(),
            Some(BudgetText::Unlimited(_)) => Budget::unlimited(),
            Some(BudgetText::Limited(Income { ratio, .. })) if ratio.get() > 10.0 => {
                return Err("the `ratio` of a budget is from 0 to 10, such as 0.1".to_owned());
            }
            Some(BudgetText::Limited(Income { ratio, per_second })) => {
                Budget::new(ratio.get(), per_second.get())
            }
        };
        let backoff = Backoff::exponential(base, cap);
        Ok(Self { attempts: text.attempts, backoff, budget, max_elapsed: text.max_elapsed })
    }
}

impl TryFrom<BreakerText> for Breaker {
    type Error = String;

    fn try_from(text: BreakerText) -> Result<Self, String> {
        if text.calls.is_some() && text.time.is_some() {
            return Err("the window of a breaker is either so many `calls` or a `time`".to_owned());
        }
        let calls = text.calls.map_or(100, Count::get);
        if text.time.is_none() && text.min_calls.is_some_and(|n| n.get() > calls) {
            let window = format!("the window, which is {calls} calls");
            return Err(format!("`min_calls` of a breaker has to fit into {window}"));
        }
        if text.probes.is_some_and(|n| n.get() > 1_000) {
            return Err("`probes` of a breaker is from 1 to 1000".to_owned());
        }
        Ok(Self(text))
    }
}

impl BreakerText {
    fn window(&self) -> Option<Window> {
        let calls = self.calls.map(|n| Window::calls(n.get()));
        calls.or_else(|| self.time.map(|time| Window::time(time.get())))
    }
}

impl TryFrom<RateText> for Rate {
    type Error = String;

    fn try_from(text: RateText) -> Result<Self, String> {
        let RateText { per_second, times, burst, queue, max_wait } = text;
        let speed = match (per_second, times) {
            (Some(n), None) => Speed::PerSecond(n),
            (None, Some(n)) => Speed::Times(n),
            _ => {
                return Err("a rate is either `per_second`, or `times` what a calm client makes, such as 1.25"
                    .to_owned());
            }
        };
        Ok(Self { speed, burst, queue, max_wait })
    }
}
