//! What all services of a layer share.

use stockade_core::{
    Budget,
    internal::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};
use tokio::time::Instant;

use crate::{config::Config, delay::Delay};

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) delay: Delay,
    pub(crate) budget: Budget,
    pub(crate) max: u32,
    pub(crate) name: Option<&'static str>,
    pub(crate) enabled: AtomicBool,
    pub(crate) counts: Counts,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) hedged: AtomicU64,
    pub(crate) won: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) over_budget: AtomicU64,
}

/// Pays calls into a budget, a few at a time.
#[derive(Debug)]
pub(crate) struct Deposits {
    budget: Budget,
    calls: u64,
}

/// How many calls are paid in at once.
const BATCH: u64 = 8;

// === impl Shared ===

impl Shared {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            delay: Delay::new(config.rule, Instant::now()),
            budget: config.budget.clone(),
            max: config.max,
            name: config.name,
            enabled: AtomicBool::new(true),
            counts: Counts::default(),
        }
    }

    /// Takes a token for another attempt, if there is one.
    pub(crate) fn may_hedge(&self, now: Instant) -> bool {
        let may = self.budget.withdraw(now);
        let counts = if may { &self.counts.hedged } else { &self.counts.over_budget };
        counts.fetch_add(1, Relaxed);
        self.tell(may);
        may
    }

    fn tell(&self, may: bool) {
        #[cfg(feature = "tracing")]
        tracing::debug!(target: "stockade", layer = "hedge", name = self.name, over_budget = !may, "slow call");
        #[cfg(not(feature = "tracing"))]
        let _ = (self.name, may);
    }

    /// A layer inside refused another attempt.
    pub(crate) fn refused(&self) {
        self.budget.give_back();
        self.counts.refused.fetch_add(1, Relaxed);
    }
}

// === impl Deposits ===

impl Deposits {
    pub(crate) const fn new(budget: Budget) -> Self {
        Self { budget, calls: 0 }
    }

    pub(crate) fn count(&mut self) {
        self.calls += 1;
        if self.calls >= BATCH {
            self.pay();
        }
    }

    fn pay(&mut self) {
        self.budget.deposit(std::mem::take(&mut self.calls));
    }
}

impl Clone for Deposits {
    fn clone(&self) -> Self {
        Self::new(self.budget.clone())
    }
}

impl Drop for Deposits {
    fn drop(&mut self) {
        if self.calls > 0 {
            self.pay();
        }
    }
}
