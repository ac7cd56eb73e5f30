//! What the callers and the workers of a pool share: one lock over the queue and all who wait.
//!
//! Two kinds wait here. *Callers* wait for a place in the queue, in FIFO order; a place that becomes free is
//! handed to the first of them and is his whether or not he has noticed yet, so nobody slips in. *Workers*
//! sleep until there is a job. One of them is woken at a time: who arrives and finds more jobs wakes the
//! next. So a burst does not wake everybody for the lock, and yet no job waits while a worker is idle.
//!
//! There is room for a job as long as fewer jobs are queued and fewer places reserved than the queue holds
//! plus the workers that are idle: a queue of 0 accepts a job exactly when a worker is free.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use stockade_core::sync::{Mutex, MutexGuard};
use stockade_core::{Key, LayerError, Queue, Reason, Rejected, lock};
use tokio::{sync::watch, time::Instant};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use crate::{
    Load, Scale, Stats, Status,
    batch::Run,
    codel::Codel,
    job::Reply,
    nested,
    scale::{Badge, Crew, Size, Stop},
    slot::Slot,
    stats::{self, Measured},
    worker::guard,
};

/// What callers and workers share.
pub(crate) struct Shared<Req, T, E> {
    core: Mutex<Core<Req, T, E>>,
    pub(crate) settings: Settings,
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
}

pub(crate) struct Core<Req, T, E> {
    pub(crate) jobs: Queue<Entry<Req, T, E>>,
    callers: Queue<Option<Waker>>,
    pub(crate) sleepers: Queue<Waker>,
    /// A sleeper has been woken and has not arrived yet.
    pub(crate) waking: bool,
    /// Places that were given to callers who have not filled them yet.
    reserved: usize,
    pub(crate) closed: bool,
    pub(crate) paused: bool,
    /// How many drains wait, and will hand back what is left.
    pub(crate) draining: usize,
    pub(crate) counts: Stats,
    measured: Option<Box<Measured>>,
    pub(crate) codel: Option<Codel>,
    pub(crate) crew: Crew,
}

/// A job in the queue.
pub(crate) struct Entry<Req, T, E> {
    pub(crate) request: Req,
    pub(crate) reply: Reply<T, E>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) since: Option<Instant>,
}

/// A caller's way to a place in the queue.
#[derive(Debug, Default)]
pub(crate) enum Place {
    /// He has not asked.
    #[default]
    None,
    /// He waits.
    Waiting(Key),
    /// He has one.
    Held,
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
        scale: Option<Arc<dyn Scale>>,
        start: Box<dyn Start<Req, T, E>>,
    ) -> Self {
        let core = Core {
            jobs: Queue::new(),
            callers: Queue::new(),
            sleepers: Queue::new(),
            waking: false,
            reserved: 0,
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
            settings,
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

    // --- callers ---

    /// Whether the caller is inside a job of this pool.
    pub(crate) fn is_inside(&self) -> bool {
        nested::is_inside(self)
    }

    /// Ready when `place` is held, or there will be none: the pool is closed, or it is asked from inside a job.
    pub(crate) fn poll_place(
        self: &Arc<Self>,
        place: &mut Place,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if matches!(place, Place::Held) {
            return Poll::Ready(());
        }
        let inside = self.is_inside();
        let capacity = if inside { 0 } else { self.settings.capacity };
        let mut core = self.lock();
        if core.closed || (inside && !core.room(capacity)) {
            drop(core);
            self.leave_place(place);
            return Poll::Ready(());
        }
        match place {
            Place::Waiting(key) => match core.callers.get_mut(*key) {
                // The place has been handed over.
                None => *place = Place::Held,
                Some(Some(waker)) => waker.clone_from(cx.waker()),
                Some(none) => *none = Some(cx.waker().clone()),
            },
            _ if core.callers.is_empty() && core.room(capacity) => {
                core.reserved += 1;
                *place = Place::Held;
            }
            _ => *place = Place::Waiting(core.callers.push_back(Some(cx.waker().clone()))),
        }
        if matches!(place, Place::Held) {
            return Poll::Ready(());
        }
        drop(core);
        self.rescale();
        Poll::Pending
    }

    /// Gives back a place, or the wait for one.
    pub(crate) fn leave_place(&self, place: &mut Place) {
        let mut core = self.lock();
        let held = match std::mem::take(place) {
            Place::None => false,
            Place::Held => true,
            Place::Waiting(key) => core.callers.remove(key).is_none(),
        };
        if held {
            core.reserved -= 1;
            let caller = core.grant(self.settings.capacity);
            drop(core);
            wake(caller);
        }
    }

    /// Queues a job in the held place, or in a free one if nobody waits for it.
    ///
    /// # Errors
    ///
    /// Gives the job back with the reason: the pool is closed, or there is no room.
    pub(crate) fn push(
        self: &Arc<Self>,
        entry: Entry<Req, T, E>,
        place: &mut Place,
    ) -> Result<Key, (Entry<Req, T, E>, Reason)> {
        let inside = self.is_inside();
        let capacity = if inside { 0 } else { self.settings.capacity };
        let mut core = self.lock();
        if core.closed {
            drop(core);
            self.leave_place(place);
            return Err((entry, Reason::Closed));
        }
        match std::mem::take(place) {
            Place::Held => {
                core.reserved -= 1;
                if inside && !core.room(capacity) {
                    let caller = core.grant(self.settings.capacity);
                    drop(core);
                    wake(caller);
                    return Err((entry, Reason::QueueFull));
                }
            }
            Place::None if core.callers.is_empty() && core.room(capacity) => {}
            other => {
                drop(core);
                *place = other;
                return Err((entry, Reason::QueueFull));
            }
        }
        let key = core.jobs.push_back(entry);
        core.counts.accepted += 1;
        core.counts.max_queued = core.counts.max_queued.max(core.jobs.len());
        let worker = core.wake_one();
        let missing = core.missing();
        let hired = if missing > 0 { self.hire(&mut core, missing) } else { Vec::new() };
        drop(core);
        wake(worker);
        self.start(hired);
        self.rescale();
        Ok(key)
    }

    /// Takes a job out of the queue again; false if it has left by itself.
    pub(crate) fn withdraw(&self, key: Key) -> bool {
        let mut core = self.lock();
        let Some(entry) = core.jobs.remove(key) else { return false };
        core.counts.cancelled += 1;
        let caller = core.grant(self.settings.capacity);
        drop(core);
        wake(caller);
        drop(entry);
        true
    }

    /// Takes all jobs of a run out of the queue again.
    pub(crate) fn withdraw_run(&self, run: &Arc<Run<T, E>>) {
        let mut core = self.lock();
        let gone = core.jobs.extract(|entry| entry.reply.is_of(run));
        core.counts.cancelled += gone.len() as u64;
        let callers: Vec<Wake> = gone.iter().map(|_| core.grant(self.settings.capacity)).collect();
        drop(core);
        callers.into_iter().for_each(wake);
    }

    /// Refuses new jobs from now on; those that are queued will run.
    pub(crate) fn close(&self) {
        let mut core = self.lock();
        core.closed = true;
        core.paused = false;
        let mut woken: Vec<Wake> = core.callers.iter().cloned().collect();
        woken.extend(core.sleepers.iter().cloned().map(Some));
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

    pub(crate) fn resume(&self) {
        let mut core = self.lock();
        core.paused = false;
        let worker = core.wake_one();
        let callers = core.grant_all(self.settings.capacity);
        drop(core);
        wake(worker);
        callers.into_iter().for_each(wake);
    }

    // --- size ---

    pub(crate) fn most_workers(&self) -> usize {
        self.lock().crew.size.max
    }

    /// Puts workers on the books, who are started without the lock.
    fn hire(&self, core: &mut Core<Req, T, E>, n: usize) -> Vec<Chair> {
        core.counts.workers += n;
        core.counts.max_workers = core.counts.max_workers.max(core.counts.workers);
        (0..n).map(|_| Chair { badge: core.crew.hire(), token: self.tasks.token() }).collect()
    }

    pub(crate) fn start(self: &Arc<Self>, chairs: Vec<Chair>) {
        if chairs.is_empty() {
            return;
        }
        for chair in chairs {
            let badge = chair.badge;
            let stop = self.start.start(self, chair);
            let late = self.lock().crew.keep(badge, stop);
            late.into_iter().for_each(Stop::stop);
        }
        self.publish_size();
    }

    /// Tells those who watch it how many workers there are.
    pub(crate) fn publish_size(&self) {
        self.size.send_if_modified(|size| {
            let workers = self.lock().counts.workers;
            std::mem::replace(size, workers) != workers
        });
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
    fn rescale(self: &Arc<Self>) {
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
        let load = self.lock().load(now);
        let wanted = match &self.scale {
            Some(scale) => guard(|| scale.workers(&load)).unwrap_or(load.live),
            None => load.busy + load.queued,
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
        let sleepers: Vec<Waker> = core.sleepers.iter().cloned().collect();
        let callers = core.grant_all(self.settings.capacity);
        drop(core);
        sleepers.into_iter().for_each(Waker::wake);
        callers.into_iter().for_each(wake);
        self.start(hired);
        self.rescale();
    }
}

impl<Req, T, E: LayerError> Shared<Req, T, E> {
    /// Takes every job out of the queue, answers their callers with [`Reason::Closed`], and returns the
    /// requests.
    pub(crate) fn take_back(&self) -> Vec<Req> {
        let mut core = self.lock();
        let entries = core.jobs.extract(|_| true);
        core.counts.handed_back += entries.len() as u64;
        drop(core);
        let hand_back = |entry: Entry<Req, T, E>| {
            entry.reply.refuse(Status::Cancelled, self.rejected(Reason::Closed).into_error());
            entry.request
        };
        entries.into_iter().map(hand_back).collect()
    }

    /// Puts the job that has ended on the books, and then answers its caller.
    pub(crate) fn settle(&self, slot: &mut Slot<Req, T, E>, worker: usize) {
        if slot.has_ended() {
            self.lock().record(slot);
            slot.answer(worker);
        }
    }
}

// === impl Core ===

impl<Req, T, E> Core<Req, T, E> {
    fn room(&self, capacity: usize) -> bool {
        let takers = if self.paused { 0 } else { self.counts.idle.saturating_add(self.growth()) };
        self.jobs.len() + self.reserved < capacity.saturating_add(takers)
    }

    /// How many more jobs the workers could take who are about to start, or would be started for them.
    fn growth(&self) -> usize {
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
    fn missing(&self) -> usize {
        let live = self.counts.workers;
        if live >= self.crew.size.max || !self.crew.per_job || self.paused || self.closed {
            return 0;
        }
        let takers = self.counts.idle + self.crew.coming;
        self.jobs.len().saturating_sub(takers).min(self.crew.size.max - live)
    }

    fn load(&self, now: Option<Instant>) -> Load {
        let oldest = self.jobs.front().and_then(|entry| entry.since).zip(now);
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

    /// Whether to shed the job that has just been taken out of the queue.
    pub(crate) fn sheds(&mut self, entry: &Entry<Req, T, E>) -> bool {
        let Some((codel, since)) = self.codel.as_mut().zip(entry.since) else { return false };
        let now = Instant::now();
        codel.sheds(now, now - since, self.jobs.is_empty())
    }

    /// Hands a free place to the first caller who waits.
    pub(crate) fn grant(&mut self, capacity: usize) -> Wake {
        if self.callers.is_empty() || self.closed || !self.room(capacity) {
            return None;
        }
        self.reserved += 1;
        self.callers.pop_front().flatten()
    }

    /// Hands all free places out.
    fn grant_all(&mut self, capacity: usize) -> Vec<Wake> {
        let mut woken = Vec::new();
        while !self.callers.is_empty() && !self.closed && self.room(capacity) {
            woken.push(self.grant(capacity));
        }
        woken
    }

    /// Whether there is a job that a worker may take.
    pub(crate) fn has_work(&self) -> bool {
        !self.paused && !self.jobs.is_empty()
    }

    /// Picks a sleeper to wake, unless one is on the way. The last to fall asleep has the warmest cache.
    pub(crate) fn wake_one(&mut self) -> Wake {
        if self.waking || !self.has_work() {
            return None;
        }
        let worker = self.sleepers.pop_back();
        self.waking = worker.is_some();
        worker
    }

    pub(crate) fn record(&mut self, slot: &Slot<Req, T, E>) {
        self.counts.running -= 1;
        self.counts.count(slot.status());
        if let (Some(measured), Some(times)) = (&mut self.measured, slot.times()) {
            stats::record(&mut measured.queue_wait, times.queued);
            if let Some(ran) = times.ran {
                stats::record(&mut measured.run_time, ran);
            }
        }
    }
}
