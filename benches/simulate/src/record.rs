//! What came of the calls: in each quarter of a second, and in each phase.
//!
//! A call counts where it was made, whenever it ended; a request counts where it reached the server.

use std::{ops::Range, time::Duration};

use hdrhistogram::Histogram;
use stockade::Error;

use crate::{
    scenario::Scenario,
    server::{Answer, Busy, Traffic},
};

/// The width of a [`Bin`](Record::bins).
pub const BIN: Duration = Duration::from_millis(250);

/// So many bins are looked at together to tell whether a fleet has recovered: a second.
const TOGETHER: usize = 4;

/// The part of the calls that have to be good in a fleet that has recovered.
const RECOVERED: f64 = 0.95;

/// What was counted in a run.
#[derive(Clone, Debug)]
pub struct Record {
    /// By time, [`BIN`] each.
    pub bins: Vec<Counts>,
    /// By phase.
    pub phases: Vec<PhaseRecord>,
    begins: Vec<Duration>,
    patience: Duration,
}

/// What was counted in a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that were made.
    pub calls: u64,
    /// Of these, those that were answered while their caller still waited.
    pub good: u64,
    /// Those that were answered later.
    pub late: u64,
    /// Those that ended with an error.
    pub failed: u64,
    /// Requests that reached the server, first ones and repeated ones.
    pub attempts: u64,
    /// Requests that the server did.
    pub done: u64,
    /// Of these, those that nobody waited for any more.
    pub wasted: u64,
}

/// What was counted in a phase.
#[derive(Clone, Debug)]
pub struct PhaseRecord {
    /// The figures.
    pub counts: Counts,
    /// With what the calls that failed ended, the most frequent first once the run is over.
    pub refusals: Vec<Refusal>,
    /// How long those that were answered took, in microseconds.
    pub latency: Histogram<u64>,
}

/// How many calls ended with the same refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The layer that refused, or `server`.
    pub by: &'static str,
    /// Its reason.
    pub reason: &'static str,
    /// How many calls.
    pub calls: u64,
}

// === impl Record ===

impl Record {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let bins = scenario.fleet.duration.get().as_millis().div_ceil(BIN.as_millis()) as usize;
        let begins: Vec<_> = scenario.phases.iter().map(|phase| phase.at()).collect();
        Self {
            bins: vec![Counts::default(); bins],
            phases: begins.iter().map(|_| PhaseRecord::new()).collect(),
            begins,
            patience: scenario.fleet.patience.get(),
        }
    }

    /// A call was made at `at`.
    pub(crate) fn made(&mut self, at: Duration) {
        self.count(at, |counts| counts.calls += 1);
    }

    /// A call that was made at `at` has ended now.
    pub(crate) fn ended(
        &mut self,
        at: Duration,
        now: Duration,
        result: &Result<Answer, Error<Busy>>,
    ) {
        let took = now.saturating_sub(at);
        let good = result.is_ok() && took <= self.patience;
        let phase = self.phase(at);
        match result {
            Ok(Answer) => {
                let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                self.phases[phase].latency.saturating_record(micros.max(1));
            }
            Err(Error::Service(Busy)) => self.phases[phase].refused("server", "busy"),
            Err(Error::Rejected(r)) => self.phases[phase].refused(r.layer(), r.reason().as_str()),
        }
        self.count(at, |counts| match result {
            Ok(_) if good => counts.good += 1,
            Ok(_) => counts.late += 1,
            Err(_) => counts.failed += 1,
        });
    }

    /// A call that was made at `at` was given up by its caller before it was sent.
    pub(crate) fn given_up(&mut self, at: Duration) {
        let phase = self.phase(at);
        self.phases[phase].refused("caller", "gave up");
        self.count(at, |counts| counts.failed += 1);
    }

    /// The server's figures went from `before` to `after`, at `at`.
    pub(crate) fn served(&mut self, at: Duration, before: Traffic, after: Traffic) {
        self.count(at, |counts| {
            counts.attempts += after.arrived - before.arrived;
            counts.done += after.done - before.done;
            counts.wasted += after.wasted - before.wasted;
        });
    }

    /// Nothing more comes, and nothing came after `end`.
    pub(crate) fn finish(&mut self, end: Duration) {
        let bins = end.as_millis().div_ceil(BIN.as_millis()) as usize;
        self.bins.truncate(bins);
        for phase in &mut self.phases {
            phase.refusals.sort_by_key(|refusal| std::cmp::Reverse(refusal.calls));
        }
    }

    /// How long after its beginning the phase from `bounds` was recovered for good: from then on, until its end, of
    /// the calls made in any one second at least 95 % were good. `None` if that did not come, or if the run ended
    /// before.
    pub fn recovered_after(&self, bounds: Range<Duration>) -> Option<Duration> {
        let bin = |at: Duration| at.as_millis().div_ceil(BIN.as_millis()) as usize;
        let (first, last) = (bin(bounds.start), bin(bounds.end).min(self.bins.len()));
        let bins = self.bins.get(first..last).unwrap_or_default();
        let windows = bins.windows(TOGETHER).map(|window| {
            let Counts { good, calls, .. } = Counts::sum(window);
            good as f64 >= RECOVERED * calls as f64
        });
        let windows: Vec<_> = windows.collect();
        let bad = windows.iter().rposition(|recovered| !recovered).map_or(0, |n| n + 1);
        let at = BIN * u32::try_from(first + bad).ok()?;
        (bad < windows.len()).then(|| at.saturating_sub(bounds.start))
    }

    fn phase(&self, at: Duration) -> usize {
        self.begins.partition_point(|begins| *begins <= at).saturating_sub(1)
    }

    fn count(&mut self, at: Duration, count: impl Fn(&mut Counts)) {
        let phase = self.phase(at);
        count(&mut self.phases[phase].counts);
        // After the end only that is left which has no bin: what the server still does.
        let bin = (at.as_nanos() / BIN.as_nanos()) as usize;
        if let Some(bin) = self.bins.get_mut(bin) {
            count(bin);
        }
    }
}

// === impl Counts ===

impl Counts {
    /// All of `counts` together.
    pub fn sum(counts: &[Self]) -> Self {
        counts.iter().fold(Self::default(), |sum, c| Self {
            calls: sum.calls + c.calls,
            good: sum.good + c.good,
            late: sum.late + c.late,
            failed: sum.failed + c.failed,
            attempts: sum.attempts + c.attempts,
            done: sum.done + c.done,
            wasted: sum.wasted + c.wasted,
        })
    }

    /// The part of the calls that were good.
    pub fn goodput(&self) -> f64 {
        share(self.good, self.calls)
    }

    /// How many requests reached the server for each call.
    pub fn attempts(&self) -> f64 {
        share(self.attempts, self.calls)
    }

    /// The part of the server's work that was for nobody.
    pub fn waste(&self) -> f64 {
        share(self.wasted, self.done)
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

// === impl PhaseRecord ===

impl PhaseRecord {
    fn new() -> Self {
        // A day is more than any call can take.
        let latency = Histogram::new_with_bounds(1, 24 * 60 * 60 * 1_000_000, 2)
            .expect("the bounds are constant and in order");
        Self { counts: Counts::default(), refusals: Vec::new(), latency }
    }

    fn refused(&mut self, by: &'static str, reason: &'static str) {
        let known = self.refusals.iter_mut().find(|r| (r.by, r.reason) == (by, reason));
        match known {
            Some(refusal) => refusal.calls += 1,
            None => self.refusals.push(Refusal { by, reason, calls: 1 }),
        }
    }

    /// How long the answered calls took, at the quantile `q`, if there were any.
    pub fn latency_at(&self, q: f64) -> Option<Duration> {
        (!self.latency.is_empty()).then(|| Duration::from_micros(self.latency.value_at_quantile(q)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bin of a hundred calls.
    fn bin(good: u64) -> Counts {
        Counts { calls: 100, good, ..Counts::default() }
    }

    fn record(good: &[u64]) -> Record {
        let bins = good.iter().map(|good| bin(*good)).collect();
        Record { bins, phases: Vec::new(), begins: Vec::new(), patience: BIN }
    }

    #[test]
    fn a_fleet_has_recovered_when_every_second_from_then_on_is_good() {
        let record = record(&[0, 0, 100, 0, 100, 100, 100, 100, 100, 100]);

        assert_eq!(record.recovered_after(Duration::ZERO..BIN * 10), Some(BIN * 4));
        assert_eq!(record.recovered_after(BIN * 2..BIN * 10), Some(BIN * 2));
        assert_eq!(record.recovered_after(BIN * 4..BIN * 10), Some(Duration::ZERO));
    }

    #[test]
    fn a_fleet_that_falls_back_has_not_recovered() {
        let record = record(&[0, 100, 100, 100, 100, 100, 100, 0]);

        assert_eq!(record.recovered_after(Duration::ZERO..BIN * 8), None);
    }

    #[test]
    fn less_than_a_second_says_nothing() {
        let record = record(&[100, 100, 100]);

        assert_eq!(record.recovered_after(Duration::ZERO..BIN * 8), None);
        assert_eq!(record.recovered_after(BIN * 5..BIN * 8), None);
    }
}
