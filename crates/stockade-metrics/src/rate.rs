use std::hash::Hash;

use stockade_rate::{KeyedHandle, RateHandle};

use crate::family::{Family, Readable, Sort::Gauge, Values::One};

pub(crate) struct Rate {
    available: u32,
    waiting: usize,
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
            help: "Calls that wait in the queue.",
            sort: Gauge,
            values: One(|rate| rate.waiting as f64),
        },
    ];

    fn read(&self) -> Option<Rate> {
        Some(Rate { available: self.available(), waiting: self.waiting() })
    }
}

/// A keyed rate limit, whatever its keys are.
pub(crate) struct AnyKeyed(Box<dyn Fn() -> Keyed + Send>);

pub(crate) struct Keyed {
    keys: usize,
    overflow: Rate,
}

// === impl AnyKeyed ===

impl AnyKeyed {
    pub(crate) fn new<K>(handle: KeyedHandle<K>) -> Self
    where
        K: Hash + Eq + Clone + Send + 'static,
    {
        Self(Box::new(move || {
            let overflow = handle.overflow();
            let overflow = Rate { available: overflow.available(), waiting: overflow.waiting() };
            Keyed { keys: handle.keys(), overflow }
        }))
    }
}

/// No series a key: there would be as many as anybody likes.
impl Readable for AnyKeyed {
    type Snapshot = Keyed;

    const KIND: &'static str = "keyed rate";

    const FAMILIES: &'static [Family<Keyed>] = &[
        Family {
            name: "stockade_rate_keys",
            help: "Keys that have a bucket of their own.",
            sort: Gauge,
            values: One(|keyed| keyed.keys as f64),
        },
        Family {
            name: "stockade_rate_overflow_available",
            help: "Calls that would pass at once with keys that share the overflow bucket.",
            sort: Gauge,
            values: One(|keyed| keyed.overflow.available.into()),
        },
        Family {
            name: "stockade_rate_overflow_waiting",
            help: "Calls that wait for a token of the overflow bucket.",
            sort: Gauge,
            values: One(|keyed| keyed.overflow.waiting as f64),
        },
    ];

    fn read(&self) -> Option<Keyed> {
        Some((self.0)())
    }
}
