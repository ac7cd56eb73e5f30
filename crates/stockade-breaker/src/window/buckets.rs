//! The outcomes of the last so much time: ten buckets with running counts, O(1) per call.

use std::{mem, time::Duration};

use tokio::time::Instant;

use super::{Outcome, Tally};

/// How many buckets a window of time has.
const BUCKETS: u64 = 10;

/// The outcomes of the last ten tenths of a window, the current one included. So it reaches back by nine to
/// ten tenths, and its size does not depend on the number of calls.
#[derive(Debug)]
pub(crate) struct Buckets {
    width: Duration,
    /// When the first bucket began, which is when the first call ended.
    origin: Option<Instant>,
    /// The number of the current bucket, counted from `origin`.
    current: u64,
    buckets: [Tally; BUCKETS as usize],
    sum: Tally,
}

// === impl Buckets ===

impl Buckets {
    pub(crate) fn new(window: Duration) -> Self {
        Self {
            width: window / BUCKETS as u32,
            origin: None,
            current: 0,
            buckets: Default::default(),
            sum: Tally::default(),
        }
    }

    /// Adds the outcome of a call that ended `now`.
    pub(crate) fn push(&mut self, outcome: Outcome, now: Instant) {
        self.slide(now);
        self.buckets[(self.current % BUCKETS) as usize].add(Tally::of(outcome));
        self.sum.add(Tally::of(outcome));
    }

    /// Drops the outcomes that are too old. A `now` in the past changes nothing.
    pub(crate) fn slide(&mut self, now: Instant) {
        let origin = *self.origin.get_or_insert(now);
        let elapsed = now.saturating_duration_since(origin).as_nanos();
        let index = u64::try_from(elapsed / self.width.as_nanos()).unwrap_or(u64::MAX);
        let steps = index.saturating_sub(self.current).min(BUCKETS);
        for gone in 0..steps {
            let bucket = &mut self.buckets[((index - gone) % BUCKETS) as usize];
            self.sum.subtract(mem::take(bucket));
        }
        self.current = self.current.max(index);
    }

    /// Forgets all outcomes.
    pub(crate) fn clear(&mut self) {
        *self = Self { width: self.width, ..Self::new(Duration::ZERO) };
    }

    pub(crate) fn tally(&self) -> Tally {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_what_a_plain_list_of_the_last_ten_tenths_holds(
            steps in prop::collection::vec((any::<bool>(), any::<bool>(), 0..400_u64), 0..300),
        ) {
            let (origin, mut at) = (Instant::now(), 0);
            let mut buckets = Buckets::new(Duration::from_millis(1_000));
            let mut list = Vec::new();
            for (failed, slow, wait) in steps {
                // Mostly small steps, and now and then one over the whole window.
                at += if list.is_empty() { 0 } else if wait > 395 { wait * 5 } else { wait };
                buckets.push(Outcome { failed, slow }, origin + Duration::from_millis(at));
                list.push((at / 100, failed, slow));
                let inside: Vec<_> = list.iter().filter(|(n, ..)| n + 10 > at / 100).collect();
                let expected = Tally {
                    calls: inside.len() as u32,
                    failures: inside.iter().filter(|(_, failed, _)| *failed).count() as u32,
                    slow: inside.iter().filter(|(.., slow)| *slow).count() as u32,
                };
                prop_assert_eq!(buckets.tally(), expected);
            }
        }
    }

    #[test]
    fn a_window_of_time_keeps_no_calls_so_it_costs_the_same_whatever_their_number() {
        assert!(!mem::needs_drop::<Buckets>(), "it has nothing on the heap");
        let start = Instant::now();
        let mut buckets = Buckets::new(Duration::from_secs(10));
        for n in 0..1_000_000 {
            buckets.push(Outcome::SUCCESS, start + Duration::from_micros(n));
        }
        assert_eq!(buckets.tally(), Tally { calls: 1_000_000, failures: 0, slow: 0 });
    }

    #[test]
    fn a_clock_read_that_arrives_late_slides_nothing_back() {
        let start = Instant::now();
        let mut buckets = Buckets::new(Duration::from_secs(10));
        buckets.push(Outcome::SUCCESS, start + Duration::from_secs(5));
        buckets.push(Outcome::FAILURE, start + Duration::from_secs(13));
        buckets.push(Outcome::FAILURE, start);
        assert_eq!(buckets.tally(), Tally { calls: 3, failures: 2, slow: 0 });
    }
}
