//! What the callers and the workers of a pool share: one lock over the queue and all who wait.
//!
//! Two kinds wait here. *Callers* wait for a place in the queue, in FIFO order; a place that becomes free is
//! handed to the first of them and is his whether or not he has noticed yet, so nobody slips in. *Workers*
//! sleep until there is a job. One of them is woken at a time: who arrives and finds more jobs wakes the
//! next. So a burst does not wake everybody for the lock, and yet no job waits while a worker is idle.
//!
//! There is room for a job as long as fewer jobs are queued and fewer places reserved than the queue holds
//! plus the workers that are idle: a queue of 0 accepts a job exactly when a worker is free.

use std::{sync::Arc, task::Waker, time::Duration};

use stockade_core::internal::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, Ordering::*},
};
use stockade_core::{
    Reason, Rejected,
    internal::{Queue, lock},
};
use tokio::{sync::watch, time::Instant};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use crate::{
    Scale, Stats,
    arrange::Jobs,
    batch::Run,
    board::Owner,
    codel::Codel,
    places::Caller,
    rules::Of,
    scale::{Badge, Crew, Size, Stop},
    slot::Slot,
    stats::Measured,
};

/// What callers and workers share.
pub(crate) struct Shared<Req, T, E> {
    core: Mutex<Core<Req, T, E>>,
    /// How many jobs have been answered. Stored under the lock before the waker that was kept for an answer is used,
    /// and read without it: by one who reads what it was when his waker was put there, his waker is there still.
    answered: AtomicU64,
    pub(crate) settings: Settings,
    pub(crate) rules: Of<Req>,
    /// None: the built-in rule.
    pub(crate) scale: Option<Arc<dyn Scale>>,
    pub(crate) start: Box<dyn Start<Req, T, E>>,
    /// How many workers there are, for those who watch it.
    pub(crate) size: watch::Sender<usize>,
    /// The workers' tasks, until the last one has ended.
    pub(crate) tasks: TaskTracker,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) workers: Size,
    pub(crate) capacity: usize,
    pub(crate) idle: Duration,
    pub(crate) measure: bool,
    /// Read the clock when a job is queued and taken.
    pub(crate) clock: bool,
    pub(crate) detach: bool,
    /// CoDel's target and interval.
    pub(crate) codel: Option<(Duration, Duration)>,
    /// What the queued jobs may weigh together.
    pub(crate) budget: u64,
    pub(crate) name: Option<&'static str>,
}

/// Starts workers.
pub(crate) trait Start<Req, T, E>: Send + Sync {
    /// Starts a worker, and returns the way to stop it.
    fn start(&self, shared: &Arc<Shared<Req, T, E>>, chair: Chair) -> Stop;

    /// Waits for what is left of workers that have ended.
    fn join(&self) {}
}

/// The place of a worker who is on the books and has not started yet.
pub(crate) struct Chair {
    pub(crate) badge: Badge,
    /// The worker counts as a task from here on, so that a drain waits for it.
    pub(crate) token: TaskTrackerToken,
    pub(crate) cancelled: Arc<AtomicBool>,
}

/// How a worker that runs a job is told that its caller has gone.
pub(crate) struct Desk {
    /// Stored under the lock, where a job is taken and left, so it is about the job at hand.
    pub(crate) cancelled: Arc<AtomicBool>,
    /// Of the worker, once it had a job that was pending.
    pub(crate) waker: Option<Waker>,
    /// Of the worker while it sleeps and has not been woken.
    pub(crate) sleeping: Option<Waker>,
    /// Where it is among the sleepers then.
    pub(crate) place: usize,
}

pub(crate) struct Core<Req, T, E> {
    pub(crate) jobs: Jobs<Req, T, E>,
    pub(crate) callers: Queue<Caller>,
    /// The workers that sleep, the last to fall asleep at the end.
    pub(crate) sleepers: Vec<usize>,
    /// By number of the worker.
    pub(crate) desks: Vec<Desk>,
    pub(crate) runs: Queue<Run<T, E>>,
    /// A sleeper has been woken and has not arrived yet.
    pub(crate) waking: bool,
    /// Places that were given to callers who have not filled them yet.
    pub(crate) reserved: usize,
    /// What they will weigh.
    pub(crate) reserved_weight: u64,
    pub(crate) budget: u64,
    pub(crate) closed: bool,
    pub(crate) paused: bool,
    /// How many drains wait, and will hand back what is left.
    pub(crate) draining: usize,
    pub(crate) counts: Stats,
    measured: Option<Box<Measured>>,
    pub(crate) codel: Option<Codel>,
    pub(crate) crew: Crew,
}

pub(crate) type Wake = Option<Waker>;

pub(crate) fn wake(waker: Wake) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

// === impl Shared ===

impl<Req, T, E> Shared<Req, T, E> {
    pub(crate) fn new(
        settings: Settings,
        rules: Of<Req>,
        scale: Option<Arc<dyn Scale>>,
        start: Box<dyn Start<Req, T, E>>,
    ) -> Self {
        let core = Core {
            jobs: Jobs::new(&rules, settings.capacity.saturating_add(settings.workers.max)),
            callers: Queue::new(),
            sleepers: Vec::new(),
            desks: Vec::new(),
            runs: Queue::new(),
            waking: false,
            reserved: 0,
            reserved_weight: 0,
            budget: settings.budget,
            closed: false,
            paused: false,
            draining: 0,
            counts: Stats::default(),
            measured: settings.measure.then(|| Box::new(Measured::new())),
            codel: settings.codel.map(|(target, interval)| Codel::new(target, interval)),
            crew: Crew::new(settings.workers, scale.is_none()),
        };
        Self {
            core: Mutex::new(core),
            answered: AtomicU64::new(0),
            settings,
            rules,
            scale,
            start,
            size: watch::Sender::new(0),
            tasks: TaskTracker::new(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Core<Req, T, E>> {
        lock(&self.core)
    }

    pub(crate) fn rejected(&self, reason: Reason) -> Rejected {
        Rejected::new(&"pool", reason).with_name(self.settings.name)
    }

    /// The instant, if the pool needs to know how long jobs wait.
    pub(crate) fn clock(&self) -> Option<Instant> {
        self.settings.clock.then(Instant::now)
    }

    pub(crate) fn stats(&self) -> Stats {
        let core = self.lock();
        let mut stats = core.counts.clone();
        stats.queued = core.jobs.len();
        stats.queue_wait = core.measured.as_ref().map(|measured| (&measured.queue_wait).into());
        stats.run_time = core.measured.as_ref().map(|measured| (&measured.run_time).into());
        stats
    }

    /// Refuses new jobs from now on; those that are queued will run.
    pub(crate) fn close(&self) {
        let mut core = self.lock();
        core.closed = true;
        core.paused = false;
        let mut woken: Vec<Wake> =
            core.callers.iter().map(|caller| Some(caller.waker.clone())).collect();
        woken.extend(core.sleeping().map(Some));
        drop(core);
        self.tasks.close();
        woken.into_iter().for_each(wake);
    }

    /// Counts a drain that waits, which will take back what is left in the queue.
    pub(crate) fn set_draining(&self, waits: bool) {
        let mut core = self.lock();
        core.draining = if waits { core.draining + 1 } else { core.draining - 1 };
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Stops the workers at their next await.
    pub(crate) fn abort(&self) {
        let stops = self.lock().crew.stop();
        stops.for_each(Stop::stop);
    }

    /// Starts no job until [`resume`](Self::resume).
    pub(crate) fn pause(&self) {
        let mut core = self.lock();
        core.paused = !core.closed;
    }

    pub(crate) fn resume(self: &Arc<Self>) {
        let mut core = self.lock();
        core.paused = false;
        let callers = core.grant_all(self.settings.capacity);
        drop(core);
        callers.into_iter().for_each(wake);
        // More jobs may have been queued meanwhile than there are workers.
        self.see_to(self.lock());
    }
}

impl<Req, T, E> Shared<Req, T, E> {
    /// How many jobs have been answered.
    #[inline]
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Acquire)
    }

    /// Puts the job that has ended on the books, and its answer where it is read. Returns whom to wake.
    #[inline(always)]
    pub(crate) fn record(
        &self,
        core: &mut Core<Req, T, E>,
        slot: &mut Slot<Req, T, E>,
        worker: usize,
    ) -> Wake {
        core.counts.running -= 1;
        core.counts.count(slot.status());
        if let Some(measured) = &mut core.measured {
            measured.record(slot.times());
        }
        self.count_answer();
        match core.jobs.board.end(slot.key()?, slot.result()) {
            Owner::Caller(waker) => waker,
            Owner::Nobody => None,
            Owner::Run(run, id) => {
                let run = core.runs.get_mut(run)?;
                run.end(slot.outcome(id, worker)?)
            }
        }
    }

    /// Called under the lock, which is why it needs no atomic addition.
    #[inline]
    pub(crate) fn count_answer(&self) {
        self.answered.store(self.answered.load(Relaxed).wrapping_add(1), Release);
    }

    /// Puts the job that has ended on the books, and then wakes its caller.
    pub(crate) fn settle(&self, slot: &mut Slot<Req, T, E>, worker: usize) {
        if slot.has_ended() {
            let caller = self.record(&mut self.lock(), slot, worker);
            slot.clear();
            wake(caller);
            slot.discard();
        }
    }
}

// === impl Core ===

impl<Req, T, E> Core<Req, T, E> {
    /// Whether to shed the job that has just been taken out of the queue.
    #[inline]
    pub(crate) fn sheds(&mut self, since: Option<Instant>) -> bool {
        let (Some(codel), Some(since)) = (&mut self.codel, since) else { return false };
        let now = Instant::now();
        codel.sheds(now, now - since, self.jobs.is_empty())
    }

    /// Whether there is a job that a worker may take.
    pub(crate) fn has_work(&self) -> bool {
        !self.paused && self.jobs.ready() > 0
    }

    /// Picks a sleeper to wake, unless one is on the way. The last to fall asleep has the warmest cache.
    #[inline]
    pub(crate) fn wake_one(&mut self) -> Wake {
        if self.waking || self.sleepers.is_empty() || !self.has_work() {
            return None;
        }
        let worker = self.sleepers.pop()?;
        self.waking = true;
        self.desks[worker].sleeping.take()
    }

    /// The wakers of all who sleep.
    pub(crate) fn sleeping(&self) -> impl Iterator<Item = Waker> {
        self.sleepers.iter().filter_map(|&worker| self.desks[worker].sleeping.clone())
    }

    /// Puts the worker on the list of sleepers, as the first to be woken.
    #[inline]
    pub(crate) fn sleep(&mut self, worker: usize, waker: Waker) {
        let desk = &mut self.desks[worker];
        (desk.sleeping, desk.place) = (Some(waker), self.sleepers.len());
        self.sleepers.push(worker);
    }

    /// Takes the worker off the list of sleepers; false if it has been woken from it.
    pub(crate) fn rise(&mut self, worker: usize) -> bool {
        let desk = &mut self.desks[worker];
        if desk.sleeping.take().is_none() {
            return false;
        }
        // Cold, as it was woken by something else than a job. The last one takes its place, so that thousands who leave
        // together need not each look for themselves.
        let place = desk.place;
        self.sleepers.swap_remove(place);
        if let Some(&moved) = self.sleepers.get(place) {
            self.desks[moved].place = place;
        }
        true
    }

    /// Tells the worker that the caller of its job has gone.
    pub(crate) fn cancel(&mut self, worker: usize) -> Wake {
        let desk = self.desks.get(worker)?;
        desk.cancelled.store(true, Release);
        desk.waker.clone()
    }
}
