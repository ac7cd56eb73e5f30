//! What a pool counts, and how long its jobs took.

use std::time::Duration;

use hdrhistogram::Histogram;
use stockade_core::{Reason, priority::Priority};
use tokio::time::Instant;

use crate::Status;

/// What a pool has done and is doing; a snapshot, in which all numbers are of the same instant.
///
/// At every instant `accepted` is [`ended`](Self::ended) plus `queued` plus `running`: each job is counted in exactly
/// one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Jobs that got a place in the queue.
    pub accepted: u64,
    /// Jobs that the service answered.
    pub succeeded: u64,
    /// Jobs for which the service returned an error, a layer inside refused, or there was no service.
    pub failed: u64,
    /// Jobs that a timeout inside the pool ended.
    pub timed_out: u64,
    /// Jobs whose caller went away, or that ran when the pool was stopped.
    pub cancelled: u64,
    /// Jobs in which the service panicked.
    pub panicked: u64,
    /// Jobs whose deadline had passed when their turn came.
    pub expired: u64,
    /// Jobs that had waited for too long, or made room for newer ones.
    pub shed: u64,
    /// Jobs whose requests were handed back by a drain.
    pub handed_back: u64,
    /// Jobs that wait for a worker.
    pub queued: usize,
    /// Jobs that run.
    pub running: usize,
    /// Callers who wait for a place in the queue.
    pub waiting: usize,
    /// For how long the first of the queued jobs has waited, if the pool [measures](crate::PoolBuilder::measure).
    pub oldest: Option<Duration>,
    /// Calls that got no place in the queue, by reason, each counted once. They are not among `accepted`.
    pub refused: Refusals,
    /// Workers that are alive.
    pub workers: usize,
    /// Workers that have a ready service and no job.
    pub idle: usize,
    /// The fewest workers that the pool keeps.
    pub min_workers: usize,
    /// The most workers that the pool may have.
    pub max_workers: usize,
    /// How many jobs may be queued while all workers are busy.
    pub capacity: usize,
    /// How often a worker began to make its service anew. An attempt that fails counts, too.
    pub rebuilt: u64,
    /// The most jobs that were ever queued at once. It may be above `capacity`, by one for each worker that could take one
    /// at once, because jobs for them are queued, too, until they are taken.
    pub peak_queued: usize,
    /// The most jobs that ever ran at once.
    pub peak_running: usize,
    /// The most workers that were ever alive at once.
    pub peak_workers: usize,
    /// How long jobs were queued over the last one or two minutes, if the pool [measures](crate::PoolBuilder::measure).
    pub queue_wait: Option<Percentiles>,
    /// How long jobs ran over the last one or two minutes, if the pool [measures](crate::PoolBuilder::measure).
    pub run_time: Option<Percentiles>,
}

/// Calls that got no place in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusals {
    /// There was no place, and the call did not wait for one.
    pub queue_full: u64,
    /// The pool was closed.
    pub pool_closed: u64,
    /// The pool was overloaded.
    pub shed: u64,
    /// The call had waited for a place for too long.
    pub wait_exceeded: u64,
    /// The deadline of the call had passed.
    pub expired: u64,
    by_class: [u64; Priority::ALL.len()],
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

/// The histograms of a pool that measures, over a window that rolls: one half of it is filled, the other is the half
/// before.
#[derive(Debug)]
pub(crate) struct Measured {
    current: Times<Histogram<u32>>,
    before: Times<Histogram<u32>>,
    /// When the half that is filled began.
    since: Option<Instant>,
}

/// How long jobs are queued, and run.
type Times<V> = [V; 2];

/// Between one and two of these are in the window.
const HALF: Duration = Duration::from_secs(60);

/// Longer durations are recorded as this.
const LONGEST: Duration = Duration::from_secs(3_600);

/// How long it was from one instant to the other, if both are known.
pub(crate) fn between(since: Option<Instant>, until: Option<Instant>) -> Option<Duration> {
    Some(until?.saturating_duration_since(since?))
}

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
            Status::HandedBack { .. } => &mut self.handed_back,
        } += 1;
    }
}

// === impl Refusals ===

impl Refusals {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.queue_full + self.pool_closed + self.shed + self.wait_exceeded + self.expired
    }

    /// How many jobs of this class were refused a place, or were dropped from the queue to make room for another.
    pub fn of(&self, priority: Priority) -> u64 {
        self.by_class[priority as usize]
    }

    /// Counts one that lost its place in the queue. It ends as a job does.
    pub(crate) fn count_lost(&mut self, priority: Priority) {
        self.by_class[priority as usize] += 1;
    }

    pub(crate) fn count(&mut self, reason: Reason, priority: Priority) {
        self.by_class[priority as usize] += 1;
        *match reason {
            Reason::PoolClosed => &mut self.pool_closed,
            Reason::Shed => &mut self.shed,
            Reason::WaitExceeded => &mut self.wait_exceeded,
            Reason::Expired => &mut self.expired,
            _ => &mut self.queue_full,
        } += 1;
    }
}

// === impl Measured ===

impl Measured {
    pub(crate) fn new() -> Self {
        let longest = LONGEST.as_micros() as u64;
        let empty: Histogram<u32> =
            Histogram::new_with_max(longest, 3).expect("the bounds of the histogram are constant");
        let current = [empty.clone(), empty];
        Self { before: current.clone(), current, since: None }
    }

    /// A job has ended then, which was queued for so long and ran for so long, if it was started.
    pub(crate) fn record(&mut self, ended: Instant, times: Times<Option<Duration>>) {
        self.roll(ended);
        for (histogram, time) in self.current.iter_mut().zip(times) {
            if let Some(time) = time {
                let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
                histogram.saturating_record(micros);
            }
        }
    }

    /// What the window holds, to be summed up without the lock.
    pub(crate) fn window(&mut self, now: Instant) -> Times<[Histogram<u32>; 2]> {
        self.roll(now);
        [0, 1].map(|which| [self.current[which].clone(), self.before[which].clone()])
    }

    fn roll(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let passed = now.saturating_duration_since(since);
        if passed < HALF {
            return;
        }
        self.since = Some(now);
        std::mem::swap(&mut self.current, &mut self.before);
        self.current.iter_mut().for_each(Histogram::reset);
        if passed >= 2 * HALF {
            self.before.iter_mut().for_each(Histogram::reset);
        }
    }
}

// === impl Percentiles ===

impl Percentiles {
    /// Of both halves of a window.
    pub(crate) fn of([mut both, before]: [Histogram<u32>; 2]) -> Self {
        both.add(before).expect("both have the same bounds");
        let at = |quantile| Duration::from_micros(both.value_at_quantile(quantile));
        Self {
            count: both.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: Duration::from_micros(both.max()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_two_minutes_ago_is_forgotten() {
        let (mut measured, start) = (Measured::new(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for seconds in [0, 59, 61] {
            measured.record(at(seconds), [Some(HALF); 2]);
        }
        let mut counts =
            |seconds| measured.window(at(seconds)).map(|halves| Percentiles::of(halves).count);
        assert_eq!(counts(62), [3, 3]);
        assert_eq!(counts(125), [1, 1]);
        assert_eq!(counts(500), [0, 0]);
    }
}
