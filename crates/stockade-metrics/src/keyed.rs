use stockade_core::Reason;
use stockade_keyed::{KeyStats, KeyedHandle};

use crate::family::{
    Family, Readable,
    Sort::{Counter, Gauge},
    Values::{Each, One},
    refused,
};

const REASONS: [Reason; 2] = [Reason::Shed, Reason::Expired];

/// The busiest keys are told apart by their rank, and never by their names: there may be any number of keys, and a series
/// for each that ever was among the busiest would stay in Prometheus.
const RANKS: [&str; 10] = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"];

/// Stacks with keys of any type.
pub(crate) struct AnyKeyed(Box<dyn Fn() -> Keyed + Send>);

pub(crate) struct Keyed {
    keys: usize,
    max_keys: usize,
    overflowed: u64,
    refused: Vec<(&'static str, f64)>,
    top_calls: Vec<(&'static str, f64)>,
    top_refused: Vec<(&'static str, f64)>,
}

// === impl AnyKeyed ===

impl AnyKeyed {
    pub(crate) fn new<K, H>(handle: KeyedHandle<K, H>) -> Self
    where
        K: Clone + 'static,
        H: Clone + 'static,
    {
        Self(Box::new(move || {
            let top = |by: fn(&KeyStats) -> u64| {
                let top = handle.top(RANKS.len(), by);
                let numbers = top.iter().map(|(_, stats)| by(stats) as f64);
                RANKS.into_iter().zip(numbers).collect()
            };
            Keyed {
                keys: handle.len(),
                max_keys: handle.max_keys(),
                overflowed: handle.overflowed(),
                refused: refused(REASONS, |reason| handle.refused(reason)),
                top_calls: top(|stats| stats.calls),
                top_refused: top(|stats| stats.refused),
            }
        }))
    }
}

impl Readable for AnyKeyed {
    type Snapshot = Keyed;

    const KIND: &'static str = "stack per key";

    const FAMILIES: &'static [Family<Keyed>] = &[
        Family {
            name: "stockade_keyed_keys",
            help: "Keys with a stack of their own.",
            sort: Gauge,
            values: One(|keyed| keyed.keys as f64),
        },
        Family {
            name: "stockade_keyed_max_keys",
            help: "Keys that may have a stack of their own.",
            sort: Gauge,
            values: One(|keyed| keyed.max_keys as f64),
        },
        Family {
            name: "stockade_keyed_overflowed",
            help: "Calls that shared a stack, because there was no place for their key.",
            sort: Counter,
            values: One(|keyed| keyed.overflowed as f64),
        },
        Family {
            name: "stockade_keyed_refused",
            help: "Calls refused before they reached a stack, by reason.",
            sort: Counter,
            values: Each("reason", |keyed| keyed.refused.clone()),
        },
        Family {
            name: "stockade_keyed_top_calls",
            help: "Calls of the ten keys with the most calls, since each key came.",
            sort: Gauge,
            values: Each("rank", |keyed| keyed.top_calls.clone()),
        },
        Family {
            name: "stockade_keyed_top_refused",
            help: "Refusals by the stacks of the ten keys with the most refusals, since each key came.",
            sort: Gauge,
            values: Each("rank", |keyed| keyed.top_refused.clone()),
        },
    ];

    fn read(&self) -> Option<Keyed> {
        Some((self.0)())
    }
}
