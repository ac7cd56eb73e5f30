use std::mem;

use super::Sample;

/// How long calls take while none waits inside the service.
///
/// An overloaded service probes like a slow one: calls take long. So every thirty rounds there is a probe, a round with half
/// of the limit. If calls then take little more than half as long, the service was busy with half of the limit too, and
/// that is halved again. Otherwise the probe was the measurement, and the limit goes back to where it was before.
///
/// The probes are those of "Gradient" in Netflix's concurrency-limits; Envoy's adaptive concurrency filter measures
/// its minimum in the same way.
#[derive(Clone, Debug)]
pub(crate) struct Baseline {
    /// In seconds, an average; none before the first ten samples.
    usual: Option<f64>,
    round: Round,
    /// Rounds until the next probe.
    left: u32,
    probe: Option<Probe>,
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    /// The limit while it lasts; known from its first sample.
    at: Option<f64>,
    /// The limit to go back to.
    resume: f64,
    /// How long calls took there, in seconds.
    before: f64,
}

/// The means over a round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    pub(crate) seconds: f64,
    pub(crate) in_flight: f64,
    samples: f64,
}

/// The first probe comes early, because a limit may start over a service that is busy already.
const FIRST: u32 = 5;
/// Rounds between two probes.
const ROUNDS: u32 = 30;
/// A round is as many samples as the limit lets calls in, and at least so many.
const LEAST: f64 = 10.0;
/// A probe takes more samples, because more depends on it.
const LEAST_OF_PROBE: f64 = 20.0;
/// If calls took so many times as long with twice the limit, the service was busy with half of it.
const BUSY: f64 = 1.75;

/// How far the average follows when calls take less time than it says.
const STEP: f64 = 0.25;

// === impl Baseline ===

impl Baseline {
    pub(crate) const fn new() -> Self {
        Self { usual: None, round: Round::NEW, left: FIRST, probe: None }
    }

    /// The limit after `sample`: by `next` at the end of a round, from what is usual in seconds; `after_loss` times the
    /// old one after a loss.
    pub(crate) fn follow(
        &mut self,
        sample: &Sample,
        after_loss: f64,
        next: impl FnOnce(f64, Round) -> f64,
    ) -> f64 {
        let limit = sample.limit;
        if sample.dropped {
            self.forget();
            return limit * after_loss;
        }
        if self.probe.as_mut().is_some_and(|probe| *probe.at.get_or_insert(limit) != limit) {
            // Somebody has set the maximum, which stays.
            self.forget();
        }
        self.round.add(sample);
        if self.usual.is_none() && self.round.samples >= LEAST {
            self.usual = Some(self.round.seconds);
        }
        let least = if self.probe.is_some() { LEAST_OF_PROBE } else { LEAST };
        if self.round.samples < least.max(limit.floor()) {
            return limit;
        }
        let round = mem::replace(&mut self.round, Round::NEW);
        match self.probe.take() {
            Some(probe) if probe.before > BUSY * round.seconds => self.probe(limit, round),
            Some(probe) => {
                self.usual = Some(round.seconds);
                probe.resume
            }
            None => {
                let usual = self.usual.unwrap_or(round.seconds);
                let usual = usual + STEP * (round.seconds - usual).min(0.0);
                self.usual = Some(usual);
                self.left = self.left.saturating_sub(1);
                // Where the limit is not used nothing waits anyway.
                if self.left > 0 || !round.is_used(limit) {
                    return next(usual, round);
                }
                self.left = ROUNDS;
                self.probe(limit, round)
            }
        }
    }

    fn forget(&mut self) {
        self.round = Round::NEW;
        self.probe = None;
    }

    /// Begins a probe, from a limit at which `round` was seen.
    fn probe(&mut self, limit: f64, round: Round) -> f64 {
        self.probe = Some(Probe { at: None, resume: limit, before: round.seconds });
        limit / 2.0
    }
}

// === impl Round ===

impl Round {
    const NEW: Self = Self { seconds: 0.0, in_flight: 0.0, samples: 0.0 };

    /// Whether at least half of the limit was in flight.
    pub(crate) fn is_used(&self, limit: f64) -> bool {
        self.in_flight * 2.0 >= limit.floor()
    }

    fn add(&mut self, sample: &Sample) {
        self.samples += 1.0;
        self.seconds += (sample.seconds() - self.seconds) / self.samples;
        self.in_flight += (sample.in_flight as f64 - self.in_flight) / self.samples;
    }
}
