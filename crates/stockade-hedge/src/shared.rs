//! What all services of a layer share.

use std::{sync::atomic::AtomicBool, task::Context, time::Duration};

use stockade_core::{
    Budget, deadline,
    internal::{Timer, budget_id, is_paid, lock, sync::Mutex},
};
use tokio::time::Instant;

use crate::{Config, Stats, delay::Delay};

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) name: Option<&'static str>,
    pub(crate) enabled: AtomicBool,
    pub(crate) delay: Delay,
    pub(crate) budget_id: u64,
    budget: Budget,
    pub(crate) state: Mutex<State>,
}

/// What only further attempts look at, which are few.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) stats: Stats,
    /// Until when the server is left alone.
    quiet_until: Option<Instant>,
}

/// How long a server is left alone that has too much to do, and does not say for how long.
const QUIET: Duration = Duration::from_secs(1);

// === impl Shared ===

impl Shared {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            name: config.name.clone().and_then(|name| name.check("").ok()),
            enabled: AtomicBool::new(true),
            delay: Delay::new(config.rule, Instant::now()),
            budget_id: budget_id(config.budget.as_ref()),
            budget: config.budget.clone().unwrap_or_else(|| Budget::new(0.05, 1.0)),
            state: Mutex::default(),
            config,
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
    pub(crate) fn hold_back(&self, after: Option<Duration>) {
        let until = deadline::saturating_add(Instant::now(), after.unwrap_or(QUIET));
        let mut state = lock(&self.state);
        state.quiet_until = state.quiet_until.max(Some(until));
    }

    /// Takes a token for another attempt, if there is one and the server is not left alone.
    pub(crate) fn may_hedge(&self) -> bool {
        let now = Instant::now();
        let mut state = lock(&self.state);
        if state.quiet_until.is_some_and(|until| now < until) {
            state.stats.held_back += 1;
            return false;
        }
        let may = self.budget.withdraw(now);
        let stats = &mut state.stats;
        *(if may { &mut stats.hedged } else { &mut stats.over_budget }) += 1;
        drop(state);
        #[cfg(feature = "tracing")]
        tracing::debug!(target: "stockade", layer = "hedge", name = self.name, over_budget = !may, "slow call");
        may
    }

    /// A further attempt gave the answer.
    pub(crate) fn won(&self) {
        lock(&self.state).stats.won += 1;
    }

    /// A layer inside refused another attempt.
    pub(crate) fn refused(&self) {
        self.budget.give_back();
        lock(&self.state).stats.refused += 1;
    }
}
