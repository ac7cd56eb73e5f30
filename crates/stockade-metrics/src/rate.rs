use stockade_rate::RateHandle;

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
