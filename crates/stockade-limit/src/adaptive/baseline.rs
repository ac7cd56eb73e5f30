use std::mem;

use super::Sample;

/// How long calls take while none waits inside the service.
///
/// An overloaded service cannot be told from a slow one by looking at how long calls take. So every so often the
/// limit is halved for a round. If calls then take much less time, nearly as many were answered, so even the half was
/// too much: it is halved again. Otherwise that round was the measurement, and the limit goes back to where it was.
///
/// The idea is that of the probes of "Gradient" in Netflix's concurrency-limits, and of the minimum that Envoy's
/// adaptive concurrency filter measures.
#[derive(Clone, Debug)]
pub(crate) struct Baseline {
    /// In seconds, an average; none before the first ten samples.
    usual: Option<f64>,
    round: Round,
    /// Rounds until the next look.
    left: u32,
    look: Option<Look>,
}

#[derive(Clone, Copy, Debug)]
struct Look {
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

/// What a sample adds.
pub(crate) enum Seen {
    /// A part of a round.
    Sample,
    /// The end of a round.
    Round(Round),
    /// A part of a look: this is the limit.
    Look(f64),
}

/// The first look comes early, because a limit may start over a service that is busy already.
const FIRST: u32 = 5;
/// Rounds between two looks.
const ROUNDS: u32 = 30;
/// A round is as many samples as the limit lets calls in, and at least so many.
const LEAST: f64 = 10.0;
/// A look takes more, because more depends on it.
const LEAST_OF_LOOK: f64 = 20.0;
/// If calls took so many times as long with twice the limit, the service was busy with half of it.
const BUSY: f64 = 1.75;

/// How far the average follows when calls take less time than it says.
const STEP: f64 = 0.25;

// === impl Baseline ===

impl Baseline {
    pub(crate) const fn new() -> Self {
        Self { usual: None, round: Round::NEW, left: FIRST, look: None }
    }

    /// In seconds.
    pub(crate) fn usual(&self) -> f64 {
        self.usual.unwrap_or(self.round.seconds)
    }

    /// A call was lost: the round and the look are void.
    pub(crate) fn lost(&mut self) {
        self.round = Round::NEW;
        self.look = None;
    }

    pub(crate) fn see(&mut self, sample: &Sample) -> Seen {
        self.round.add(sample);
        if self.usual.is_none() && self.round.samples >= LEAST {
            self.usual = Some(self.round.seconds);
        }
        let least = if self.look.is_some() { LEAST_OF_LOOK } else { LEAST };
        if self.round.samples < least.max(sample.limit.floor()) {
            return if self.look.is_some() { Seen::Look(sample.limit) } else { Seen::Sample };
        }
        let round = mem::replace(&mut self.round, Round::NEW);
        match self.look.take() {
            Some(look) if look.before > BUSY * round.seconds => self.look(sample.limit, &round),
            Some(look) => {
                self.usual = Some(round.seconds);
                Seen::Look(look.resume)
            }
            None => {
                self.usual =
                    self.usual.map(|usual| usual + STEP * (round.seconds - usual).min(0.0));
                self.left -= 1;
                if self.left > 0 {
                    return Seen::Round(round);
                }
                self.left = ROUNDS;
                // Where the limit is not used nothing waits, and there is nothing to look for.
                if !round.is_used(sample.limit) {
                    return Seen::Round(round);
                }
                self.look(sample.limit, &round)
            }
        }
    }

    /// Begins a look, from a limit at which `round` was seen.
    fn look(&mut self, limit: f64, round: &Round) -> Seen {
        self.look = Some(Look { resume: limit, before: round.seconds });
        Seen::Look(limit / 2.0)
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
