use stockade_retry::{RetryHandle, Stats};

use crate::family::{
    Family, Readable,
    Sort::Counter,
    Values::{Each, One},
};

impl Readable for RetryHandle {
    type Snapshot = Stats;

    const KIND: &'static str = "retry";

    const FAMILIES: &'static [Family<Stats>] = &[
        Family {
            name: "stockade_retry_retries",
            help: "Attempts after the first one of a call.",
            sort: Counter,
            values: One(|retry| retry.retried as f64),
        },
        Family {
            name: "stockade_retry_recovered",
            help: "Calls that succeeded after a retry.",
            sort: Counter,
            values: One(|retry| retry.recovered as f64),
        },
        Family {
            name: "stockade_retry_refusal_waits",
            help: "Waits after a refusal by a layer inside.",
            sort: Counter,
            values: One(|retry| retry.refusal_waits as f64),
        },
        Family {
            name: "stockade_retry_gave_up",
            help: "Calls that failed and were not tried again, by the reason.",
            sort: Counter,
            values: Each("reason", |retry| {
                vec![
                    ("exhausted", retry.exhausted as f64),
                    ("over_budget", retry.over_budget as f64),
                    ("too_late", retry.too_late as f64),
                    ("not_repeatable", retry.not_repeatable as f64),
                    ("refused", retry.refused as f64),
                    ("permanent", retry.permanent as f64),
                    ("ignored", retry.ignored as f64),
                ]
            }),
        },
    ];

    fn read(&self) -> Option<Stats> {
        Some(self.stats())
    }
}
