//! What keeps a breaker alive: its layer, its services and its handles, but not its calls.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use stockade_core::{Recycler, Rejected};
use tokio::time::Instant;

use crate::{
    gate::{Gate, Refusal},
    handle::Snapshot,
    settings::Settings,
    state::Stamp,
};

/// The one owner of a gate, which all long-lived parts of a breaker share. When it is dropped, the gate is
/// free for the next breaker, although calls may still be under way.
#[derive(Debug)]
pub(crate) struct Owner {
    gate: &'static Gate,
    name: Option<&'static str>,
    /// Counts calls that are refused, and pairs with nothing.
    refused: AtomicU64,
}

static GATES: Recycler<Gate> = Recycler::new();

// === impl Owner ===

impl Owner {
    pub(crate) fn new(settings: Settings) -> Self {
        let gate = GATES.take(Gate::new);
        gate.begin(settings);
        Self { gate, name: settings.name, refused: AtomicU64::new(0) }
    }

    pub(crate) const fn gate(&self) -> &'static Gate {
        self.gate
    }

    /// Lets a call pass, or refuses it.
    #[cold]
    pub(crate) fn admit(&self) -> Result<Stamp, Rejected> {
        self.gate.admit().map_err(|Refusal { reason, remaining }| {
            self.refused.fetch_add(1, Relaxed);
            let rejected = Rejected::new(&"breaker", reason).with_name(self.name);
            remaining.map_or(rejected, |after| rejected.with_retry_after(after))
        })
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let (now, random) = (Instant::now(), fastrand::f64());
        self.gate.with(|machine| {
            machine.tick(now, random);
            let tally = machine.tally();
            Snapshot {
                state: machine.state(),
                calls: tally.calls,
                failures: tally.failures,
                slow: tally.slow,
                consecutive: machine.consecutive(),
                probes: machine.probes(),
                remaining: machine.remaining(now),
                opened: machine.opened(),
                refused: self.refused.load(Relaxed),
            }
        })
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // Ends the life now, lest its window stays in memory and its receivers wait for the next one.
        self.gate.begin(Settings::default());
        GATES.give_back(self.gate);
    }
}
