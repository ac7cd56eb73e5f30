//! What all services of a layer share.

use std::time::Duration;

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
    start: Instant,
    /// Until when the server is left alone, in nanoseconds since the start. It pairs with nothing.
    quiet_until: AtomicU64,
    pub(crate) counts: Counts,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) hedged: AtomicU64,
    pub(crate) won: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) over_budget: AtomicU64,
    pub(crate) held_back: AtomicU64,
}

/// How long a server is left alone that has too much to do, and does not say for how long.
const QUIET: Duration = Duration::from_secs(1);

// === impl Shared ===

impl Shared {
    pub(crate) fn new(config: &Config) -> Self {
        let start = Instant::now();
        Self {
            delay: Delay::new(config.rule, start),
            budget: config.budget(),
            max: config.max,
            name: config.name.clone().and_then(|name| name.check("Config::name").ok()),
            enabled: AtomicBool::new(true),
            start,
            quiet_until: AtomicU64::new(0),
            counts: Counts::default(),
        }
    }

    /// The server has too much to do: no further attempt is begun for as long as it says, or for a second.
    pub(crate) fn hold_back(&self, after: Option<Duration>, now: Instant) {
        let until =
            now.saturating_duration_since(self.start).saturating_add(after.unwrap_or(QUIET));
        self.quiet_until.fetch_max(until.as_nanos() as u64, Relaxed);
    }

    /// Takes a token for another attempt, if there is one and the server is not left alone.
    pub(crate) fn may_hedge(&self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.start).as_nanos() as u64;
        if since < self.quiet_until.load(Relaxed) {
            self.counts.held_back.fetch_add(1, Relaxed);
            return false;
        }
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
