//! What an operator sees and sets while the layer works.

use std::{fmt, sync::Arc};

use stockade_core::{Budget, ConfigError, Name};

use crate::{Config, shared::Shared};

/// Shows what a layer, its clones and the services they make have repeated and given up, and changes some of it
/// while they work.
///
/// It keeps no service alive, and is cheap to clone.
///
/// # Example
///
/// ```
/// use stockade_retry::{Budget, RetryLayer};
/// use tower::ServiceBuilder;
///
/// let (retry, handle) = RetryLayer::max_attempts(3).name("search").with_handle();
/// let stack = ServiceBuilder::new().layer(retry);
/// assert_eq!(handle.stats().retried, 0);
/// assert_eq!(handle.config().max_attempts, 3);
/// handle.set_budget(Budget::new(0.05, 1.0));
/// ```
#[derive(Clone)]
pub struct RetryHandle(pub(crate) Arc<Shared>);

stockade_core::switch!(RetryHandle);

/// What was repeated and what was given up, since the layer was made.
///
/// A call that succeeds at once is not counted, so that it costs nothing: count the calls outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Further attempts, without the first one of each call. Counted when it is decided on, before the wait for it.
    pub retried: u64,
    /// Calls that succeeded at a further attempt, or after a wait for a refusal.
    pub recovered: u64,
    /// Waits after a refusal by a layer inside: see [`retry_refusals`](crate::RetryLayer::retry_refusals).
    pub refusal_waits: u64,
    /// Calls given up because they had all their attempts.
    pub exhausted: u64,
    /// Calls given up because the budget had no token left.
    pub over_budget: u64,
    /// Calls given up because the next attempt would have started at the deadline or later, or at
    /// [`max_elapsed`](crate::RetryLayer::max_elapsed) or later.
    pub too_late: u64,
    /// Calls given up because the request could not be repeated, or must not be.
    pub not_repeatable: u64,
    /// Calls that ended because a layer inside refused them.
    pub refused: u64,
    /// Calls that failed in a way that another attempt would not change.
    pub permanent: u64,
    /// Calls whose result says nothing about the service.
    pub ignored: u64,
}

// === impl RetryHandle ===

impl RetryHandle {
    /// What was counted so far, all of it at one moment.
    pub fn stats(&self) -> Stats {
        self.0.stats()
    }

    /// The name of the layer, if it has one.
    pub fn name(&self) -> Option<&'static str> {
        self.0.name
    }

    /// What is configured, with the budget that is in use now.
    pub fn config(&self) -> Config {
        let config = Config::clone(&self.0.config().0);
        Config { budget: Some(self.budget()), name: self.name().map(Name::from), ..config }
    }

    /// Replaces the configuration, except for name and seed. Calls that are under way keep the one that they began
    /// with to their end; only a budget holds for all at once. With `None` for it the budget stays.
    ///
    /// Each clone of a service looks at the new one with its next call, which allocates a little. One that is only
    /// cloned, and never called itself, hands that on to each of its clones.
    ///
    /// # Errors
    ///
    /// If a value is not allowed. Then nothing changes.
    pub fn set(&self, config: Config) -> Result<(), ConfigError> {
        config.check("Config")?;
        self.0.set(config);
        Ok(())
    }

    /// The budget that is in use.
    pub fn budget(&self) -> Budget {
        self.0.budget()
    }

    /// Replaces the budget. Calls that are under way use the new one from their next attempt on.
    pub fn set_budget(&self, budget: Budget) {
        self.0.set_budget(budget);
    }
}

impl fmt::Debug for RetryHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryHandle")
            .field("name", &self.name())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

// === impl Stats ===

impl Stats {
    /// Calls given up: all that failed and were not tried again, without those that a layer inside refused and those
    /// that were [`ignored`](Self::ignored).
    pub const fn gave_up(&self) -> u64 {
        self.exhausted + self.over_budget + self.too_late + self.not_repeatable + self.permanent
    }
}
