//! The switch of the faults, and how many there were.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use fastrand::Rng;
use stockade_core::internal::{lock, sync::Mutex};

use crate::{config::Config, fault::Fault};

/// Turns a [`ChaosLayer`](crate::ChaosLayer) on and off, and counts what it did. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ChaosHandle(Arc<Shared>);

/// How many calls each fault befell since the layer was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Calls whose answer was held back.
    pub slow: u64,
    /// Calls that failed.
    pub errors: u64,
    /// Calls that were refused.
    pub rejected: u64,
    /// Calls that never ended by themselves.
    pub hung: u64,
    /// Calls that panicked.
    pub panicked: u64,
}

/// What all services of a layer share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    enabled: AtomicBool,
    rng: Mutex<Rng>,
    counts: [AtomicU64; 5],
}

// === impl ChaosHandle ===

impl ChaosHandle {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Turns chaos on or off, for calls that begin from now on.
    pub fn set_enabled(&self, enabled: bool) {
        self.0.enabled.store(enabled, Relaxed);
    }

    /// Whether it is on.
    pub fn is_enabled(&self) -> bool {
        self.0.enabled.load(Relaxed)
    }

    /// What it did so far.
    pub fn counts(&self) -> Counts {
        let [slow, errors, rejected, hung, panicked] =
            self.0.counts.each_ref().map(|count| count.load(Relaxed));
        Counts { slow, errors, rejected, hung, panicked }
    }
}

// === impl Shared ===

impl Shared {
    pub(crate) fn new(config: Config, seed: u64) -> Self {
        let rng = Mutex::new(Rng::with_seed(seed));
        Self { config, enabled: AtomicBool::new(false), rng, counts: Default::default() }
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled.load(Relaxed)
    }

    /// What befalls the next call.
    pub(crate) fn draw(&self) -> Option<Fault> {
        let fault = Fault::draw(&self.config, &mut lock(&self.rng))?;
        let index = match fault {
            Fault::Slow(_) => 0,
            Fault::Error => 1,
            Fault::Reject => 2,
            Fault::Hang => 3,
            Fault::Panic => 4,
        };
        self.counts[index].fetch_add(1, Relaxed);
        #[cfg(feature = "tracing")]
        tracing::debug!(target: "stockade", layer = "chaos", name = self.config.name, ?fault, "made up a fault");
        Some(fault)
    }
}
