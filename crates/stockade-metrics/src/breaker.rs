use stockade_breaker::{BreakerHandle, Snapshot, State};
use stockade_core::Reason;

use crate::family::{
    Family, Readable,
    Sort::{Counter, Gauge, Seconds},
    Values::{Each, One},
};

const STATES: [State; 4] = [State::Closed, State::Open, State::HalfOpen, State::ForcedOpen];

impl Readable for BreakerHandle {
    type Snapshot = Snapshot;

    const KIND: &'static str = "breaker";

    const FAMILIES: &'static [Family<Snapshot>] = &[
        Family {
            name: "stockade_breaker_state",
            help: "1 for the current state, 0 for the others.",
            sort: Gauge,
            values: Each("state", |breaker| {
                STATES.map(|of| (of.label(), f64::from(breaker.state == of))).to_vec()
            }),
        },
        Family {
            name: "stockade_breaker_opened",
            help: "How often it has opened.",
            sort: Counter,
            values: One(|breaker| breaker.opened as f64),
        },
        Family {
            name: "stockade_breaker_refused",
            help: "Calls refused, by reason.",
            sort: Counter,
            values: Each("reason", |breaker| {
                let forced = breaker.refused_forced_open;
                vec![
                    (Reason::BreakerOpen.label(), (breaker.refused - forced) as f64),
                    (Reason::ForcedOpen.label(), forced as f64),
                ]
            }),
        },
        Family {
            name: "stockade_breaker_window_calls",
            help: "Calls in the window.",
            sort: Gauge,
            values: One(|breaker| breaker.calls.into()),
        },
        Family {
            name: "stockade_breaker_window_failures",
            help: "Calls in the window that failed.",
            sort: Gauge,
            values: One(|breaker| breaker.failures.into()),
        },
        Family {
            name: "stockade_breaker_window_slow",
            help: "Calls in the window that were slow.",
            sort: Gauge,
            values: One(|breaker| breaker.slow.into()),
        },
        Family {
            name: "stockade_breaker_consecutive_failures",
            help: "Failures since the last success.",
            sort: Gauge,
            values: One(|breaker| breaker.consecutive.into()),
        },
        Family {
            name: "stockade_breaker_probes",
            help: "Probes in flight.",
            sort: Gauge,
            values: One(|breaker| breaker.probes as f64),
        },
        Family {
            name: "stockade_breaker_open_remaining",
            help: "Time until it lets probes through, 0 if it is not open.",
            sort: Seconds,
            values: One(|breaker| breaker.remaining.unwrap_or_default().as_secs_f64()),
        },
    ];

    fn read(&self) -> Option<Snapshot> {
        Some(self.snapshot())
    }

    #[cfg(feature = "dashboard")]
    fn order(&self, order: crate::family::Order) -> Option<crate::family::Action> {
        if order != crate::family::Order::ForceOpen {
            return None;
        }
        let handle = self.clone();
        Some(Box::new(move || Ok(Some(Box::new(handle.force_open())))))
    }
}
