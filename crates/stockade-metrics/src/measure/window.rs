//! How long calls took lately.

use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

/// Between one and two of these are in the window.
pub(crate) const HALF: Duration = Duration::from_secs(60);

/// What shorter durations are not told apart by, and what longer ones are recorded as, in nanoseconds.
const BOUNDS: (u64, u64) = (1_000, 3_600_000_000_000);

/// Durations of a window that rolls: one half of it is filled, the other is the half before.
///
/// The one significant digit means 16 steps between a duration and its double: a percentile is at most a sixteenth
/// too high. A window has 4 KiB.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    halves: [Half; 2],
    /// When the half that is filled ends.
    until: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Half {
    /// In nanoseconds.
    durations: Histogram<u32>,
    longest: u64,
}

/// What the windows of all shards hold together.
pub(crate) struct Sum(Half);

// === impl Window ===

impl Window {
    pub(crate) fn new() -> Self {
        Self { halves: [Half::new(), Half::new()], until: None }
    }

    #[inline]
    pub(crate) fn record(&mut self, now: Instant, nanos: u64) {
        self.roll(now);
        let half = &mut self.halves[0];
        half.durations.saturating_record(nanos);
        half.longest = half.longest.max(nanos);
    }

    /// Adds what is in the window to `sum`.
    pub(crate) fn add_to(&mut self, now: Instant, sum: &mut Sum) {
        self.roll(now);
        self.halves.iter().for_each(|half| sum.0.add(half));
    }

    #[inline]
    fn roll(&mut self, now: Instant) {
        if self.until.is_none_or(|until| now >= until) {
            self.start(now);
        }
    }

    #[cold]
    fn start(&mut self, now: Instant) {
        let is_next = self.until.is_some_and(|until| now < until + HALF);
        self.until = Some(now + HALF);
        self.halves.swap(0, 1);
        self.halves[0].clear();
        if !is_next {
            self.halves[1].clear();
        }
    }
}

// === impl Half ===

impl Half {
    fn new() -> Self {
        let durations = Histogram::new_with_bounds(BOUNDS.0, BOUNDS.1, 1)
            .expect("the bounds of the histogram are constant");
        Self { durations, longest: 0 }
    }

    fn add(&mut self, other: &Self) {
        // Most are, of those that are read ten times a second.
        if other.durations.is_empty() {
            return;
        }
        self.durations.add(&other.durations).expect("both have the same bounds");
        self.longest = self.longest.max(other.longest);
    }

    fn clear(&mut self) {
        self.durations.reset();
        self.longest = 0;
    }
}

// === impl Sum ===

impl Sum {
    pub(crate) fn new() -> Self {
        Self(Half::new())
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.durations.len()
    }

    /// `quantile` of the durations were no longer than this.
    pub(crate) fn at(&self, quantile: f64) -> Duration {
        let nanos = self.0.durations.value_at_quantile(quantile);
        Duration::from_nanos(nanos.min(self.0.longest))
    }

    pub(crate) fn longest(&self) -> Duration {
        Duration::from_nanos(self.0.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_seconds(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn count(window: &mut Window, now: Instant) -> u64 {
        let mut sum = Sum::new();
        window.add_to(now, &mut sum);
        sum.count()
    }

    #[test]
    fn a_duration_is_forgotten_after_one_or_two_halves() {
        let (mut window, start) = (Window::new(), Instant::now());
        window.record(start, 5);
        window.record(at_seconds(start, 59), 5);
        assert_eq!(count(&mut window, at_seconds(start, 59)), 2);
        assert_eq!(count(&mut window, at_seconds(start, 119)), 2);
        assert_eq!(count(&mut window, at_seconds(start, 179)), 0);
        window.record(at_seconds(start, 180), 5);
        assert_eq!(count(&mut window, at_seconds(start, 400)), 0, "and at once after a silence");
    }

    #[test]
    fn a_percentile_is_at_most_a_sixteenth_too_high_and_the_longest_is_exact() {
        let (mut window, now) = (Window::new(), Instant::now());
        let mut sum = Sum::new();
        for millis in 1..=1_000 {
            window.record(now, millis * 1_000_000);
        }
        window.add_to(now, &mut sum);
        for (quantile, millis) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0)] {
            let at = sum.at(quantile).as_secs_f64() * 1_000.0;
            assert!(at >= millis && at <= millis * 17.0 / 16.0, "{quantile}: {at}");
        }
        assert_eq!(sum.longest(), Duration::from_secs(1));
        assert_eq!(sum.at(1.0), Duration::from_secs(1));
    }

    #[test]
    fn what_no_bucket_is_made_for_is_counted_at_the_bound() {
        let (mut window, now) = (Window::new(), Instant::now());
        window.record(now, 0);
        window.record(now, u64::MAX);
        let mut sum = Sum::new();
        window.add_to(now, &mut sum);
        assert_eq!(sum.count(), 2);
        assert_eq!(sum.longest(), Duration::from_nanos(u64::MAX));
    }
}
