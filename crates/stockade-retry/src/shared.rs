//! What all who share a layer share: the configuration, the budget, the counts and the source of chance.

use fastrand::Rng;
use stockade_core::{
    Budget,
    internal::{
        lock,
        sync::{
            Mutex,
            atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        },
    },
};

use crate::{Config, Stats};

pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) name: Option<&'static str>,
    enabled: AtomicBool,
    budget: Mutex<Budget>,
    counts: Counts,
    /// With a seed: each call that waits forks its own.
    rng: Option<Mutex<Rng>>,
}

/// Counted where something is repeated or given up, never for a call that goes well.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) retried: AtomicU64,
    pub(crate) recovered: AtomicU64,
    pub(crate) refusal_waits: AtomicU64,
    gave_up: [AtomicU64; 7],
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
        Self {
            name: config.checked_name().ok().flatten(),
            enabled: AtomicBool::new(true),
            budget: Mutex::new(config.budget.clone().unwrap_or_default()),
            counts: Counts::default(),
            rng: config.seed.map(|seed| Mutex::new(Rng::with_seed(seed))),
            config,
        }
    }

    #[inline]
    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled.load(Relaxed)
    }

    pub(crate) fn set_enabled(&self, enabled: bool) {
        self.enabled.store(enabled, Relaxed);
    }

    pub(crate) fn budget(&self) -> Budget {
        lock(&self.budget).clone()
    }

    pub(crate) fn set_budget(&self, budget: Budget) {
        let before = std::mem::replace(&mut *lock(&self.budget), budget);
        drop(before);
    }

    /// A source of chance for one call.
    pub(crate) fn rng(&self) -> Rng {
        self.rng.as_ref().map_or_else(Rng::new, |rng| lock(rng).fork())
    }

    pub(crate) const fn counts(&self) -> &Counts {
        &self.counts
    }
}

// === impl Counts ===

impl Counts {
    pub(crate) fn gave_up(&self, why: GaveUp) {
        self.gave_up[why as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn stats(&self) -> Stats {
        let gave_up = |why: GaveUp| self.gave_up[why as usize].load(Relaxed);
        Stats {
            retried: self.retried.load(Relaxed),
            recovered: self.recovered.load(Relaxed),
            refusal_waits: self.refusal_waits.load(Relaxed),
            exhausted: gave_up(GaveUp::Exhausted),
            over_budget: gave_up(GaveUp::OverBudget),
            too_late: gave_up(GaveUp::TooLate),
            not_repeatable: gave_up(GaveUp::NotRepeatable),
            refused: gave_up(GaveUp::Refused),
            permanent: gave_up(GaveUp::Permanent),
            ignored: gave_up(GaveUp::Ignored),
        }
    }
}

// === impl GaveUp ===

impl GaveUp {
    /// The label in events and metrics.
    #[cfg(feature = "tracing")]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::OverBudget => "over_budget",
            Self::TooLate => "too_late",
            Self::NotRepeatable => "not_repeatable",
            Self::Refused => "refused",
            Self::Permanent => "permanent",
            Self::Ignored => "ignored",
        }
    }
}
