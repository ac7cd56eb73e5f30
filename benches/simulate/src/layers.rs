//! The layers of a stack, as a scenario names them.

use std::{fmt, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};
use stockade::retry::{Backoff, Budget};

use crate::values::{Amount, Count, CountOrNone, Positive, Share, Span};

/// A layer. What is left out is as by the layer's own default.
#[derive(Clone, Debug)]
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
    /// Sends a second attempt when the first takes long.
    Hedge(Hedge),
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
    Hedge,
    Pool,
}

/// For [`RetryLayer`](stockade::RetryLayer).
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RetryText")]
pub struct Retry {
    pub(crate) attempts: Count,
    pub(crate) backoff: Backoff,
    pub(crate) budget: Budget,
    pub(crate) max_elapsed: Option<Span>,
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

/// For [`BreakerLayer`](stockade::BreakerLayer).
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "BreakerText")]
pub struct Breaker(pub(crate) BreakerText);

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BreakerText {
    pub(crate) calls: Option<Count>,
    pub(crate) time: Option<Span>,
    pub(crate) failure_rate: Option<Share>,
    pub(crate) min_calls: Option<Count>,
    pub(crate) consecutive: Option<Count>,
    pub(crate) open_for: Option<Span>,
    pub(crate) probes: Option<Count>,
    pub(crate) probe_timeout: Option<Span>,
    pub(crate) ramp: Option<Span>,
}

/// For [`RateLayer`](stockade::RateLayer).
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "RateText")]
pub struct Rate {
    pub(crate) speed: Speed,
    pub(crate) burst: Option<Count>,
    pub(crate) queue: Option<CountOrNone>,
    pub(crate) max_wait: Option<Span>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Speed {
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

/// For [`LimitLayer`](stockade::LimitLayer).
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    pub(crate) max: Count,
    pub(crate) queue: Option<CountOrNone>,
    pub(crate) max_wait: Option<Span>,
}

/// For [`HedgeLayer`](stockade::HedgeLayer).
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "HedgeText")]
pub struct Hedge {
    pub(crate) delay: Delay,
    pub(crate) max: Option<Count>,
    pub(crate) budget: Budget,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Delay {
    After(Span),
    /// This percentile of the calls before.
    Percentile(f64),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HedgeText {
    after: Option<Span>,
    percentile: Option<Share>,
    max: Option<Count>,
    budget: Option<BudgetText>,
}

/// For [`Pool`](stockade::Pool).
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workers {
    pub(crate) workers: Count,
    pub(crate) queue: Option<CountOrNone>,
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
            Kind::Hedge => Layer::Hedge(map.next_value()?),
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
        let budget = BudgetText::read(text.budget)?;
        let backoff = Backoff::exponential(base, cap);
        Ok(Self { attempts: text.attempts, backoff, budget, max_elapsed: text.max_elapsed })
    }
}

impl BudgetText {
    fn read(text: Option<Self>) -> Result<Budget, String> {
        match text {
            None => Ok(Budget::default()),
            Some(Self::Unlimited(_)) => Ok(Budget::unlimited()),
            Some(Self::Limited(Income { ratio, .. })) if ratio.get() > 10.0 => {
                Err("the `ratio` of a budget is from 0 to 10, such as 0.1".to_owned())
            }
            Some(Self::Limited(Income { ratio, per_second })) => {
                Ok(Budget::new(ratio.get(), per_second.get()))
            }
        }
    }
}

impl TryFrom<HedgeText> for Hedge {
    type Error = String;

    fn try_from(text: HedgeText) -> Result<Self, String> {
        let delay = match (text.after, text.percentile.map(Share::get)) {
            (Some(after), None) => Delay::After(after),
            (None, Some(percentile)) if (0.5..=0.999).contains(&percentile) => {
                Delay::Percentile(percentile)
            }
            (None, Some(_)) => {
                return Err(
                    "the `percentile` of a hedge is from 0.5 to 0.999, such as 0.95".to_owned()
                );
            }
            _ => return Err("a hedge comes either `after` a time or at a `percentile`".to_owned()),
        };
        if text.max.is_some_and(|n| n.get() > 10) {
            return Err("`max` of a hedge is from 1 to 10".to_owned());
        }
        Ok(Self { delay, max: text.max, budget: BudgetText::read(text.budget)? })
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
