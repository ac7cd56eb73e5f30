use stockade_core::Reason;

use crate::{
    Calls, MeasureHandle,
    family::{
        Distribution, Family, Readable,
        Sort::{Counter, Gauge, Histogram, Seconds},
        Values::{Each, One, Spread},
        refused,
    },
};

/// What is read of measured calls.
pub(crate) struct Read {
    calls: Calls,
    durations: Distribution,
}

impl Readable for MeasureHandle {
    type Snapshot = Read;

    const KIND: &'static str = "measure";

    const FAMILIES: &'static [Family<Read>] = &[
        Family {
            name: "stockade_calls",
            help: "Calls that have ended, by what their result means.",
            sort: Counter,
            values: Each("class", |Read { calls, .. }| {
                vec![
                    ("success", calls.succeeded as f64),
                    ("permanent", calls.permanent as f64),
                    ("transient", calls.transient as f64),
                    ("overload", calls.overload as f64),
                    ("no_effect", calls.no_effect as f64),
                    ("ignored", calls.ignored as f64),
                    ("refused", calls.refused as f64),
                    ("dropped", calls.dropped as f64),
                ]
            }),
        },
        Family {
            name: "stockade_calls_refused",
            help: "Calls that a layer inside refused or ended, by reason.",
            sort: Counter,
            values: Each("reason", |Read { calls, .. }| {
                refused(Reason::ALL, |reason| calls.refused_for(reason))
            }),
        },
        Family {
            name: "stockade_calls_attempts",
            help: "Attempts of calls that have ended, the first ones included.",
            sort: Counter,
            values: One(|read| read.calls.attempts as f64),
        },
        Family {
            name: "stockade_calls_in_flight",
            help: "Calls in flight.",
            sort: Gauge,
            values: One(|read| read.calls.in_flight as f64),
        },
        Family {
            name: "stockade_calls_duration",
            help: "Time that calls took until they were answered.",
            sort: Histogram,
            values: Spread(|read| &read.durations),
        },
        Family {
            name: "stockade_calls_recent",
            help: "Time that calls took until they were answered over the last one or two minutes; quantile 1 is the longest.",
            sort: Seconds,
            values: Each("quantile", |read| {
                let of = read.calls.latency;
                [
                    ("0.5", of.p50),
                    ("0.9", of.p90),
                    ("0.99", of.p99),
                    ("0.999", of.p99_9),
                    ("1", of.max),
                ]
                .map(|(quantile, duration)| (quantile, duration.as_secs_f64()))
                .to_vec()
            }),
        },
    ];

    fn read(&self) -> Option<Read> {
        let (calls, durations) = self.read_all();
        Some(Read { calls, durations })
    }
}
