use std::{fmt, time::Duration};

use hdrhistogram::Histogram;

use crate::{Status, slot::Times};

/// What a pool has done and is doing; a snapshot, in which all numbers are of the same instant.
///
/// At every instant `accepted` is [`ended`](Self::ended) plus `queued` plus `running`: each job is counted
/// in exactly one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Jobs that the pool took.
    pub accepted: u64,
    /// Jobs that the service answered.
    pub succeeded: u64,
    /// Jobs for which the service returned an error, or a layer inside refused.
    pub failed: u64,
    /// Jobs that a timeout inside the pool ended.
    pub timed_out: u64,
    /// Jobs whose caller went away, or that ran when the pool was stopped.
    pub cancelled: u64,
    /// Jobs in which the service panicked.
    pub panicked: u64,
    /// Jobs whose deadline had passed when their turn came.
    pub expired: u64,
    /// Jobs that were shed because the pool was overloaded.
    pub shed: u64,
    /// Jobs that were never started, and whose requests were handed back by a drain.
    pub handed_back: u64,
    /// Jobs that wait for a worker.
    pub queued: usize,
    /// Jobs that run.
    pub running: usize,
    /// Workers that are alive.
    pub workers: usize,
    /// Workers that have a ready service and no job.
    pub idle: usize,
    /// How often a worker's service was made anew, after a panic or an error of readiness.
    pub rebuilt: u64,
    /// The most jobs that ever waited at once.
    pub max_queued: usize,
    /// The most jobs that ever ran at once.
    pub max_running: usize,
    /// The most workers that were ever alive at once.
    pub max_workers: usize,
    /// How long jobs were queued, if the pool [measures](crate::PoolBuilder::measure).
    pub queue_wait: Option<Percentiles>,
    /// How long jobs ran, if the pool [measures](crate::PoolBuilder::measure).
    pub run_time: Option<Percentiles>,
}

/// A distribution of durations, exact to three digits between a microsecond and an hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// How many durations were recorded.
    pub count: u64,
    /// Half of them were no longer than this.
    pub p50: Duration,
    /// 90 % were no longer than this.
    pub p90: Duration,
    /// 99 % were no longer than this.
    pub p99: Duration,
    /// 99.9 % were no longer than this.
    pub p99_9: Duration,
    /// The longest.
    pub max: Duration,
}

/// The histograms of a pool that measures.
pub(crate) struct Measured {
    pub(crate) queue_wait: Histogram<u64>,
    pub(crate) run_time: Histogram<u64>,
}

/// What is recorded in one hour's steps of a microsecond.
const LONGEST: Duration = Duration::from_secs(3_600);

// === impl Stats ===

impl Stats {
    /// Jobs that have ended, in whatever way.
    pub fn ended(&self) -> u64 {
        self.succeeded
            + self.failed
            + self.timed_out
            + self.cancelled
            + self.panicked
            + self.expired
            + self.shed
            + self.handed_back
    }

    #[inline]
    pub(crate) fn count(&mut self, status: Status) {
        *match status {
            Status::Success => &mut self.succeeded,
            Status::Failed => &mut self.failed,
            Status::TimedOut => &mut self.timed_out,
            Status::Cancelled => &mut self.cancelled,
            Status::Panicked => &mut self.panicked,
            Status::Expired => &mut self.expired,
            Status::Shed => &mut self.shed,
        } += 1;
    }
}

// === impl Measured ===

impl Measured {
    pub(crate) fn new() -> Self {
        let histogram = || {
            let longest = LONGEST.as_micros() as u64;
            Histogram::new_with_max(longest, 3).expect("the bounds of the histogram are constant")
        };
        Self { queue_wait: histogram(), run_time: histogram() }
    }

    #[inline(never)]
    pub(crate) fn record(&mut self, times: Option<Times>) {
        let Some(times) = times else { return };
        record(&mut self.queue_wait, times.queued);
        if let Some(ran) = times.ran {
            record(&mut self.run_time, ran);
        }
    }
}

fn record(histogram: &mut Histogram<u64>, duration: Duration) {
    histogram.saturating_record(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
}

impl fmt::Debug for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Measured").finish_non_exhaustive()
    }
}

// === impl Percentiles ===

impl From<&Histogram<u64>> for Percentiles {
    fn from(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: Duration::from_micros(histogram.max()),
        }
    }
}
