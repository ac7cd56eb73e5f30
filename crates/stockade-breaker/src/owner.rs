//! What keeps a breaker alive: its layer, its services and its handles, but not its calls.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use stockade_core::{Rejected, internal::StaticPool};
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

static GATES: StaticPool<Gate> = StaticPool::new();

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

#[cfg(test)]
#[cfg(not(shuttle))]
mod tests {
    use std::{collections::HashSet, ptr, thread};

    use super::*;
    use crate::BreakerLayer;

    /// More than there are tests that make breakers beside these.
    const OTHERS: usize = 16;

    #[test]
    fn thousands_of_breakers_one_after_the_other_share_a_few_gates() {
        let gate = |_| ptr::from_ref(Owner::new(Settings::default()).gate()).addr();
        let gates: HashSet<_> = (0..5_000).map(gate).collect();
        assert!(gates.len() <= 1 + OTHERS, "{}", gates.len());
    }

    #[test]
    fn setters_and_isolated_layers_leave_no_gates_behind() {
        let most = (0..500).map(|_| {
            let layer = BreakerLayer::new().name("search").probes(2).min_calls(3).per_service();
            let services = [(); 2].map(|()| tower_layer::Layer::layer(&layer, ()));
            drop((layer, services));
            let unused = format!("{GATES:?}");
            unused.trim_matches(|c: char| !c.is_ascii_digit()).parse::<usize>().unwrap()
        });
        let most = most.max().unwrap();
        assert!(most <= 3 + OTHERS, "{most}");
    }

    #[test]
    fn no_two_breakers_have_the_same_gate() {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let owner = Owner::new(Settings::default());
                        let fresh = owner.snapshot();
                        assert_eq!((fresh.refused, fresh.opened), (0, 0));
                        owner.gate().with(crate::state::Machine::force_open);
                        owner.admit().unwrap_err();
                        assert_eq!(owner.snapshot().refused, 1);
                    }
                });
            }
        });
    }
}
