//! How long to wait before another attempt. Pure: `now` is passed in.
//!
//! A percentile is taken over the latencies of first attempts of the last 30 to 60 seconds. A first attempt that lost
//! counts with the time that it had taken by then, which is at least the delay: so hedging does not make its own
//! percentile shorter. One that failed or was refused does not count: otherwise the quick failures of an outage would
//! have all calls hedged after it. Until 100 calls were seen there is no delay to tell, and nothing is hedged.
//!
//! A call only reads a number. The window works it out anew when it has a sixteenth more latencies than at the last
//! time, and when half of it is over.

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
pub(crate) struct Delay {
    /// In nanoseconds, or [`UNKNOWN`]. Only to be read, so it orders nothing.
    nanos: AtomicU64,
    /// None for one that is fixed.
    window: Option<Mutex<Window>>,
}

#[derive(Debug)]
struct Window {
    quantile: f64,
    /// The half that is filled, in microseconds.
    recent: Histogram<u32>,
    /// That one and the half before.
    all: Histogram<u32>,
    /// When `recent` was begun.
    since: Instant,
    /// How many latencies there are when the delay is to be worked out anew.
    enough: u64,
}

/// What half of the window covers.
const HALF: Duration = Duration::from_secs(30);

/// How many calls have to be seen before the delay is known.
const WARM: u64 = 100;

const UNKNOWN: u64 = u64::MAX;

/// The longest latency that is told apart, in microseconds: an hour.
const LONGEST: u64 = 3_600_000_000;

// === impl Delay ===

impl Delay {
    pub(crate) fn new(rule: Rule, now: Instant) -> Self {
        let (nanos, window) = match rule {
            Rule::After(delay) => (delay.as_nanos() as u64, None),
            Rule::Percentile(quantile) => (UNKNOWN, Some(Mutex::new(Window::new(quantile, now)))),
        };
        Self { nanos: AtomicU64::new(nanos), window }
    }

    /// The delay, if it is known.
    pub(crate) fn get(&self) -> Option<Duration> {
        let nanos = self.nanos.load(Relaxed);
        (nanos != UNKNOWN).then(|| Duration::from_nanos(nanos))
    }

    /// Whether it depends on what is recorded.
    pub(crate) const fn is_percentile(&self) -> bool {
        self.window.is_some()
    }

    /// A first attempt took this long, or was given up after it.
    pub(crate) fn record(&self, latency: Duration, now: Instant) {
        let Some(window) = &self.window else { return };
        if let Some(nanos) = lock(window).record(latency, now) {
            self.nanos.store(nanos, Relaxed);
        }
    }
}

// === impl Window ===

impl Window {
    fn new(quantile: f64, now: Instant) -> Self {
        let histogram = || {
            let mut histogram = Histogram::new_with_bounds(1, LONGEST, 2)
                .expect("the bounds and the precision are ones that it takes");
            histogram.auto(false);
            histogram
        };
        Self { quantile, recent: histogram(), all: histogram(), since: now, enough: WARM }
    }

    /// The new delay, where it was worked out anew.
    fn record(&mut self, latency: Duration, now: Instant) -> Option<u64> {
        self.turn(now);
        let micros = latency.as_micros() as u64;
        self.recent.saturating_record(micros);
        self.all.saturating_record(micros);
        let seen = self.all.len();
        if seen < self.enough {
            return None;
        }
        self.enough = WARM.max(seen + seen / 16);
        if seen < WARM {
            return Some(UNKNOWN);
        }
        Some(self.all.value_at_quantile(self.quantile).saturating_mul(1_000))
    }

    fn turn(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.since);
        if age < HALF {
            return;
        }
        mem::swap(&mut self.recent, &mut self.all);
        self.recent.reset();
        if age >= HALF * 2 {
            self.all.reset();
        }
        (self.since, self.enough) = (now, 0);
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
        latencies.for_each(|latency| delay.record(latency, now));
    }

    fn in_window(delay: &Delay) -> u64 {
        lock(delay.window.as_ref().unwrap()).all.len()
    }

    #[test]
    fn a_fixed_delay_is_known_at_once() {
        let delay = Delay::new(Rule::After(MS), Instant::now());
        assert_eq!(delay.get(), Some(MS));
        assert!(!delay.is_percentile());
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
    fn each_latency_counts_at_once_until_one_or_two_halves_are_over() {
        let start = Instant::now();
        let delay = Delay::new(Rule::Percentile(0.5), start);
        for seen in 1..=200 {
            delay.record(MS, start);
            assert_eq!(in_window(&delay), seen);
        }
        delay.record(MS, start + HALF);
        assert_eq!(in_window(&delay), 201);
        delay.record(MS, start + HALF * 2);
        assert_eq!(in_window(&delay), 2);
        delay.record(MS, start + HALF * 4);
        assert_eq!(in_window(&delay), 1, "at once after a silence");
    }

    #[test]
    fn the_delay_is_worked_out_anew_for_a_sixteenth_more_calls_and_when_half_a_window_is_over() {
        let start = Instant::now();
        let mut window = Window::new(0.5, start);
        let mut worked_out =
            |calls, now| (0..calls).filter(|_| window.record(MS, now).is_some()).count();
        assert_eq!(worked_out(99, start), 0);
        assert_eq!(worked_out(1, start), 1, "100 calls");
        assert_eq!(worked_out(5, start), 0);
        assert_eq!(worked_out(1, start), 1, "106 calls");
        assert_eq!(worked_out(1, start + HALF - MS), 0);
        assert_eq!(worked_out(1, start + HALF), 1);
    }

    #[test]
    fn a_latency_of_a_day_is_no_more_than_one_of_an_hour() {
        let now = Instant::now();
        let delay = Delay::new(Rule::Percentile(0.5), now);
        record(&delay, (0..128).map(|_| MS * 86_400_000), now);
        assert!(delay.get().unwrap() >= Duration::from_secs(3_599));
    }
}
