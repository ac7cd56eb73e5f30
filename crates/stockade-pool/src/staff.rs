//! Workers come and go: how they are started, counted and stopped.

use std::{io, sync::Arc};

use stockade_core::internal::sync::{MutexGuard, atomic::Ordering::*};

use crate::{
    contain::{Panic, discard, guard},
    locked::Core,
    roster::Size,
    shared::{Hired, Shared},
};

// === impl Shared ===

impl<Req, T, E> Shared<Req, T, E> {
    /// Adds workers, and lets go of the lock. One that cannot be started leaves the roster, and the others are started
    /// all the same.
    #[cold]
    pub(crate) fn add(
        self: &Arc<Self>,
        mut core: MutexGuard<'_, Core<Req, T, E>>,
        n: usize,
    ) -> io::Result<()> {
        let hire = |_| {
            let (number, cancelled) = core.roster.hire();
            Hired { number, cancelled, token: self.tokens.subscribe() }
        };
        let hired: Vec<Hired> = (0..n).map(hire).collect();
        core.counts.peak_workers = core.counts.peak_workers.max(core.roster.alive());
        core.admit();
        core.wake_workers();
        self.let_go(core);
        let mut started = Ok(());
        for hired in hired {
            if let Err(error) = self.spawn.spawn(self, hired) {
                started = Err(error);
            }
        }
        self.publish_size();
        started
    }

    /// Takes a worker off the roster, and lets go of the lock. If it was on its way to a job, another one is woken.
    pub(crate) fn dismiss(&self, mut core: MutexGuard<'_, Core<Req, T, E>>, worker: usize) {
        let entry = core.roster.leave(worker);
        core.wake_workers();
        core.wake_if_over();
        self.let_go(core);
        discard(entry);
    }

    /// Starts the workers that are missing.
    ///
    /// # Errors
    ///
    /// If one of them cannot be started.
    pub(crate) fn start(self: &Arc<Self>) -> io::Result<()> {
        let core = self.lock();
        let missing = core.missing();
        self.add(core, missing)
    }

    /// Waits until the pool is closed and the last worker is gone, with all that it had.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + use<Req, T, E> {
        let (closed, workers) = (self.closed.clone(), self.tokens.clone());
        async move {
            closed.cancelled().await;
            workers.closed().await;
        }
    }

    /// Tells those who watch it how many workers there are.
    pub(crate) fn publish_size(&self) {
        loop {
            let workers = self.lock().roster.alive();
            self.size.send_if_modified(|size| std::mem::replace(size, workers) != workers);
            // If another has been faster, what was said last is said again, so that it is true.
            if self.lock().roster.alive() == workers {
                return;
            }
        }
    }

    /// Adds the workers that the rule wants, with so many more jobs that would be queued if there was a place.
    #[cold]
    pub(crate) fn add_workers(self: &Arc<Self>, more: usize) {
        let wanted = self.wanted(more);
        let core = self.lock();
        if core.paused || (core.closed && core.queue.is_empty()) {
            return;
        }
        let missing = wanted.min(core.roster.size.max).saturating_sub(core.roster.alive());
        if missing > 0 {
            // What cannot be started now is tried again later.
            let _ = self.add(core, missing);
        }
    }

    /// How many workers there ought to be, by the user's rule or the built-in one.
    pub(crate) fn wanted(&self, more: usize) -> usize {
        let now = self.clock();
        let core = self.lock();
        let mut load = core.load(now);
        drop(core);
        load.queued += more;
        let wanted = match &self.rules.scale {
            Some(scale) => guard(|| scale.workers(&load)).unwrap_or_else(|panic: Panic| {
                discard(panic);
                load.live
            }),
            // One that is idle is not needed.
            None => 0,
        };
        let least = load.min.max(usize::from(load.queued > 0));
        wanted.clamp(least, load.max.max(least))
    }

    /// Sets the range of workers. What is missing is started at once; one that is too many leaves after its job.
    pub(crate) fn resize(self: &Arc<Self>, size: Size) {
        let mut core = self.lock();
        core.roster.size = size;
        // All look whether they are too many, or could be spared now.
        core.wake_all();
        self.see_to(core);
    }

    /// Stops the workers at their next await.
    pub(crate) fn abort(&self) {
        self.stopped.store(true, Release);
        let mut core = self.lock();
        core.wake_all();
        self.let_go(core);
    }

    /// Whether all workers are to stop, those that are added later too.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Acquire)
    }
}
