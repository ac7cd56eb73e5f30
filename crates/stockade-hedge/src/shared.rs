//! What all services of a layer share.

use std::{task::Context, time::Duration};

use stockade_core::{
    Budget, deadline,
    internal::{
        Timer, budget_id, is_paid, lock,
        sync::{
            Mutex,
            atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        },
    },
};
use tokio::time::Instant;

use crate::{Config, Stats, delay::Delay};

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) delay: Delay,
    pub(crate) budget: Budget,
    pub(crate) budget_id: u64,
    pub(crate) max: u32,
    pub(crate) name: Option<&'static str>,
    pub(crate) enabled: AtomicBool,
    start: Instant,
    /// Until when the server is left alone, in nanoseconds since the start. It pairs with nothing.
    quiet_until: AtomicU64,
    /// Only further attempts count, which are few.
    pub(crate) stats: Mutex<Stats>,
}

/// How long a server is left alone that has too much to do, and does not say for how long.
const QUIET: Duration = Duration::from_secs(1);

// === impl Shared ===

impl Shared {
    pub(crate) fn new(config: &Config) -> Self {
        let start = Instant::now();
        let budget = config.budget();
        Self {
            delay: Delay::new(config.rule, start),
            budget_id: budget_id(config.budget.as_ref()),
            budget,
            max: config.max,
            name: config.name.clone().and_then(|name| name.check("Config::name").ok()),
            enabled: AtomicBool::new(true),
            start,
            quiet_until: AtomicU64::new(0),
            stats: Mutex::default(),
        }
    }

    /// Pays for one call, unless a layer outside has paid for it into the same budget.
    pub(crate) fn charge(&self) {
        if !is_paid(self.budget_id) {
            self.budget.deposit(1);
        }
    }

    /// How long the first attempt took that was begun then, or had taken when it lost.
    pub(crate) fn record(&self, begun: Option<Instant>) {
        if let Some(begun) = begun {
            let now = Instant::now();
            self.delay.record(now.saturating_duration_since(begun), now);
        }
    }

    /// The timer for the next attempt, once the delay is known.
    pub(crate) fn timer(&self, cx: &mut Context<'_>) -> Option<Timer> {
        let at = deadline::saturating_add(Instant::now(), self.delay.get()?);
        // What would begin at the deadline or after it is not begun.
        (!deadline::is_too_late(at)).then(|| Timer::register(at, cx))
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
            lock(&self.stats).held_back += 1;
            return false;
        }
        let may = self.budget.withdraw(now);
        let mut stats = lock(&self.stats);
        *(if may { &mut stats.hedged } else { &mut stats.over_budget }) += 1;
        drop(stats);
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
        lock(&self.stats).refused += 1;
    }
}
