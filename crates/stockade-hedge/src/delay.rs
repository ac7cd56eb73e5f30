//! How long to wait before another attempt. Pure: `now` is passed in.
//!
//! A percentile is taken over the latencies of first attempts of the last 30 to 60 seconds. A first attempt that lost
//! counts with the time that it had taken by then, which is at least the delay: so hedging does not make its own
//! percentile shorter. Until 100 calls were seen there is no delay to tell, and nothing is hedged.
//!
//! A call only reads a number. Once the delay is known, each thread gathers its latencies apart, and hands them to the
//! window that all share when there are 32 of them or the oldest has waited for a second. The window works the delay
//! out anew when it has a sixteenth more latencies than at the last time, and when half of it is over.

use std::{mem, time::Duration};

use hdrhistogram::Histogram;
use stockade_core::internal::{
    Shards, lock,
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
    latencies: Option<Box<Latencies>>,
}

#[derive(Debug)]
struct Latencies {
    gathered: Shards<Mutex<Batch>>,
    window: Mutex<Window>,
}

/// What a thread has recorded, and the window does not know yet. In microseconds.
#[derive(Debug)]
struct Batch {
    latencies: [u32; FULL],
    len: usize,
    /// When the first of them is old.
    due: Instant,
}

#[derive(Debug)]
struct Window {
    quantile: f64,
    /// The half that is filled.
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

/// After how many calls, and after what time, a thread hands over what it has recorded.
const FULL: usize = 32;
const OLD: Duration = Duration::from_secs(1);

const UNKNOWN: u64 = u64::MAX;

/// The longest latency that is told apart, in microseconds: an hour.
const LONGEST: u32 = 3_600_000_000;

// === impl Delay ===

impl Delay {
    pub(crate) fn new(rule: Rule, now: Instant) -> Self {
        let (nanos, latencies) = match rule {
            Rule::After(delay) => (delay.as_nanos() as u64, None),
            Rule::Percentile(quantile) => {
                let gathered = Shards::new(|| Mutex::new(Batch::new(now)));
                let window = Mutex::new(Window::new(quantile, now));
                (UNKNOWN, Some(Box::new(Latencies { gathered, window })))
            }
        };
        Self { nanos: AtomicU64::new(nanos), latencies }
    }

    /// The delay, if it is known.
    pub(crate) fn get(&self) -> Option<Duration> {
        let nanos = self.nanos.load(Relaxed);
        (nanos != UNKNOWN).then(|| Duration::from_nanos(nanos))
    }

    /// Whether it depends on what is recorded.
    pub(crate) const fn is_percentile(&self) -> bool {
        self.latencies.is_some()
    }

    /// A first attempt took this long, or was given up after it.
    pub(crate) fn record(&self, latency: Duration, now: Instant) {
        let Some(Latencies { gathered, window }) = self.latencies.as_deref() else { return };
        let hand_over = |latencies: &[u32]| {
            if let Some(nanos) = lock(window).record(latencies, now) {
                self.nanos.store(nanos, Relaxed);
            }
        };
        let micros = u32::try_from(latency.as_micros()).unwrap_or(LONGEST).clamp(1, LONGEST);
        // As long as nothing is hedged, each call counts at once.
        if self.get().is_none() {
            return hand_over(&[micros]);
        }
        let mut batch = lock(gathered.own());
        if batch.push(micros, now) {
            hand_over(batch.take(now));
        }
    }
}

// === impl Batch ===

impl Batch {
    const fn new(now: Instant) -> Self {
        Self { latencies: [0; FULL], len: 0, due: now }
    }

    /// `true`: it is to be handed over.
    fn push(&mut self, micros: u32, now: Instant) -> bool {
        if self.len == 0 {
            self.due = now + OLD;
        }
        self.latencies[self.len] = micros;
        self.len += 1;
        self.len == FULL || now >= self.due
    }

    /// What there is. If the thread was silent for half of the window, that is the last call alone.
    fn take(&mut self, now: Instant) -> &[u32] {
        let len = mem::take(&mut self.len);
        let is_stale = now.saturating_duration_since(self.due) >= HALF;
        &self.latencies[if is_stale { len - 1 } else { 0 }..len]
    }
}

// === impl Window ===

impl Window {
    fn new(quantile: f64, now: Instant) -> Self {
        let histogram = || {
            let mut histogram = Histogram::new_with_bounds(1, LONGEST.into(), 2)
                .expect("the bounds and the precision are ones that it takes");
            histogram.auto(false);
            histogram
        };
        Self { quantile, recent: histogram(), all: histogram(), since: now, enough: WARM }
    }

    /// The new delay, where it was worked out anew.
    fn record(&mut self, latencies: &[u32], now: Instant) -> Option<u64> {
        self.turn(now);
        for micros in latencies {
            self.recent.saturating_record((*micros).into());
            self.all.saturating_record((*micros).into());
        }
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
        lock(&delay.latencies.as_ref().unwrap().window).all.len()
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
    fn what_threads_have_gathered_counts_once_it_is_enough_or_old() {
        let start = Instant::now();
        let delay = Delay::new(Rule::Percentile(0.5), start);
        record(&delay, (0..100).map(|_| MS * 10), start);
        record(&delay, (0..31).map(|_| MS * 90), start);
        assert_eq!(in_window(&delay), 100);
        record(&delay, [MS * 90].into_iter(), start);
        assert_eq!(in_window(&delay), 132, "32 of them");
        record(&delay, [MS * 90].into_iter(), start);
        assert_eq!(in_window(&delay), 132);
        record(&delay, [MS * 90].into_iter(), start + OLD);
        assert_eq!(in_window(&delay), 134, "the first is a second old");
    }

    #[test]
    fn what_a_thread_has_gathered_before_a_long_silence_is_forgotten() {
        let start = Instant::now();
        let delay = Delay::new(Rule::Percentile(0.5), start);
        record(&delay, (0..120).map(|_| MS * 10), start);
        record(&delay, [MS].into_iter(), start + OLD + HALF);
        assert_eq!(in_window(&delay), 101);
    }

    #[test]
    fn the_delay_is_worked_out_anew_for_a_sixteenth_more_calls_and_when_half_a_window_is_over() {
        let start = Instant::now();
        let mut window = Window::new(0.5, start);
        assert!(window.record(&[1; 3_200], start).is_some());
        assert!(window.record(&[1; 199], start).is_none());
        assert!(window.record(&[1], start).is_some());
        assert!(window.record(&[1], start + HALF - MS).is_none());
        assert!(window.record(&[1], start + HALF).is_some());
    }

    #[test]
    fn a_latency_of_a_day_is_no_more_than_one_of_an_hour() {
        let now = Instant::now();
        let delay = Delay::new(Rule::Percentile(0.5), now);
        record(&delay, (0..128).map(|_| MS * 86_400_000), now);
        assert!(delay.get().unwrap() >= Duration::from_secs(3_599));
    }
}
