//! How many workers there are: the range, and the rule that moves within it.
//!
//! Nothing ticks here. The rule is asked when a job is queued, which may add workers, and when a worker has been
//! idle for a while, which may let it go.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fmt,
    ops::{Range, RangeInclusive},
    time::Duration,
};

use stockade_core::config::allow;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const MOST: usize = 1 << 20;

/// Decides how many workers a pool has, within the range it was given.
///
/// It is asked when a job is queued or a caller has to wait for a place, and the missing workers are started at
/// once; and it is asked when a worker has been idle for [`PoolBuilder::idle`](crate::PoolBuilder::idle), which
/// leaves if the answer is less than there are. It does not stop a worker that is busy, and it is not asked while
/// nothing happens. No lock is held meanwhile; a panic in it counts as "as many as there are".
///
/// [`PerJob`] is the rule of a pool that is not given another.
///
/// # Example
///
/// A worker more only when the oldest job has waited for too long:
///
/// ```
/// use std::{convert::Infallible, time::Duration};
/// use stockade_core::Error;
/// use stockade_pool::{Load, Pool, Scale};
/// use tower::{ServiceBuilder, ServiceExt};
///
/// struct Patient;
/// impl Scale for Patient {
///     fn workers(&self, load: &Load) -> usize {
///         if load.oldest > Duration::from_millis(5) { load.live + 1 } else { load.busy.max(1) }
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let pool = ServiceBuilder::new()
///     .layer(Pool::builder().workers(1..=8).scale(Patient).into_layer())
///     .service_fn(async |n: u32| Ok::<_, Error<Infallible>>(n));
/// # assert_eq!(pool.oneshot(1).await, Ok(1));
/// # }
/// ```
pub trait Scale: Send + Sync + 'static {
    /// How many workers there ought to be. Kept within the range of the pool, and above 0 while jobs are queued.
    fn workers(&self, load: &Load) -> usize;
}

/// What a [`Scale`] goes by; all numbers are of the same instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Load {
    /// Jobs that wait for a worker.
    pub queued: usize,
    /// How long the job at the head has waited; zero if there is none.
    pub oldest: Duration,
    /// Workers that could not take a job now: they run one, or their service is not ready.
    pub busy: usize,
    /// Workers that are alive, those that are about to start among them.
    pub live: usize,
    /// The fewest workers that the pool keeps.
    pub min: usize,
    /// The most workers that the pool may have.
    pub max: usize,
}

/// As many workers as there are jobs, queued or running: the rule of a pool that is not given another.
///
/// So a worker is added when a job is queued and nobody is idle, and one that is idle for long goes.
#[derive(Clone, Copy, Debug, Default)]
pub struct PerJob;

/// A number of workers, or a range of it: `8`, `2..=32` or `2..33`.
///
/// Implemented for these and nothing else. A range that ends below its start, or holds nothing above 0, is refused
/// where it is given. A start of 0 lets the last idle worker go, too.
pub trait Workers: sealed::Workers {}

mod sealed {
    pub trait Workers {
        /// The fewest and the most.
        fn bounds(self) -> (usize, usize);
    }
}

/// The range, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) min: usize,
    pub(crate) max: usize,
}

/// Who works in a pool.
pub(crate) struct Crew {
    pub(crate) size: Size,
    /// Workers that were started and have not asked for a job yet.
    pub(crate) coming: usize,
    /// The built-in rule decides.
    pub(crate) per_job: bool,
    next_id: usize,
    free_ids: BinaryHeap<Reverse<usize>>,
    hired: u64,
    /// By number of the worker, with the count of when he was hired.
    stops: Vec<Option<(u64, Stop)>>,
    stopped: bool,
}

/// What a worker is hired with: a number, which may be used again, and a count, which is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Badge {
    pub(crate) id: usize,
    hired: u64,
}

/// Stops a worker at its next await.
pub(crate) enum Stop {
    Task(AbortHandle),
    Thread(CancellationToken),
}

// === impl PerJob ===

impl Scale for PerJob {
    fn workers(&self, load: &Load) -> usize {
        load.busy.saturating_add(load.queued)
    }
}

// === impl Workers ===

impl Workers for usize {}
impl sealed::Workers for usize {
    fn bounds(self) -> (usize, usize) {
        (self, self)
    }
}

impl Workers for RangeInclusive<usize> {}
impl sealed::Workers for RangeInclusive<usize> {
    fn bounds(self) -> (usize, usize) {
        self.into_inner()
    }
}

impl Workers for Range<usize> {}
impl sealed::Workers for Range<usize> {
    fn bounds(self) -> (usize, usize) {
        (self.start, self.end.saturating_sub(1))
    }
}

// === impl Size ===

impl Size {
    #[track_caller]
    pub(crate) fn checked(what: &str, workers: impl Workers) -> Self {
        let (min, max) = workers.bounds();
        let max = allow(what, max, 1..=MOST);
        Self { min: allow(what, min, 0..=max), max }
    }

    pub(crate) fn is_fixed(self) -> bool {
        self.min == self.max
    }
}

// === impl Crew ===

impl Crew {
    pub(crate) fn new(size: Size, per_job: bool) -> Self {
        Self {
            size,
            coming: 0,
            per_job,
            next_id: 0,
            free_ids: BinaryHeap::new(),
            hired: 0,
            stops: Vec::new(),
            stopped: false,
        }
    }

    /// A badge with the lowest number that no worker has.
    pub(crate) fn hire(&mut self) -> Badge {
        self.hired += 1;
        self.coming += 1;
        let id = match self.free_ids.pop() {
            Some(Reverse(id)) => id,
            None => {
                self.next_id += 1;
                self.next_id - 1
            }
        };
        Badge { id, hired: self.hired }
    }

    pub(crate) fn leave(&mut self, badge: Badge) {
        if let Some(stop) = self.stops.get_mut(badge.id) {
            stop.take_if(|(hired, _)| *hired == badge.hired);
        }
        self.free_ids.push(Reverse(badge.id));
    }

    /// Keeps the way to stop a worker; gives it back if all have been told to stop meanwhile.
    pub(crate) fn keep(&mut self, badge: Badge, stop: Stop) -> Option<Stop> {
        if self.stopped {
            return Some(stop);
        }
        if self.stops.len() <= badge.id {
            self.stops.resize_with(badge.id + 1, || None);
        }
        let kept = &mut self.stops[badge.id];
        // The worker may have gone already, and the number been given to the next.
        if kept.as_ref().is_none_or(|(hired, _)| *hired < badge.hired) {
            *kept = Some((badge.hired, stop));
        }
        None
    }

    /// All ways to stop a worker.
    pub(crate) fn stop(&mut self) -> impl Iterator<Item = Stop> + use<> {
        self.stopped = true;
        std::mem::take(&mut self.stops).into_iter().flatten().map(|(_, stop)| stop)
    }
}

// === impl Stop ===

impl Stop {
    pub(crate) fn stop(self) {
        match self {
            Self::Task(task) => task.abort(),
            Self::Thread(token) => token.cancel(),
        }
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stop")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_every_kind_of_range_is_taken() {
        let size = |min, max| Size { min, max };
        assert_eq!(Size::checked("workers", 8), size(8, 8));
        assert_eq!(Size::checked("workers", 2..=32), size(2, 32));
        assert_eq!(Size::checked("workers", 2..33), size(2, 32));
    }

    #[test]
    #[should_panic(expected = "workers: 9 is not allowed, it has to be from 0 to 3")]
    fn a_range_that_ends_below_its_start_is_refused() {
        #[expect(clippy::reversed_empty_ranges, reason = "that is the mistake")]
        Size::checked("workers", 9..=3);
    }

    #[test]
    fn numbers_of_workers_are_used_again_from_the_lowest() {
        let mut crew = Crew::new(Size { min: 0, max: 9 }, true);
        let badges = [crew.hire(), crew.hire(), crew.hire()];
        assert_eq!(badges.map(|badge| badge.id), [0, 1, 2]);
        crew.leave(badges[2]);
        crew.leave(badges[0]);
        assert_eq!([crew.hire(), crew.hire(), crew.hire()].map(|badge| badge.id), [0, 2, 3]);
    }

    #[test]
    fn a_way_to_stop_one_who_has_gone_does_not_replace_the_one_of_the_next() {
        let mut crew = Crew::new(Size { min: 0, max: 9 }, true);
        let (gone, next) = (CancellationToken::new(), CancellationToken::new());
        let first = crew.hire();
        crew.leave(first);
        let second = crew.hire();
        assert_eq!(first.id, second.id);
        assert!(crew.keep(second, Stop::Thread(next.clone())).is_none());
        assert!(crew.keep(first, Stop::Thread(gone.clone())).is_none());
        crew.stop().for_each(Stop::stop);
        assert!(next.is_cancelled() && !gone.is_cancelled());
        assert!(crew.keep(second, Stop::Thread(gone)).is_some());
    }
}
