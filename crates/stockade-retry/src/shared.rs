//! What all who share a layer share: the configuration, the budget, the counts and the source of chance.

use std::sync::Arc;

use fastrand::Rng;
use stockade_core::{
    Budget, Name,
    internal::{
        budget_id, lock,
        sync::{
            Mutex,
            atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
        },
    },
};

use crate::{Config, Stats};

pub(crate) struct Shared {
    /// What new accounts begin with.
    config: Mutex<Arc<Config>>,
    /// How often it has been replaced, or the budget.
    version: AtomicU32,
    pub(crate) name: Option<&'static str>,
    pub(crate) enabled: AtomicBool,
    budget: Mutex<Budget>,
    /// Which budget that is, or 0 while it is one that no other layer has. Written under its lock.
    budget_id: AtomicU64,
    stats: Mutex<Stats>,
    /// With a seed: each call that waits forks its own.
    rng: Option<Mutex<Rng>>,
}

/// Why a call is not tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GaveUp {
    Exhausted,
    OverBudget,
    TooLate,
    NotRepeatable,
    Refused,
    Permanent,
    Ignored,
}

// === impl Shared ===

impl Shared {
    /// `config` has been checked.
    pub(crate) fn new(config: Config) -> Self {
        let budget = config.budget.clone().unwrap_or_default();
        Self {
            name: Name::known(config.name.as_ref()),
            enabled: AtomicBool::new(true),
            budget_id: AtomicU64::new(budget_id(config.budget.as_ref())),
            budget: Mutex::new(budget),
            stats: Mutex::default(),
            rng: config.seed.map(|seed| Mutex::new(Rng::with_seed(seed))),
            config: Mutex::new(Arc::new(config)),
            version: AtomicU32::new(0),
        }
    }

    /// The configuration, and its version.
    pub(crate) fn config(&self) -> (Arc<Config>, u32) {
        let config = lock(&self.config);
        (Arc::clone(&config), self.version())
    }

    /// How often the configuration or the budget has been replaced.
    #[inline]
    pub(crate) fn version(&self) -> u32 {
        self.version.load(Relaxed)
    }

    /// `config` has been checked. Name and seed stay as they are.
    pub(crate) fn set(&self, mut config: Config) {
        if let Some(budget) = config.budget.clone() {
            self.set_budget(budget);
        }
        let mut current = lock(&self.config);
        (config.name, config.seed) = (current.name.clone(), current.seed);
        let before = std::mem::replace(&mut *current, Arc::new(config));
        self.version.fetch_add(1, Relaxed);
        drop(current);
        drop(before);
    }

    #[inline]
    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled.load(Relaxed)
    }

    pub(crate) fn budget(&self) -> Budget {
        lock(&self.budget).clone()
    }

    pub(crate) fn set_budget(&self, budget: Budget) {
        let mut current = lock(&self.budget);
        self.budget_id.store(budget_id(Some(&budget)), Relaxed);
        let before = std::mem::replace(&mut *current, budget);
        self.version.fetch_add(1, Relaxed);
        drop(current);
        drop(before);
    }

    /// Which budget that is, for other layers; 0 while no other layer has it.
    pub(crate) fn budget_id(&self) -> u64 {
        self.budget_id.load(Relaxed)
    }

    /// A source of chance for one call.
    pub(crate) fn rng(&self) -> Rng {
        self.rng.as_ref().map_or_else(Rng::new, |rng| lock(rng).fork())
    }

    pub(crate) fn stats(&self) -> Stats {
        *lock(&self.stats)
    }

    /// Counts what is repeated or given up. A call that goes well is not counted.
    pub(crate) fn count<R>(&self, count: impl FnOnce(&mut Stats) -> R) -> R {
        count(&mut lock(&self.stats))
    }
}

// === impl GaveUp ===

impl GaveUp {
    /// Counts it. Returns its label for events, which is that of the metrics too.
    pub(crate) const fn count(self, stats: &mut Stats) -> &'static str {
        let (count, label) = match self {
            Self::Exhausted => (&mut stats.exhausted, "exhausted"),
            Self::OverBudget => (&mut stats.over_budget, "over_budget"),
            Self::TooLate => (&mut stats.too_late, "too_late"),
            Self::NotRepeatable => (&mut stats.not_repeatable, "not_repeatable"),
            Self::Refused => (&mut stats.refused, "refused"),
            Self::Permanent => (&mut stats.permanent, "permanent"),
            Self::Ignored => (&mut stats.ignored, "ignored"),
        };
        *count += 1;
        label
    }
}
