//! The plan: the load and the faults. Both follow from the seed.

use std::time::Duration;

use fastrand::Rng;

/// A third of the requests each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Calm,
    Failing,
    Recovering,
}

/// What the server does with an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Answers 200, after this time.
    Answer(Duration),
    /// Answers 404.
    Missing,
    /// Answers 500.
    Fail,
    /// Answers 429, with `Retry-After: 1`.
    Busy,
    /// Answers 200, but later than the client waits.
    Stall(Duration),
    /// Drops the connection in the middle of its answer.
    Cut,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) requests: u64,
    pub(crate) seed: u64,
    /// Requests a second.
    pub(crate) load: f64,
}

// === impl Phase ===

impl Phase {
    pub(crate) const ALL: [Self; 3] = [Self::Calm, Self::Failing, Self::Recovering];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Failing => "failing",
            Self::Recovering => "recovering",
        }
    }
}

// === impl Behaviour ===

impl Behaviour {
    /// Their names in the report, in the order of [`index`](Self::index).
    pub(crate) const NAMES: [&str; 6] =
        ["200 in time", "404 not found", "500 failed", "429 busy", "stalled", "connection dropped"];

    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Answer(_) => 0,
            Self::Missing => 1,
            Self::Fail => 2,
            Self::Busy => 3,
            Self::Stall(_) => 4,
            Self::Cut => 5,
        }
    }
}

// === impl Plan ===

impl Plan {
    pub(crate) const fn phase(&self, id: u64) -> Phase {
        match id * 3 / self.requests {
            0 => Phase::Calm,
            1 => Phase::Failing,
            _ => Phase::Recovering,
        }
    }

    /// The time between the previous request and this one. It is exponentially distributed, as if many independent
    /// users sent them; but sometimes a crowd arrives at once, which the rate limit has to hold back.
    pub(crate) fn gap(&self, id: u64) -> Duration {
        const CROWD: u64 = 80;
        const EVERY: u64 = 400;
        if id % EVERY < CROWD {
            return Duration::ZERO;
        }
        let stretch = EVERY as f64 / (EVERY - CROWD) as f64;
        let chance = self.dice(id, 0).f64();
        Duration::from_secs_f64(-(1.0 - chance).ln() * stretch / self.load)
    }

    /// What the server does at the `attempt`-th attempt of a request, counted from 1.
    pub(crate) fn behaviour(&self, id: u64, attempt: u32) -> Behaviour {
        let mut dice = self.dice(id, attempt);
        let quick = Duration::from_micros(dice.u64(2_000..15_000));
        let percent = dice.u32(0..100);
        match self.phase(id) {
            _ if percent == 99 => Behaviour::Missing,
            Phase::Calm | Phase::Recovering => Behaviour::Answer(quick),
            Phase::Failing => match percent {
                0..12 => Behaviour::Fail,
                12..20 => Behaviour::Busy,
                20..30 => Behaviour::Stall(Duration::from_millis(dice.u64(400..800))),
                30..38 => Behaviour::Cut,
                _ => Behaviour::Answer(quick),
            },
        }
    }

    fn dice(&self, id: u64, attempt: u32) -> Rng {
        let mut seeds = Rng::with_seed(self.seed ^ id.rotate_left(32));
        Rng::with_seed(seeds.u64(..) ^ u64::from(attempt))
    }
}
