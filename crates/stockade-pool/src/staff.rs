//! Workers come and go: what adds them, and what is asked before one leaves.

use std::{panic::resume_unwind, sync::Arc, task::Waker, time::Duration};

use stockade_core::internal::sync::atomic::AtomicBool;
use tokio::time::Instant;

use crate::{
    Load,
    scale::{Size, Stop},
    shared::{Chair, Core, Desk, Shared, wake},
    worker::guard,
};

impl<Req, T, E> Shared<Req, T, E> {
    /// Puts workers on the books, who are started without the lock.
    pub(crate) fn hire(&self, core: &mut Core<Req, T, E>, n: usize) -> Vec<Chair> {
        core.counts.workers += n;
        core.counts.max_workers = core.counts.max_workers.max(core.counts.workers);
        let chair = |_| {
            let badge = core.crew.hire();
            let cancelled = Arc::new(AtomicBool::new(false));
            let desk =
                Desk { cancelled: Arc::clone(&cancelled), waker: None, sleeping: None, place: 0 };
            match core.desks.get_mut(badge.id) {
                Some(old) => *old = desk,
                None => core.desks.push(desk),
            }
            Chair { badge, token: self.tasks.token(), cancelled }
        };
        (0..n).map(chair).collect()
    }

    pub(crate) fn start(self: &Arc<Self>, chairs: Vec<Chair>) {
        if chairs.is_empty() {
            return;
        }
        let mut panicked = None;
        for chair in chairs {
            let badge = chair.badge;
            // One that cannot be started is off the books, and the others are started all the same.
            match guard(|| self.start.start(self, chair)) {
                Ok(stop) => {
                    let late = self.lock().crew.keep(badge, stop);
                    late.into_iter().for_each(Stop::stop);
                }
                Err(panic) => panicked = Some(panic),
            }
        }
        self.publish_size();
        if let Some(panic) = panicked {
            resume_unwind(panic);
        }
    }

    /// Tells those who watch it how many workers there are.
    pub(crate) fn publish_size(&self) {
        loop {
            let workers = self.lock().counts.workers;
            self.size.send_if_modified(|size| std::mem::replace(size, workers) != workers);
            // Whoever is overtaken by another says it again, so that the last word is true.
            if self.lock().counts.workers == workers {
                return;
            }
        }
    }

    /// Starts the workers that a pool has at least.
    pub(crate) fn open(self: &Arc<Self>) {
        let mut core = self.lock();
        let hired = self.hire(&mut core, self.settings.workers.min);
        drop(core);
        self.start(hired);
    }

    /// Asks the user's rule for more workers.
    #[inline]
    pub(crate) fn rescale(self: &Arc<Self>) {
        if self.scale.is_some() {
            self.add_workers();
        }
    }

    #[cold]
    fn add_workers(self: &Arc<Self>) {
        let wanted = self.wanted();
        let mut core = self.lock();
        if core.closed || core.paused {
            return;
        }
        let missing = wanted.min(core.crew.size.max).saturating_sub(core.counts.workers);
        let hired = self.hire(&mut core, missing);
        drop(core);
        self.start(hired);
    }

    /// How many workers there ought to be by the user's rule, or the built-in one.
    pub(crate) fn wanted(&self) -> usize {
        let now = self.clock();
        let core = self.lock();
        let (load, ready) = (core.load(now), core.jobs.ready());
        drop(core);
        let wanted = match &self.scale {
            Some(scale) => guard(|| scale.workers(&load)).unwrap_or(load.live),
            None => load.busy + ready,
        };
        let least = load.min.max(usize::from(load.queued > 0));
        wanted.clamp(least, load.max.max(least))
    }

    /// Sets the range of workers. What is missing is started at once; who is too many leaves after his job.
    pub(crate) fn resize(self: &Arc<Self>, size: Size) {
        let mut core = self.lock();
        core.crew.size = size;
        let live = core.counts.workers;
        let missing = if core.closed { 0 } else { size.min.saturating_sub(live) };
        let mut hired = self.hire(&mut core, missing);
        let missing = core.missing();
        hired.extend(self.hire(&mut core, missing));
        // All look whether they are too many, and those who are not whether they could be spared.
        let sleepers: Vec<Waker> = core.sleeping().collect();
        let callers = core.grant_all(self.settings.capacity);
        drop(core);
        sleepers.into_iter().for_each(Waker::wake);
        callers.into_iter().for_each(wake);
        self.start(hired);
        self.rescale();
    }
}

impl<Req, T, E> Core<Req, T, E> {
    /// How many more jobs the workers could take who are about to start, or would be started for them.
    #[inline]
    pub(crate) fn growth(&self) -> usize {
        let crew = &self.crew;
        if crew.size.is_fixed() || self.closed {
            0
        } else if crew.per_job {
            crew.coming + crew.size.max.saturating_sub(self.counts.workers)
        } else {
            crew.coming
        }
    }

    /// How many workers are missing by the built-in rule: one for each job that nobody is free to take.
    #[inline]
    pub(crate) fn missing(&self) -> usize {
        let live = self.counts.workers;
        if live >= self.crew.size.max || !self.crew.per_job || self.paused || self.closed {
            return 0;
        }
        let takers = self.counts.idle + self.crew.coming;
        self.jobs.ready().saturating_sub(takers).min(self.crew.size.max - live)
    }

    fn load(&self, now: Option<Instant>) -> Load {
        let oldest = self.jobs.oldest().zip(now);
        Load {
            queued: self.jobs.len(),
            oldest: oldest
                .map_or(Duration::ZERO, |(since, now)| now.saturating_duration_since(since)),
            busy: self.counts.workers - self.counts.idle - self.crew.coming,
            live: self.counts.workers,
            min: self.crew.size.min,
            max: self.crew.size.max,
        }
    }
}
