//! Who works in a pool, who sleeps, and who is woken for a job.
//!
//! Any worker that is awake takes the next job, although another may have been woken for it. For each job that could be taken one
//! sleeper is woken, the last to fall asleep first, because its cache is the warmest. A worker that was woken and has
//! not run yet counts for one job, but only while there is one: as soon as others have taken the jobs, it is not
//! counted on. So a worker that waits behind a blocked thread delays no job after that.

use std::{ops::RangeInclusive, sync::Arc, task::Waker};

use stockade_core::{
    config::{ConfigError, check},
    internal::sync::atomic::{AtomicBool, Ordering::*},
};

/// The most workers of a pool.
pub(crate) const MOST: usize = 1 << 20;

/// How many workers a pool has: at least, and at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) min: usize,
    pub(crate) max: usize,
}

/// The workers of a pool.
#[derive(Debug)]
pub(crate) struct Roster {
    pub(crate) size: Size,
    /// By the number of the worker.
    entries: Vec<Option<Entry>>,
    /// No lower number is free.
    lowest: usize,
    /// The numbers of those who sleep.
    sleepers: Vec<usize>,
    alive: usize,
    /// How many have not asked for a job yet.
    starting: usize,
    /// How many have a ready service and no job.
    idle: usize,
    /// How many were woken for a job that is still there.
    woken: usize,
}

#[derive(Debug)]
pub(crate) struct Entry {
    /// The caller of the job at hand has gone. Written under the lock, where jobs are taken and left too.
    cancelled: Arc<AtomicBool>,
    waker: Option<Waker>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It has not asked for a job yet.
    Starting,
    /// It has a job, or no ready service.
    Busy,
    /// At this place among the sleepers.
    Asleep(usize),
    /// It was woken for a job and has not run yet.
    Woken,
}

// === impl Size ===

impl Size {
    pub(crate) fn check(setting: &str, range: RangeInclusive<usize>) -> Result<Self, ConfigError> {
        let (min, max) = range.into_inner();
        let max = check(setting, max, 1..=MOST)?;
        Ok(Self { min: check(setting, min, 0..=max)?, max })
    }

    pub(crate) fn is_fixed(self) -> bool {
        self.min == self.max
    }
}

// === impl Roster ===

impl Roster {
    pub(crate) const fn new(size: Size) -> Self {
        Self {
            size,
            entries: Vec::new(),
            lowest: 0,
            sleepers: Vec::new(),
            alive: 0,
            starting: 0,
            idle: 0,
            woken: 0,
        }
    }

    #[inline]
    pub(crate) fn alive(&self) -> usize {
        self.alive
    }

    #[inline]
    pub(crate) fn idle(&self) -> usize {
        self.idle
    }

    /// How many could take a job, or will as soon as they have started.
    #[inline]
    pub(crate) fn available(&self) -> usize {
        self.idle + self.starting
    }

    #[inline]
    pub(crate) fn is_too_large(&self) -> bool {
        self.alive > self.size.max
    }

    /// Adds a worker, under the lowest number that is free. Returns how it learns that its job is cancelled.
    pub(crate) fn hire(&mut self) -> (usize, Arc<AtomicBool>) {
        self.alive += 1;
        self.starting += 1;
        let free = self.entries.iter().skip(self.lowest).position(Option::is_none);
        let number = free.map_or(self.entries.len(), |free| self.lowest + free);
        self.lowest = number + 1;
        let cancelled = Arc::new(AtomicBool::new(false));
        let entry =
            Entry { cancelled: Arc::clone(&cancelled), waker: None, state: State::Starting };
        match self.entries.get_mut(number) {
            Some(free) => *free = Some(entry),
            None => self.entries.push(Some(entry)),
        }
        (number, cancelled)
    }

    /// Removes a worker. What is left of it is dropped without the lock.
    pub(crate) fn leave(&mut self, worker: usize) -> Option<Entry> {
        self.arrive(worker);
        let entry = self.entries[worker].take();
        self.alive -= 1;
        self.lowest = self.lowest.min(worker);
        while self.entries.pop_if(|entry| entry.is_none()).is_some() {}
        self.lowest = self.lowest.min(self.entries.len());
        if self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to_fit();
            self.sleepers.shrink_to(self.entries.len());
        }
        entry
    }

    /// A worker runs: it does not sleep, or is not awaited any more. It is busy until it sleeps.
    #[inline]
    pub(crate) fn arrive(&mut self, worker: usize) {
        let Some(entry) = self.entry(worker) else { return };
        match std::mem::replace(&mut entry.state, State::Busy) {
            State::Busy => return,
            State::Starting => {
                self.starting -= 1;
                return;
            }
            State::Woken => self.woken = self.woken.saturating_sub(1),
            State::Asleep(place) => {
                // The last one takes its place.
                self.sleepers.swap_remove(place);
                if let Some(&moved) = self.sleepers.get(place)
                    && let Some(moved) = self.entry(moved)
                {
                    moved.state = State::Asleep(place);
                }
            }
        }
        self.idle -= 1;
    }

    /// A worker sleeps until there is a job.
    #[inline]
    pub(crate) fn sleep(&mut self, worker: usize) {
        let place = self.sleepers.len();
        let Some(entry) = self.entry(worker) else { return };
        entry.state = State::Asleep(place);
        self.sleepers.push(worker);
        self.idle += 1;
    }

    /// Keeps the waker of a worker. Returns the one that was there.
    pub(crate) fn keep_waker(&mut self, worker: usize, waker: Option<Waker>) -> Option<Waker> {
        std::mem::replace(&mut self.entry(worker)?.waker, waker)
    }

    /// Whether a worker sleeps, and has not been woken.
    pub(crate) fn is_asleep(&self, worker: usize) -> bool {
        let entry = self.entries.get(worker).and_then(Option::as_ref);
        entry.is_some_and(|entry| matches!(entry.state, State::Asleep(_)))
    }

    /// Picks a sleeper to be woken, when so many jobs could be taken and not enough were woken for them.
    pub(crate) fn wake_for(&mut self, jobs: usize) -> Option<Waker> {
        self.woken = self.woken.min(jobs);
        if self.woken == jobs {
            return None;
        }
        let worker = self.sleepers.pop()?;
        self.woken += 1;
        let entry = self.entry(worker)?;
        entry.state = State::Woken;
        entry.waker.clone()
    }

    /// The wakers of all who wait for whatever it is.
    pub(crate) fn wakers(&self) -> impl Iterator<Item = Waker> {
        self.entries.iter().flatten().filter_map(|entry| entry.waker.clone())
    }

    /// Tells a worker that the caller of its job has gone.
    pub(crate) fn cancel(&self, worker: usize) -> Option<Waker> {
        let entry = self.entries.get(worker)?.as_ref()?;
        entry.cancelled.store(true, Release);
        entry.waker.clone()
    }

    #[inline]
    fn entry(&mut self, worker: usize) -> Option<&mut Entry> {
        self.entries.get_mut(worker)?.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roster(workers: usize) -> Roster {
        let mut roster = Roster::new(Size { min: 0, max: 9 });
        (0..workers).for_each(|number| assert_eq!(roster.hire().0, number));
        roster
    }

    fn asleep(workers: usize) -> Roster {
        let mut roster = roster(workers);
        for number in 0..workers {
            roster.arrive(number);
            roster.keep_waker(number, Some(Waker::noop().clone()));
            roster.sleep(number);
        }
        roster
    }

    #[test]
    fn numbers_of_workers_are_used_again_from_the_lowest() {
        let mut roster = roster(3);
        roster.leave(2);
        roster.leave(0);
        assert_eq!([0, 1, 2].map(|_| roster.hire().0), [0, 2, 3]);
    }

    #[test]
    fn one_sleeper_is_woken_for_each_job() {
        let mut roster = asleep(3);
        assert!(roster.wake_for(1).is_some());
        assert!(roster.wake_for(1).is_none(), "one is on its way");
        assert!(roster.wake_for(2).is_some());
        assert!(roster.wake_for(9).is_some());
        assert!(roster.wake_for(9).is_none(), "nobody sleeps");
    }

    #[test]
    fn a_worker_that_was_woken_and_does_not_run_is_not_counted_on_once_its_job_is_taken() {
        let mut roster = asleep(2);
        assert!(roster.wake_for(1).is_some());
        assert!(roster.wake_for(0).is_none(), "somebody else has taken the job");
        assert!(roster.wake_for(1).is_some(), "another is woken for the next");
    }
}
