use stockade_core::Reason;
use stockade_limit::LimitHandle;

use crate::family::{
    Family, Readable,
    Sort::{Counter, Gauge},
    Values::{Each, One},
    refused, refused_of,
};

const REASONS: [Reason; 5] =
    [Reason::QueueFull, Reason::WaitExceeded, Reason::Expired, Reason::PoolClosed, Reason::Shed];

pub(crate) struct Limit {
    in_flight: usize,
    waiting: usize,
    max: usize,
    refused: Vec<(&'static str, f64)>,
    refused_of: Vec<(&'static str, f64)>,
}

impl Readable for LimitHandle {
    type Snapshot = Limit;

    const KIND: &'static str = "limit";

    const FAMILIES: &'static [Family<Limit>] = &[
        Family {
            name: "stockade_limit_in_flight",
            help: "Calls in flight.",
            sort: Gauge,
            values: One(|limit| limit.in_flight as f64),
        },
        Family {
            name: "stockade_limit_waiting",
            help: "Calls waiting in the queue.",
            sort: Gauge,
            values: One(|limit| limit.waiting as f64),
        },
        Family {
            name: "stockade_limit_max",
            help: "Calls allowed in flight at once.",
            sort: Gauge,
            values: One(|limit| limit.max as f64),
        },
        Family {
            name: "stockade_limit_refused",
            help: "Calls refused, by reason.",
            sort: Counter,
            values: Each("reason", |limit| limit.refused.clone()),
        },
        Family {
            name: "stockade_limit_refused_by_priority",
            help: "Calls refused, by priority.",
            sort: Counter,
            values: Each("priority", |limit| limit.refused_of.clone()),
        },
    ];

    fn read(&self) -> Option<Limit> {
        Some(Limit {
            in_flight: self.in_flight(),
            waiting: self.waiting(),
            max: self.max(),
            refused: refused(REASONS, |reason| self.refused(reason)),
            refused_of: refused_of(|priority| self.refused_of(priority)),
        })
    }

    #[cfg(feature = "dashboard")]
    fn order(&self, order: crate::family::Order) -> Option<crate::family::Action> {
        let crate::family::Order::Change(max) = order else { return None };
        let handle = self.clone();
        Some(Box::new(move || {
            let max = usize::try_from(max).unwrap_or(usize::MAX);
            handle.set_max(max).map_err(|error| error.reason())?;
            Ok(None)
        }))
    }
}
