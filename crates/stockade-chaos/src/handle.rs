//! The switch of the faults, and how many there were.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use fastrand::Rng;
use stockade_core::internal::{lock, sync::Mutex};

use crate::{config::Config, fault::Fault};

/// Turns a [`ChaosLayer`](crate::ChaosLayer) on and off, and counts what it did. Cheap to clone.
#[derive(Clone)]
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
    /// Where chance comes from, and what came of it.
    drawn: Mutex<(Rng, Counts)>,
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
        lock(&self.0.drawn).1
    }
}

impl fmt::Debug for ChaosHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChaosHandle")
            .field("name", &self.0.config.name)
            .field("enabled", &self.is_enabled())
            .field("counts", &self.counts())
            .finish()
    }
}

// === impl Shared ===

impl Shared {
    pub(crate) fn new(config: Config, seed: u64) -> Self {
        let drawn = Mutex::new((Rng::with_seed(seed), Counts::default()));
        Self { config, enabled: AtomicBool::new(false), drawn }
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled.load(Relaxed)
    }

    /// What befalls the next call.
    pub(crate) fn draw(&self) -> Option<Fault> {
        let mut drawn = lock(&self.drawn);
        let (rng, counts) = &mut *drawn;
        let fault = Fault::draw(&self.config, rng)?;
        *match fault {
            Fault::Slow(_) => &mut counts.slow,
            Fault::Error => &mut counts.errors,
            Fault::Reject => &mut counts.rejected,
            Fault::Hang => &mut counts.hung,
            Fault::Panic => &mut counts.panicked,
        } += 1;
        drop(drawn);
        #[cfg(feature = "tracing")]
        tracing::debug!(target: "stockade", layer = "chaos", name = self.config.name, ?fault, "made up a fault");
        Some(fault)
    }
}
