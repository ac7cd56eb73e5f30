//! How long to wait before another attempt. Pure: `now` is passed in.
//!
//! A percentile is taken over the latencies of first attempts of the last 30 to 60 seconds, in two histograms of
//! 30 seconds each. A first attempt that lost counts with the time that it had taken by then, which is at least
//! the delay: so hedging does not make its own percentile shorter. Until 100 calls were seen there is no delay
//! to tell, and nothing is hedged.

use std::{mem, time::Duration};

use hdrhistogram::Histogram;
use stockade_core::internal::{
    lock,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tokio::time::Instant;

use crate::Rule;

/// The delay, as it is now.
#[derive(Debug)]
pub(crate) enum Delay {
    Fixed(Duration),
    Rolling(Box<Rolling>),
}

#[derive(Debug)]
pub(crate) struct Rolling {
    /// In nanoseconds, or [`UNKNOWN`]. Only to be read, so it orders nothing.
    delay: AtomicU64,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    quantile: f64,
    recent: Histogram<u32>,
    before: Histogram<u32>,
    /// When `recent` was begun.
    since: Instant,
    /// How many were recorded since the delay was last worked out.
    fresh: u32,
}

/// What half of the window covers.
const HALF: Duration = Duration::from_secs(30);

/// How many calls have to be seen before the delay is known.
const WARM: u64 = 100;

/// After how many calls the delay is worked out anew.
const OFTEN: u32 = 32;

const UNKNOWN: u64 = u64::MAX;

/// The longest latency that is told apart, in microseconds: an hour.
const LONGEST: u64 = 3_600_000_000;

// === impl Delay ===

impl Delay {
    pub(crate) fn new(rule: Rule, now: Instant) -> Self {
        match rule {
            Rule::After(delay) => Self::Fixed(delay),
            Rule::Percentile(quantile) => Self::Rolling(Box::new(Rolling::new(quantile, now))),
        }
    }

    /// The delay, if it is known.
    pub(crate) fn get(&self) -> Option<Duration> {
        match self {
            Self::Fixed(delay) => Some(*delay),
            Self::Rolling(rolling) => {
                let nanos = rolling.delay.load(Relaxed);
                (nanos != UNKNOWN).then(|| Duration::from_nanos(nanos))
            }
        }
    }

    /// Where latencies are recorded, if they are.
    pub(crate) fn rolling(&self) -> Option<&Rolling> {
        match self {
            Self::Fixed(_) => None,
            Self::Rolling(rolling) => Some(rolling),
        }
    }
}

// === impl Rolling ===

impl Rolling {
    fn new(quantile: f64, now: Instant) -> Self {
        let histogram = || {
            let mut histogram = Histogram::new_with_bounds(1, LONGEST, 2)
                .expect("the bounds and the precision are ones that it takes");
            histogram.auto(false);
            histogram
        };
        let (recent, before) = (histogram(), histogram());
        let window = Window { quantile, recent, before, since: now, fresh: 0 };
        Self { delay: AtomicU64::new(UNKNOWN), window: Mutex::new(window) }
    }

    /// A first attempt took this long, or was given up after it.
    pub(crate) fn record(&self, latency: Duration, now: Instant) {
        let delay = lock(&self.window).record(latency, now);
        if let Some(delay) = delay {
            self.delay.store(delay, Relaxed);
        }
    }
}

// === impl Window ===

impl Window {
    /// The new delay, where it was worked out anew.
    fn record(&mut self, latency: Duration, now: Instant) -> Option<u64> {
        self.turn(now);
        let micros = u64::try_from(latency.as_micros()).unwrap_or(LONGEST).clamp(1, LONGEST);
        self.recent.saturating_record(micros);
        self.fresh += 1;
        let seen = self.recent.len() + self.before.len();
        if self.fresh < OFTEN && seen != WARM {
            return None;
        }
        self.fresh = 0;
        if seen < WARM {
            return Some(UNKNOWN);
        }
        Some(self.quantile().saturating_mul(1_000))
    }

    fn turn(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.since);
        if age < HALF {
            return;
        }
        mem::swap(&mut self.recent, &mut self.before);
        self.recent.reset();
        if age >= HALF * 2 {
            self.before.reset();
        }
        self.since = now;
    }

    /// The quantile over both halves, in microseconds: the lowest value that as many reach.
    fn quantile(&self) -> u64 {
        let all = self.recent.len() + self.before.len();
        let below = |micros: u64| {
            let count = |half: &Histogram<u32>| half.count_between(0, micros);
            count(&self.recent) + count(&self.before)
        };
        let rank = (self.quantile * all as f64).ceil() as u64;
        let (mut low, mut high) = (1, LONGEST);
        while low < high {
            let middle = low + (high - low) / 2;
            if below(middle) >= rank {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        self.recent.highest_equivalent(low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn about(found: Option<Duration>, expected: Duration) {
        let found = found.expect("it is known");
        assert!(
            found >= expected && found <= expected.mul_f64(1.02),
            "{found:?}, not {expected:?}"
        );
    }

    fn record(delay: &Delay, latencies: impl Iterator<Item = Duration>, now: Instant) {
        latencies.for_each(|latency| delay.rolling().unwrap().record(latency, now));
    }

    #[test]
    fn a_fixed_delay_is_known_at_once() {
        let delay = Delay::new(Rule::After(MS), Instant::now());
        assert_eq!(delay.get(), Some(MS));
        assert!(delay.rolling().is_none());
    }

    #[test]
    fn a_percentile_is_known_after_a_hundred_calls() {
        let now = Instant::now();
        let delay = Delay::new(Rule::Percentile(0.95), now);
        record(&delay, (1..100).map(|n| MS * n), now);
        assert_eq!(delay.get(), None);
        record(&delay, [MS * 100].into_iter(), now);
        about(delay.get(), MS * 95);
    }

    #[test]
    fn it_follows_the_latencies_of_the_last_minute() {
        let start = Instant::now();
        let delay = Delay::new(Rule::Percentile(0.5), start);
        record(&delay, (0..320).map(|_| MS * 10), start);
        about(delay.get(), MS * 10);
        // Half of the window is old, half is new and slower.
        record(&delay, (0..640).map(|_| MS * 50), start + HALF);
        about(delay.get(), MS * 50);
        record(&delay, (0..320).map(|_| MS * 20), start + HALF * 2);
        record(&delay, (0..320).map(|_| MS * 20), start + HALF * 3);
        about(delay.get(), MS * 20);
    }

    #[test]
    fn after_a_long_silence_it_is_unknown_again() {
        let start = Instant::now();
        let delay = Delay::new(Rule::Percentile(0.5), start);
        record(&delay, (0..320).map(|_| MS * 10), start);
        record(&delay, (0..64).map(|_| MS), start + HALF * 10);
        assert_eq!(delay.get(), None);
    }

    #[test]
    fn a_latency_of_a_day_is_no_more_than_one_of_an_hour() {
        let now = Instant::now();
        let delay = Delay::new(Rule::Percentile(0.5), now);
        record(&delay, (0..128).map(|_| MS * 86_400_000), now);
        assert!(delay.get().unwrap() >= Duration::from_secs(3_599));
    }
}
