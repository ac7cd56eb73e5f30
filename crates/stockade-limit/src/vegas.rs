use std::{mem, ops::RangeInclusive};

use stockade_core::config::allow;

use crate::{Policy, Sample};

/// Keeps a few calls waiting inside: adds one a round while fewer do, takes one off while more do. A round is as many
/// answers as the limit lets calls in.
///
/// How many wait it tells from how much longer the calls of a round took than the fastest of late did. It forgets
/// the fastest one every thirty rounds, because a service may become slower for good: then it halves the limit for a
/// round, so that nothing waits inside while it looks again. After a loss to overload it takes a quarter off.
/// It fits services whose calls take about equally long.
///
/// From L. S. Brakmo and L. L. Peterson, "TCP Vegas: End to End Congestion Avoidance on a Global Internet",
/// 1995; the look at an empty queue is ours.
///
/// # Example
///
/// ```
/// use stockade_core::Error;
/// use stockade_limit::{LimitLayer, Vegas};
/// use tower::{ServiceBuilder, ServiceExt};
///
/// let svc = ServiceBuilder::new()
///     .layer(LimitLayer::adaptive(Vegas::new().waiting(2.0..=5.0)))
///     .map_err(Error::Service)
///     .service_fn(async |n: u32| Ok::<_, std::io::Error>(n + 1));
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// assert_eq!(svc.oneshot(1).await.unwrap(), 2);
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct Vegas {
    few: f64,
    many: f64,
    /// The shortest round trip of late, in seconds.
    fastest: Option<f64>,
    round: Round,
    /// How many rounds the fastest one is old.
    rounds: u32,
    /// The limit to go back to, while it looks again.
    resume: Option<f64>,
}

/// Sums over the samples of a round.
#[derive(Clone, Copy, Debug)]
struct Round {
    samples: f64,
    seconds: f64,
    in_flight: f64,
}

/// After so many rounds the fastest call is forgotten.
const MEMORY: u32 = 30;

// === impl Vegas ===

impl Vegas {
    /// Three to six calls wait inside.
    pub const fn new() -> Self {
        Self { few: 3.0, many: 6.0, fastest: None, round: Round::NEW, rounds: 0, resume: None }
    }

    /// How many calls may wait inside (default 3 to 6): below the limit grows, above it shrinks.
    ///
    /// # Panics
    ///
    /// If an end is not from 0 to 1,000,000, or the range is empty.
    #[must_use]
    #[track_caller]
    pub fn waiting(self, calls: RangeInclusive<f64>) -> Self {
        let few = allow("Vegas::waiting", *calls.start(), 0.0..=1e6);
        let many = allow("Vegas::waiting", *calls.end(), few..=1e6);
        Self { few, many, ..self }
    }
}

impl Default for Vegas {
    fn default() -> Self {
        Self::new()
    }
}

impl Policy for Vegas {
    fn update(&mut self, sample: &Sample) -> f64 {
        let limit = sample.limit;
        if sample.dropped {
            self.round = Round::NEW;
            // What was to be resumed may have been too much.
            self.resume = None;
            return limit * 0.75;
        }
        let seconds = sample.seconds();
        let fastest = self.fastest.map_or(seconds, |fastest| fastest.min(seconds));
        self.fastest = Some(fastest);
        self.round.add(seconds, sample.in_flight);
        if self.round.samples < limit.floor() {
            return limit;
        }
        let round = mem::replace(&mut self.round, Round::NEW);
        let in_flight = round.in_flight / round.samples;
        let is_used = in_flight * 2.0 >= limit.floor();
        if self.resume.is_some() {
            let resumed = if is_used { self.resume.take() } else { None };
            return resumed.unwrap_or(limit);
        }
        self.rounds += 1;
        if self.rounds >= MEMORY {
            self.rounds = 0;
            self.fastest = None;
            // Where the limit is not used nothing waits, and there is nothing to drain.
            if is_used {
                self.resume = Some(limit);
                return limit / 2.0;
            }
        }
        let waiting = in_flight * (1.0 - fastest * round.samples / round.seconds);
        if waiting < self.few {
            limit + 1.0
        } else if waiting > self.many {
            limit - 1.0
        } else {
            limit
        }
    }
}

// === impl Round ===

impl Round {
    const NEW: Self = Self { samples: 0.0, seconds: 0.0, in_flight: 0.0 };

    fn add(&mut self, seconds: f64, in_flight: usize) {
        self.samples += 1.0;
        self.seconds += seconds;
        self.in_flight += in_flight as f64;
    }
}
