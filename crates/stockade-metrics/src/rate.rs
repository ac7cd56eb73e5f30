use std::hash::Hash;

use stockade_core::Reason;
use stockade_rate::{KeyedHandle, RateHandle};

use crate::family::{
    Family, Readable,
    Sort::{Counter, Gauge},
    Values::{Each, One},
    refused, refused_of,
};

const REASONS: [Reason; 5] = [
    Reason::QueueFull,
    Reason::WaitExceeded,
    Reason::RateLimited,
    Reason::TooCostly,
    Reason::Expired,
];

pub(crate) struct Rate {
    available: u32,
    waiting: usize,
    refused: Vec<(&'static str, f64)>,
    refused_of: Vec<(&'static str, f64)>,
}

impl Readable for RateHandle {
    type Snapshot = Rate;

    const KIND: &'static str = "rate";

    const FAMILIES: &'static [Family<Rate>] = &[
        Family {
            name: "stockade_rate_available",
            help: "Calls that would pass at once.",
            sort: Gauge,
            values: One(|rate| rate.available.into()),
        },
        Family {
            name: "stockade_rate_waiting",
            help: "Calls waiting in the queue.",
            sort: Gauge,
            values: One(|rate| rate.waiting as f64),
        },
        Family {
            name: "stockade_rate_refused",
            help: "Calls refused, by reason.",
            sort: Counter,
            values: Each("reason", |rate| rate.refused.clone()),
        },
        Family {
            name: "stockade_rate_refused_by_priority",
            help: "Calls refused, by priority.",
            sort: Counter,
            values: Each("priority", |rate| rate.refused_of.clone()),
        },
    ];

    fn read(&self) -> Option<Rate> {
        Some(Rate {
            available: self.available(),
            waiting: self.waiting(),
            refused: refused(REASONS, |reason| self.refused(reason)),
            refused_of: refused_of(|priority| self.refused_of(priority)),
        })
    }

    #[cfg(feature = "dashboard")]
    fn detail(&self, _: crate::family::Now) -> Vec<(&'static str, serde_json::Value)> {
        let config = self.config();
        vec![("calls", config.calls.into()), ("per", config.per.as_secs_f64().into())]
    }

    #[cfg(feature = "dashboard")]
    fn order(&self, order: crate::family::Order) -> Option<crate::family::Action> {
        let crate::family::Order::Change(calls) = order else { return None };
        let handle = self.clone();
        Some(Box::new(move || {
            let calls = u32::try_from(calls).unwrap_or(u32::MAX);
            handle.set_rate(calls, handle.config().per).map_err(|error| error.reason())?;
            Ok(None)
        }))
    }
}

/// A rate limit with keys of any type.
pub(crate) struct AnyKeyed(Box<dyn Fn() -> Option<Keyed> + Send>);

pub(crate) struct Keyed {
    keys: usize,
    overflow: Rate,
    refused: Vec<(&'static str, f64)>,
}

// === impl AnyKeyed ===

impl AnyKeyed {
    pub(crate) fn new<K>(handle: KeyedHandle<K>) -> Self
    where
        K: Hash + Eq + Clone + Send + 'static,
    {
        Self(Box::new(move || {
            let overflow = handle.overflow().read();
            let refused = refused(REASONS, |reason| handle.refused(reason));
            overflow.map(|overflow| Keyed { keys: handle.keys(), overflow, refused })
        }))
    }
}

/// No key has a series of its own, because there may be any number of keys.
impl Readable for AnyKeyed {
    type Snapshot = Keyed;

    const KIND: &'static str = "keyed rate";

    const FAMILIES: &'static [Family<Keyed>] = &[
        Family {
            name: "stockade_rate_keys",
            help: "Keys with a bucket of their own.",
            sort: Gauge,
            values: One(|keyed| keyed.keys as f64),
        },
        Family {
            name: "stockade_rate_overflow_available",
            help: "Calls that would pass at once and whose keys share the overflow bucket.",
            sort: Gauge,
            values: One(|keyed| keyed.overflow.available.into()),
        },
        Family {
            name: "stockade_rate_overflow_waiting",
            help: "Calls waiting for a token of the overflow bucket.",
            sort: Gauge,
            values: One(|keyed| keyed.overflow.waiting as f64),
        },
        Family {
            name: "stockade_rate_keyed_refused",
            help: "Calls refused, by reason.",
            sort: Counter,
            values: Each("reason", |keyed| keyed.refused.clone()),
        },
    ];

    fn read(&self) -> Option<Keyed> {
        (self.0)()
    }
}
