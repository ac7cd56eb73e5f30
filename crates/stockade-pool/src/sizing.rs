//! How many workers a kind of work needs, and how long a queue.

use std::thread::available_parallelism;

use stockade_core::config::allow;

use crate::roster::{MOST, Size};

/// How large a pool has to be for a kind of work; given to [`PoolBuilder::sizing`](crate::PoolBuilder::sizing).
///
/// It sets the number of workers and the length of the queue, and nothing else: what is set afterwards counts. It
/// does not measure; it is where to begin, and [`Stats`](crate::Stats) tell how far off it was.
///
/// The reasoning behind all of them is Little's law (J. D. C. Little, Operations Research 9 (3), 1961): the jobs in
/// a system are the rate at which they arrive times the time that each stays. So a worker that is busy for `s`
/// seconds a job does `1 / s` jobs a second, `n` workers do `n / s`, and a job that finds `q` others queued waits
/// for `q * s / n`. More workers help as long as they wait for something else than each other; a longer queue never
/// makes a pool faster, it lets a longer burst in and makes the last of it wait for longer.
///
/// # Example
///
/// ```
/// use std::convert::Infallible;
/// use stockade_core::Error;
/// use stockade_pool::{Pool, Sizing};
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// // Thumbnails take up to 64 MiB each, and there is 1 GiB for all of them.
/// let sizing = Sizing::memory_bound(64 << 20, 1 << 30);
/// assert_eq!(sizing.workers().1 + sizing.queue(), 16);
/// let pool = ServiceBuilder::new()
///     .layer(Pool::builder().sizing(sizing))
///     .service_fn(async |n: u32| Ok::<_, Error<Infallible>>(n));
/// # assert_eq!(pool.oneshot(1).await, Ok(1));
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizing {
    pub(crate) size: Size,
    pub(crate) queue: usize,
}

/// How many times its workers an I/O-bound pool may grow to a core.
const WAITING: usize = 32;

// === impl Sizing ===

impl Sizing {
    /// Work that keeps a processor busy: one worker a core, and a queue of twice as many.
    ///
    /// A core does one thing at a time. More workers than cores finish no more jobs, and all of them later, because
    /// they share the cores. Two queued jobs a worker keep it busy while callers come back with the next; a job
    /// then waits for no longer than two others take. Goes with [`threads`](crate::PoolBuilder::threads).
    pub fn cpu_bound() -> Self {
        let cores = cores();
        Self { size: Size { min: cores, max: cores }, queue: cores * 2 }
    }

    /// Work that mostly waits, for a network or a disk: from one worker a core up to 32, and a queue of as many.
    ///
    /// While a call waits its core is free, so a core carries `1 + wait / work` of them: 32 is a call of 10 ms with
    /// 0.3 ms of work in it. What bounds such a pool is the other end; where that is known, say
    /// `.workers(rate * latency)`, which is Little's law, instead. A queue as long as the pool is large lets a burst
    /// of the same size in, which then waits for about one call.
    pub fn io_bound() -> Self {
        let cores = cores();
        let max = (cores * WAITING).min(MOST);
        Self { size: Size { min: cores, max }, queue: max }
    }

    /// `n` jobs that are all there from the beginning: one worker a core, but no more than jobs, and a queue of
    /// twice as many.
    ///
    /// The source is slowed down to the pace of the workers, so the queue only has to bridge the gap in which the
    /// source is asked for the next one; all `n` in the queue would be memory without use. For calls that wait, set
    /// more workers.
    ///
    /// # Panics
    ///
    /// If `n` is 0.
    #[track_caller]
    pub fn batch(n: usize) -> Self {
        let n = allow("Sizing::batch", n, 1..=usize::MAX);
        let workers = cores().min(n);
        Self { size: Size { min: workers, max: workers }, queue: (workers * 2).min(n) }
    }

    /// Jobs that take up to `bytes` each, from when they are queued, within `total` bytes for all of them: as many
    /// jobs as fit, of which one a core runs and the others are queued.
    ///
    /// A bound that counts jobs bounds memory only by the largest of them. Where sizes differ much,
    /// [`weigh`](crate::PoolBuilder::weigh) bounds the queue by the bytes themselves.
    ///
    /// # Panics
    ///
    /// If `bytes` is 0 or above `total`.
    #[track_caller]
    pub fn memory_bound(bytes: usize, total: usize) -> Self {
        let bytes = allow("Sizing::memory_bound", bytes, 1..=total);
        let jobs = (total / bytes).min(1 << 30);
        let workers = cores().min(jobs);
        Self { size: Size { min: workers, max: workers }, queue: jobs - workers }
    }

    /// The fewest and the most workers.
    pub fn workers(&self) -> (usize, usize) {
        (self.size.min, self.size.max)
    }

    /// How many jobs may wait.
    pub fn queue(&self) -> usize {
        self.queue
    }
}

/// How many cores there are, or 1 where that is not known.
pub(crate) fn cores() -> usize {
    available_parallelism().map_or(1, |cores| cores.get().min(MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_bound_work_has_a_worker_a_core() {
        let sizing = Sizing::cpu_bound();
        assert_eq!((sizing.workers(), sizing.queue()), ((cores(), cores()), 2 * cores()));
    }

    #[test]
    fn io_bound_work_grows_beyond_the_cores() {
        let sizing = Sizing::io_bound();
        assert_eq!(sizing.workers(), (cores(), 32 * cores()));
    }

    #[test]
    fn a_batch_has_no_more_workers_than_jobs() {
        assert_eq!(Sizing::batch(1).workers(), (1, 1));
        assert_eq!(Sizing::batch(1).queue(), 1);
        assert_eq!(Sizing::batch(1_000_000).workers(), (cores(), cores()));
    }

    #[test]
    fn memory_bound_work_never_holds_more_jobs_than_fit() {
        for (bytes, total) in [(1, 1), (3, 10), (10, 10), (7, 1 << 40), (1, usize::MAX)] {
            let sizing = Sizing::memory_bound(bytes, total);
            let jobs = sizing.workers().1 + sizing.queue();
            assert!(jobs >= 1 && jobs <= total / bytes, "{sizing:?}");
        }
    }

    #[test]
    #[should_panic(expected = "Sizing::memory_bound: 11 is not allowed, it has to be from 1 to 10")]
    fn a_job_that_does_not_fit_is_refused() {
        Sizing::memory_bound(11, 10);
    }
}
