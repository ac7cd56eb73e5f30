use std::time::Duration;

use stockade_core::Reason;
use stockade_timeout::TimeoutHandle;

use crate::family::{
    Family, Readable,
    Sort::{Counter, Seconds},
    Values::One,
};

pub(crate) struct Timeout {
    limit: Duration,
    elapsed: u64,
}

impl Readable for TimeoutHandle {
    type Snapshot = Timeout;

    const KIND: &'static str = "timeout";

    const FAMILIES: &'static [Family<Timeout>] = &[
        Family {
            name: "stockade_timeout_limit",
            help: "How long a call may take.",
            sort: Seconds,
            values: One(|timeout| timeout.limit.as_secs_f64()),
        },
        Family {
            name: "stockade_timeout_elapsed",
            help: "Calls that it has ended.",
            sort: Counter,
            values: One(|timeout| timeout.elapsed as f64),
        },
    ];

    fn read(&self) -> Option<Timeout> {
        Some(Timeout { limit: self.limit(), elapsed: self.refused(Reason::Elapsed) })
    }
}
