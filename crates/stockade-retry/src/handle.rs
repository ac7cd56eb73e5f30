//! What all clones share: the pool of the budget, what was counted, and the source of chance.

use std::{fmt, sync::Arc};

use fastrand::Rng;
use stockade_core::internal::lock;
use stockade_core::internal::sync::Mutex;
use tokio::time::Instant;

use crate::budget::{Budget, Pool};

/// Shows what a layer, all its clones and the services they made have repeated and given up.
///
/// It changes nothing and keeps no service alive. It is cheap to clone.
///
/// # Example
///
/// ```
/// use stockade_retry::RetryLayer;
/// use tower::ServiceBuilder;
///
/// let retry = RetryLayer::max_attempts(3).name("search");
/// let handle = retry.handle();
/// let stack = ServiceBuilder::new().layer(retry);
/// assert_eq!(handle.stats().retried, 0);
/// ```
#[derive(Clone)]
pub struct RetryHandle {
    state: Arc<State>,
    name: Option<&'static str>,
}

/// What was repeated and what was given up, since the layer was made.
///
/// A call that succeeds at once is not counted, so that it costs nothing: count the calls outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Further attempts, the first one of each call not included. One is counted when it is decided on,
    /// before the wait for it.
    pub retried: u64,
    /// Calls that succeeded at a further attempt.
    pub recovered: u64,
    /// Calls given up because they had all the attempts that are allowed.
    pub exhausted: u64,
    /// Calls given up because the budget had no token left.
    pub over_budget: u64,
    /// Calls given up because the next attempt would have begun after the deadline, or after
    /// [`max_elapsed`](crate::RetryLayer::max_elapsed).
    pub too_late: u64,
    /// Calls given up because the request could not, or was not to be repeated.
    pub not_repeatable: u64,
    /// Calls given up because they would have failed again.
    pub permanent: u64,
}

/// Why a call is not tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GaveUp {
    Exhausted,
    OverBudget,
    TooLate,
    NotRepeatable,
    Permanent,
}

/// Shared by all clones. Locked when something is repeated or given up, and once in a batch of calls.
#[derive(Debug)]
pub(crate) struct State(Mutex<Ledger>);

#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) pool: Pool,
    stats: Stats,
    /// Of a layer with a seed: each call that is repeated forks its own.
    rng: Option<Rng>,
}

// === impl RetryHandle ===

impl RetryHandle {
    pub(crate) const fn new(state: Arc<State>, name: Option<&'static str>) -> Self {
        Self { state, name }
    }

    /// What was counted so far, all of it at one moment.
    pub fn stats(&self) -> Stats {
        self.state.with(|ledger| ledger.stats)
    }

    /// The name that the user gave to the layer, if any.
    pub const fn name(&self) -> Option<&'static str> {
        self.name
    }
}

impl fmt::Debug for RetryHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryHandle")
            .field("name", &self.name)
            .field("stats", &self.stats())
            .finish()
    }
}

// === impl Stats ===

impl Stats {
    /// Calls given up, for whatever reason.
    pub const fn gave_up(&self) -> u64 {
        self.exhausted + self.over_budget + self.too_late + self.not_repeatable + self.permanent
    }
}

// === impl GaveUp ===

impl GaveUp {
    #[cfg(feature = "tracing")]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "attempts exhausted",
            Self::OverBudget => "over budget",
            Self::TooLate => "too late",
            Self::NotRepeatable => "not repeatable",
            Self::Permanent => "permanent",
        }
    }
}

// === impl State ===

impl State {
    /// The clock is read here, so that the calls until the first retry are taken for what they are worth.
    pub(crate) fn new() -> Self {
        let pool = Pool::new(Instant::now());
        Self(Mutex::new(Ledger { pool, stats: Stats::default(), rng: None }))
    }

    /// No code of a user runs in `f`.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Ledger) -> R) -> R {
        f(&mut lock(&self.0))
    }

    /// A source of chance for one call.
    pub(crate) fn rng(&self, seed: Option<u64>) -> Rng {
        match seed {
            None => Rng::new(),
            Some(seed) => {
                self.with(|ledger| ledger.rng.get_or_insert_with(|| Rng::with_seed(seed)).fork())
            }
        }
    }

    pub(crate) fn recovered(&self) {
        self.with(|ledger| ledger.stats.recovered += 1);
    }

    pub(crate) fn gave_up(&self, reason: GaveUp) {
        self.with(|Ledger { stats, .. }| {
            *match reason {
                GaveUp::Exhausted => &mut stats.exhausted,
                GaveUp::OverBudget => &mut stats.over_budget,
                GaveUp::TooLate => &mut stats.too_late,
                GaveUp::NotRepeatable => &mut stats.not_repeatable,
                GaveUp::Permanent => &mut stats.permanent,
            } += 1;
        });
    }
}

// === impl Ledger ===

impl Ledger {
    /// Takes a token for a further attempt, if the budget has one.
    pub(crate) fn retry(&mut self, budget: &Budget, now: Instant) -> bool {
        let allowed = self.pool.withdraw(budget, now);
        self.stats.retried += u64::from(allowed);
        allowed
    }
}
