use std::{fmt, sync::Arc, time::Duration};

use stockade_core::Reason;

use super::shard::{Ending, Shared, Tally};
use super::window::Sum;
use crate::family::Distribution;

/// Shows what a [`MeasureLayer`](crate::MeasureLayer) has measured, and switches it off and on.
#[derive(Clone)]
pub struct MeasureHandle {
    shared: Arc<Shared>,
}

/// What a [`MeasureLayer`](crate::MeasureLayer) has counted since it was made; a snapshot.
///
/// Threads go on counting while it is taken, so its numbers may lie some calls apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Calls {
    /// Calls that succeeded.
    pub succeeded: u64,
    /// Calls that failed and would fail again.
    pub permanent: u64,
    /// Calls that failed and may succeed at another time.
    pub transient: u64,
    /// Calls for which the service had too much work.
    pub overload: u64,
    /// Calls that certainly had no effect.
    pub no_effect: u64,
    /// Calls whose result says nothing about the service.
    pub ignored: u64,
    /// Calls that a layer inside refused.
    pub refused: u64,
    /// Calls that were dropped before they were answered, or that panicked.
    pub dropped: u64,
    /// Attempts of all these, the first ones included.
    pub attempts: u64,
    /// Calls that have not ended.
    pub in_flight: usize,
    /// How long calls took until they were answered, over the last one or two minutes.
    pub latency: Percentiles,
    by_reason: [u64; Reason::ALL.len()],
}

/// A distribution of durations: a percentile is at most a sixteenth too high, the longest is exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// How many durations were recorded.
    pub count: u64,
    /// Half of them were no longer than this.
    pub p50: Duration,
    /// 90 % were no longer than this.
    pub p90: Duration,
    /// 99 % were no longer than this.
    pub p99: Duration,
    /// 99.9 % were no longer than this.
    pub p99_9: Duration,
    /// The longest.
    pub max: Duration,
}

// === impl MeasureHandle ===

impl MeasureHandle {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// What was counted until now. It adds up what all threads have counted, so it is for a scrape and not for every
    /// call.
    pub fn calls(&self) -> Calls {
        self.read_all().0
    }

    /// How many calls have not ended.
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight()
    }

    /// Switches the layer on or off. While it is off, calls that begin are not measured.
    pub fn set_enabled(&self, enabled: bool) {
        self.shared.set_enabled(enabled);
    }

    /// Whether the layer is on.
    pub fn is_enabled(&self) -> bool {
        self.shared.is_enabled()
    }

    /// The same, and how long all calls took that were ever answered.
    pub(crate) fn read_all(&self) -> (Calls, Distribution) {
        let (tally, recent) = self.shared.read();
        let by_reason = Reason::ALL.map(|reason| self.shared.refused(reason));
        let in_flight = self.shared.in_flight();
        (Calls::new(&tally, &recent, by_reason, in_flight), tally.distribution())
    }
}

impl fmt::Debug for MeasureHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeasureHandle")
            .field("calls", &self.calls())
            .field("enabled", &self.is_enabled())
            .finish()
    }
}

// === impl Calls ===

impl Calls {
    fn new(
        tally: &Tally,
        recent: &Sum,
        by_reason: [u64; Reason::ALL.len()],
        in_flight: usize,
    ) -> Self {
        Self {
            succeeded: tally.of(Ending::Success),
            permanent: tally.of(Ending::Permanent),
            transient: tally.of(Ending::Transient),
            overload: tally.of(Ending::Overload),
            no_effect: tally.of(Ending::NoEffect),
            ignored: tally.of(Ending::Ignored),
            refused: tally.of(Ending::Refused),
            dropped: tally.of(Ending::Dropped),
            attempts: tally.attempts,
            in_flight,
            latency: Percentiles::of(recent),
            by_reason,
        }
    }

    /// Calls that have ended, in whatever way.
    pub fn ended(&self) -> u64 {
        self.succeeded
            + self.permanent
            + self.transient
            + self.overload
            + self.no_effect
            + self.ignored
            + self.refused
            + self.dropped
    }

    /// Calls that a layer inside refused, or ended, as a timeout does, for `reason`.
    pub fn refused_for(&self, reason: Reason) -> u64 {
        self.by_reason[reason as usize]
    }
}

// === impl Percentiles ===

impl Percentiles {
    fn of(recent: &Sum) -> Self {
        if recent.count() == 0 {
            return Self::default();
        }
        Self {
            count: recent.count(),
            p50: recent.at(0.5),
            p90: recent.at(0.9),
            p99: recent.at(0.99),
            p99_9: recent.at(0.999),
            max: recent.longest(),
        }
    }
}
