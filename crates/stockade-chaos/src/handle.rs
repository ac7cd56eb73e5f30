//! The switch of the faults, how often they come, and how many there were.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
};

use fastrand::Rng;
use stockade_core::{
    ConfigError,
    internal::{lock, sync::Mutex},
};

use crate::{ChaosFault, Config};

/// Turns a [`ChaosLayer`](crate::ChaosLayer) on and off, changes its faults, and counts what it did. Cheap to clone.
#[derive(Clone)]
pub struct ChaosHandle(pub(crate) Arc<Shared>);

stockade_core::switch!(ChaosHandle);

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
    pub(crate) name: Option<&'static str>,
    pub(crate) seed: u64,
    pub(crate) enabled: AtomicBool,
    state: Mutex<State>,
}

/// How often each fault comes, where chance comes from, and what came of it.
#[derive(Debug)]
struct State {
    config: Config,
    rng: Rng,
    counts: Counts,
}

// === impl ChaosHandle ===

impl ChaosHandle {
    /// What it did so far.
    pub fn counts(&self) -> Counts {
        lock(&self.0.state).counts
    }

    /// What befalls the next call, which is counted: for what is no call of a service. `None`: nothing, as always while
    /// chaos is off.
    pub fn draw(&self) -> Option<ChaosFault> {
        self.is_enabled().then(|| self.0.draw()).flatten()
    }

    /// How often each fault comes.
    pub fn config(&self) -> Config {
        self.0.config()
    }

    /// Changes how often each fault comes, for calls that begin from now on. The name stays, and so does how often a
    /// call fails with what a function makes.
    ///
    /// # Errors
    ///
    /// If a value is not allowed. Then nothing changes.
    pub fn set(&self, config: Config) -> Result<(), ConfigError> {
        config.check()?;
        let mut state = lock(&self.0.state);
        let Config { error, name, .. } = state.config;
        state.config = Config { error, name, ..config };
        Ok(())
    }
}

impl fmt::Debug for ChaosHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChaosHandle")
            .field("name", &self.0.name)
            .field("enabled", &self.is_enabled())
            .field("counts", &self.counts())
            .finish()
    }
}

// === impl Shared ===

impl Shared {
    pub(crate) fn new(config: Config, seed: u64) -> Self {
        let state = State { config, rng: Rng::with_seed(seed), counts: Counts::default() };
        let enabled = AtomicBool::new(false);
        Self { name: config.name, seed, enabled, state: Mutex::new(state) }
    }

    pub(crate) fn config(&self) -> Config {
        lock(&self.state).config
    }

    /// What befalls the next call.
    pub(crate) fn draw(&self) -> Option<ChaosFault> {
        let mut state = lock(&self.state);
        let State { config, rng, counts } = &mut *state;
        let fault = ChaosFault::draw(config, rng)?;
        *match fault {
            ChaosFault::Slow(_) => &mut counts.slow,
            ChaosFault::Error => &mut counts.errors,
            ChaosFault::Reject => &mut counts.rejected,
            ChaosFault::Hang => &mut counts.hung,
            ChaosFault::Panic => &mut counts.panicked,
        } += 1;
        drop(state);
        #[cfg(feature = "tracing")]
        tracing::debug!(target: "stockade", layer = "chaos", name = self.name, ?fault, "made up a fault");
        Some(fault)
    }
}
