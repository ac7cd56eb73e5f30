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
};

use stockade_core::sync::{Mutex, MutexGuard};
use stockade_core::{Key, LayerError, Queue, Reason, Rejected, lock};
use tokio::{task::AbortHandle, time::Instant};
use tokio_util::task::TaskTracker;

use crate::{
    Stats,
    job::Reply,
    run::Run,
    slot::Slot,
    stats::{self, Measured},
};

/// What callers and workers share.
pub(crate) struct Shared<Req, T, E> {
    core: Mutex<Core<Req, T, E>>,
    pub(crate) settings: Settings,
    /// The workers' tasks, until the last one has ended.
    pub(crate) tasks: TaskTracker,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) workers: usize,
    pub(crate) capacity: usize,
    pub(crate) measure: bool,
    pub(crate) name: Option<&'static str>,
}

struct Core<Req, T, E> {
    jobs: Queue<Entry<Req, T, E>>,
    callers: Queue<Option<Waker>>,
    sleepers: Queue<Waker>,
    /// A sleeper has been woken and has not arrived yet.
    waking: bool,
    /// Places that were given to callers who have not filled them yet.
    reserved: usize,
    closed: bool,
    /// How many drains wait, and will hand back what is left.
    draining: usize,
    counts: Stats,
    measured: Option<Box<Measured>>,
    aborts: Vec<AbortHandle>,
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

/// A worker's standing; dropping it takes the worker off the books.
pub(crate) struct Seat<Req, T, E: LayerError> {
    pub(crate) shared: Arc<Shared<Req, T, E>>,
    pub(crate) id: usize,
    standing: Standing,
}

/// Where a worker is on the books.
#[derive(Debug, Default)]
struct Standing {
    sleeping: Option<Key>,
    idle: bool,
}

type Wake = Option<Waker>;

fn wake(waker: Wake) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

// === impl Shared ===

impl<Req, T, E> Shared<Req, T, E> {
    pub(crate) fn new(settings: Settings) -> Self {
        let core = Core {
            jobs: Queue::new(),
            callers: Queue::new(),
            sleepers: Queue::new(),
            waking: false,
            reserved: 0,
            closed: false,
            draining: 0,
            counts: Stats::default(),
            measured: settings.measure.then(|| Box::new(Measured::new())),
            aborts: Vec::new(),
        };
        Self { core: Mutex::new(core), settings, tasks: TaskTracker::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Core<Req, T, E>> {
        lock(&self.core)
    }

    pub(crate) fn rejected(&self, reason: Reason) -> Rejected {
        Rejected::new(&"pool", reason).with_name(self.settings.name)
    }

    /// The instant, if the pool measures.
    pub(crate) fn clock(&self) -> Option<Instant> {
        self.settings.measure.then(Instant::now)
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

    /// Ready when `place` is held, or the pool is closed.
    pub(crate) fn poll_place(&self, place: &mut Place, cx: &mut Context<'_>) -> Poll<()> {
        if matches!(place, Place::Held) {
            return Poll::Ready(());
        }
        let mut core = self.lock();
        if core.closed {
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
            _ if core.callers.is_empty() && core.room(self.settings.capacity) => {
                core.reserved += 1;
                *place = Place::Held;
            }
            _ => *place = Place::Waiting(core.callers.push_back(Some(cx.waker().clone()))),
        }
        if matches!(place, Place::Held) { Poll::Ready(()) } else { Poll::Pending }
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
        &self,
        entry: Entry<Req, T, E>,
        place: &mut Place,
    ) -> Result<Key, (Entry<Req, T, E>, Reason)> {
        let mut core = self.lock();
        if core.closed {
            drop(core);
            self.leave_place(place);
            return Err((entry, Reason::Closed));
        }
        match std::mem::take(place) {
            Place::Held => core.reserved -= 1,
            Place::None if core.callers.is_empty() && core.room(self.settings.capacity) => {}
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
        drop(core);
        wake(worker);
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
        let aborts = std::mem::take(&mut self.lock().aborts);
        aborts.iter().for_each(AbortHandle::abort);
    }

    pub(crate) fn add_worker(&self, task: AbortHandle) {
        self.lock().aborts.push(task);
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
            entry.reply.refuse(self.rejected(Reason::Closed).into_error());
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
        self.jobs.len() + self.reserved < capacity.saturating_add(self.counts.idle)
    }

    /// Hands a free place to the first caller who waits.
    fn grant(&mut self, capacity: usize) -> Wake {
        if self.callers.is_empty() || self.closed || !self.room(capacity) {
            return None;
        }
        self.reserved += 1;
        self.callers.pop_front().flatten()
    }

    /// Picks a sleeper to wake, unless one is on the way. The last to fall asleep has the warmest cache.
    fn wake_one(&mut self) -> Wake {
        if self.waking {
            return None;
        }
        let worker = self.sleepers.pop_back();
        self.waking = worker.is_some();
        worker
    }

    fn record(&mut self, slot: &Slot<Req, T, E>) {
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

// === impl Seat ===

impl<Req, T, E: LayerError> Seat<Req, T, E> {
    pub(crate) fn new(shared: Arc<Shared<Req, T, E>>, id: usize) -> Self {
        shared.lock().counts.workers += 1;
        Self { shared, id, standing: Standing::default() }
    }

    /// Fills `slot` with the next job; false if the pool is closed and the queue empty. A job in it that has
    /// ended goes on the books first, under the same lock, and is answered after it.
    pub(crate) fn poll_next(
        &mut self,
        slot: &mut Slot<Req, T, E>,
        cx: &mut Context<'_>,
    ) -> Poll<bool> {
        let Self { shared, standing, id } = self;
        let capacity = shared.settings.capacity;
        let mut core = shared.lock();
        let ended = slot.has_ended();
        if ended {
            core.record(slot);
        }
        standing.arrive(&mut core);
        let mut worker = None;
        let entry = core.jobs.pop_front();
        let caller = if entry.is_some() {
            standing.set_idle(&mut core, false);
            core.counts.running += 1;
            core.counts.max_running = core.counts.max_running.max(core.counts.running);
            if !core.jobs.is_empty() {
                worker = core.wake_one();
            }
            core.grant(capacity)
        } else if core.closed {
            standing.set_idle(&mut core, false);
            drop(core);
            slot.answer(*id);
            return Poll::Ready(false);
        } else {
            standing.set_idle(&mut core, true);
            standing.sleeping = Some(core.sleepers.push_back(cx.waker().clone()));
            core.grant(capacity)
        };
        drop(core);
        if ended {
            slot.answer(*id);
        }
        wake(caller);
        wake(worker);
        match entry {
            Some(entry) => {
                slot.fill(entry, shared.clock());
                Poll::Ready(true)
            }
            None => Poll::Pending,
        }
    }

    /// The worker's service has to be made anew.
    pub(crate) fn rebuilding(&self) {
        self.shared.lock().counts.rebuilt += 1;
    }
}

impl<Req, T, E: LayerError> Drop for Seat<Req, T, E> {
    fn drop(&mut self) {
        let mut core = self.shared.lock();
        self.standing.arrive(&mut core);
        self.standing.set_idle(&mut core, false);
        core.counts.workers -= 1;
        // A worker that was on its way to a job passes its wake on.
        let worker = if core.jobs.is_empty() { None } else { core.wake_one() };
        let last = core.counts.workers == 0;
        let drained = core.draining > 0;
        drop(core);
        wake(worker);
        if last && !drained {
            // The workers were lost with their runtime: nobody will run what is queued.
            self.shared.close();
            drop(self.shared.take_back());
        }
    }
}

// === impl Standing ===

impl Standing {
    /// Takes the worker off the list of sleepers, or notes that it was woken from it.
    fn arrive<Req, T, E>(&mut self, core: &mut Core<Req, T, E>) {
        if let Some(key) = self.sleeping.take()
            && core.sleepers.remove(key).is_none()
        {
            core.waking = false;
        }
    }

    fn set_idle<Req, T, E>(&mut self, core: &mut Core<Req, T, E>, idle: bool) {
        match (self.idle, idle) {
            (false, true) => core.counts.idle += 1,
            (true, false) => core.counts.idle -= 1,
            _ => {}
        }
        self.idle = idle;
    }
}
