//! The way back from open to closed: a few probes first, then, if configured, a ramp.
//!
//! Nothing happens by itself: a probe that takes too long is noticed when the next call comes, a probe ends or
//! the state is read.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    Config,
    window::{Outcome, Tally},
};

/// The probes of one recovery.
///
/// As many as are configured can be out at once, and have to succeed. One that fails ends the recovery. One that
/// is overdue has failed too, but the service may be well and this call alone be stuck: so it is
/// replaced, and ends the recovery only when as many are overdue as have succeeded.
#[derive(Debug)]
pub(crate) struct Probes {
    /// After what time one is overdue.
    timeout: Duration,
    /// When those that are out were admitted. There are few of them, so it is searched.
    running: Vec<Instant>,
    succeeded: u32,
    failed: u32,
    slow: u32,
}

/// Where a recovery is after a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    GoesOn,
    Succeeded,
    Failed,
}

/// A growing share of the calls passes.
#[derive(Debug)]
pub(crate) struct Ramp {
    since: Instant,
    /// The shares of the calls that came, less the calls that passed. A call passes when it reaches one, so
    /// calls pass as evenly as possible, and none of it is random.
    credit: f64,
}

/// The share of the calls that passes where a ramp begins. Without calls there is nothing to learn from.
const FIRST_SHARE: f64 = 0.1;

// === impl Probes ===

impl Probes {
    pub(crate) const fn new(timeout: Duration) -> Self {
        Self { timeout, running: Vec::new(), succeeded: 0, failed: 0, slow: 0 }
    }

    /// Whether another probe may start.
    pub(crate) const fn has_place(&self, config: &Config) -> bool {
        self.running.len() < config.probes.saturating_sub(self.succeeded) as usize
    }

    pub(crate) fn start(&mut self, now: Instant) {
        self.running.push(now);
    }

    /// Takes back a probe with its outcome, or with none if it does not count.
    pub(crate) fn settle(
        &mut self,
        admitted: Option<Instant>,
        outcome: Option<Outcome>,
        now: Option<Instant>,
        config: &Config,
    ) -> Progress {
        // First, as this very probe may be overdue, whatever it says. Then its place is another's.
        if now.is_some_and(|now| self.replace_overdue(now)) {
            return Progress::Failed;
        }
        let Some(place) = self.running.iter().position(|at| Some(*at) == admitted) else {
            return Progress::GoesOn;
        };
        self.running.swap_remove(place);
        match outcome {
            None => {}
            Some(Outcome { failed: false, slow: false }) => self.succeeded += 1,
            Some(Outcome { slow, .. }) => {
                self.failed += 1;
                self.slow += u32::from(slow);
                return Progress::Failed;
            }
        }
        if self.succeeded >= config.probes { Progress::Succeeded } else { Progress::GoesOn }
    }

    /// Replaces the probes that are overdue. True if there are so many that the recovery has failed.
    pub(crate) fn replace_overdue(&mut self, now: Instant) -> bool {
        let (before, timeout) = (self.running.len(), self.timeout);
        self.running.retain(|at| now.saturating_duration_since(*at) < timeout);
        let overdue = (before - self.running.len()) as u32;
        self.failed += overdue;
        self.slow += overdue;
        overdue > 0 && self.failed >= self.succeeded
    }

    pub(crate) const fn running(&self) -> usize {
        self.running.len()
    }

    /// The probes that have ended.
    pub(crate) const fn tally(&self) -> Tally {
        let Self { succeeded, failed, slow, .. } = *self;
        Tally { calls: succeeded + failed, failures: failed, slow }
    }

    /// For how long the oldest probe has been out, and in what time it is overdue.
    pub(crate) fn oldest(&self, now: Instant) -> (Duration, Duration) {
        let oldest = self.running.iter().min().copied().unwrap_or(now);
        let age = now.saturating_duration_since(oldest);
        (age, self.timeout.saturating_sub(age))
    }

    /// When a call that finds no place had better come again. Nobody knows how long the probes will take, but
    /// what has taken some time is likely to take as long again. So a caller comes a few times and no more,
    /// whether a call takes milliseconds or seconds. `random` from 0 to 1 spreads the callers.
    pub(crate) fn retry_after(&self, now: Instant, config: &Config, random: f64) -> Duration {
        let shortest = (config.open_for / 50).min(Duration::from_secs(1));
        let (age, overdue) = self.oldest(now);
        age.max(shortest).mul_f64(1.0 + random).min(overdue + shortest.mul_f64(random))
    }
}

// === impl Ramp ===

impl Ramp {
    pub(crate) const fn new(since: Instant) -> Self {
        Self { since, credit: 0.0 }
    }

    /// The share of the ramp that is over: 1 or more where it has ended.
    pub(crate) fn progress(&self, now: Instant, config: &Config) -> f64 {
        let elapsed = now.saturating_duration_since(self.since);
        config.ramp.map_or(1.0, |ramp| elapsed.div_duration_f64(ramp))
    }

    /// Lets a call pass, or not.
    pub(crate) fn pass(&mut self, now: Instant, config: &Config) -> bool {
        self.credit += self.progress(now, config).max(FIRST_SHARE);
        let passes = self.credit >= 1.0;
        self.credit -= f64::from(passes);
        passes
    }

    /// When a call that did not pass had better come again: at about a tenth of what is left.
    pub(crate) fn retry_after(&self, now: Instant, config: &Config, random: f64) -> Duration {
        let left = 1.0 - self.progress(now, config).min(1.0);
        config.ramp.unwrap_or_default().mul_f64(left * 0.1 * (0.5 + random))
    }
}
