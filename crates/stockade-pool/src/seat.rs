//! A worker's side of what is shared: how it asks for a job, sleeps, and leaves.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use stockade_core::{
    LayerError,
    internal::sync::atomic::{AtomicBool, Ordering::*},
};
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::{
    affinity::Bound,
    scale::Badge,
    shared::{Chair, Core, Shared, wake},
    slot::Slot,
};

/// A worker's standing; dropping it takes the worker off the books.
pub(crate) struct Seat<Req, T, E: LayerError> {
    pub(crate) shared: Arc<Shared<Req, T, E>>,
    pub(crate) badge: Badge,
    standing: Standing,
    /// The caller of the job at hand has gone.
    cancelled: Arc<AtomicBool>,
    /// What is at the desk, for whoever cancels the job.
    waker: Option<Waker>,
    _token: TaskTrackerToken,
}

/// Where a worker is on the books.
#[derive(Debug, Default)]
struct Standing {
    sleeping: bool,
    idle: bool,
    /// It has asked for a job before.
    arrived: bool,
    /// It sleeps, and the pool could do without it.
    spare: bool,
    left: bool,
    bound: Bound,
}

/// What a worker is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Run the job in the slot.
    Job,
    /// Leave: the pool is closed and the queue empty, or there are too many workers.
    Leave,
}

// === impl Seat ===

impl<Req, T, E: LayerError> Seat<Req, T, E> {
    pub(crate) fn new(shared: Arc<Shared<Req, T, E>>, chair: Chair) -> Self {
        let Chair { badge, token, cancelled } = chair;
        let standing = Standing::default();
        Self { shared, badge, standing, cancelled, waker: None, _token: token }
    }

    /// Fills `slot` with the next job. A job in it that has ended goes on the books first, under the same
    /// lock, and its caller is woken after it.
    pub(crate) fn poll_next(
        &mut self,
        slot: &mut Slot<Req, T, E>,
        cx: &mut Context<'_>,
    ) -> Poll<Next> {
        let Self { shared, standing, badge, cancelled, .. } = self;
        let capacity = shared.settings.capacity;
        let mut core = shared.lock();
        let ended = slot.has_ended();
        let answered = if ended { shared.record(&mut core, slot, badge.id) } else { None };
        standing.arrive(&mut core, badge.id);
        core.jobs.finish(&mut standing.bound);
        let mut worker = None;
        // A nested job was accepted because a worker is free, and its caller keeps another one from leaving or from
        // taking it: whoever is too many runs it first.
        let too_many = core.counts.workers > core.crew.size.max && !core.jobs.has_nested();
        let taken = !too_many
            && !core.paused
            && core
                .jobs
                .pop(&mut standing.bound, badge.id, |key, entry| slot.fill(key, entry))
                .is_some();
        let caller = if taken {
            if core.codel.is_some() {
                slot.set_shed(core.sheds(slot.since()));
            }
            standing.set_idle(&mut core, false);
            core.counts.running += 1;
            if core.counts.running > core.counts.max_running {
                core.counts.max_running = core.counts.running;
            }
            if cancelled.load(Relaxed) {
                cancelled.store(false, Relaxed);
            }
            worker = core.wake_one();
            core.grant(capacity)
        } else if too_many || core.closed {
            standing.set_idle(&mut core, false);
            if too_many {
                standing.leave(&mut core, *badge);
                // The wake that it got, if any, is the next one's.
                worker = core.wake_one();
            }
            // Before anybody is woken, here and below: a waker that panics must not put the job on the books twice.
            slot.clear();
            drop(core);
            wake(answered);
            wake(worker);
            slot.discard();
            return Poll::Ready(Next::Leave);
        } else {
            standing.set_idle(&mut core, true);
            standing.spare = core.counts.workers > core.crew.size.min;
            standing.sleep(&mut core, badge.id, cx.waker());
            slot.clear();
            core.grant(capacity)
        };
        let callers = core.grant_light(capacity);
        drop(core);
        wake(answered);
        wake(caller);
        if let Some(callers) = callers {
            callers.into_iter().for_each(wake);
        }
        wake(worker);
        if ended {
            slot.discard();
        }
        if !taken {
            return Poll::Pending;
        }
        slot.start_clock(shared.clock());
        Poll::Ready(Next::Job)
    }

    /// Whether the caller of the job at hand has gone.
    #[inline]
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Acquire)
    }

    /// The same; if he has not, the worker is woken when he goes.
    pub(crate) fn poll_cancelled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            let waker = Some(cx.waker().clone());
            let mut core = self.shared.lock();
            core.desks[self.badge.id].waker = waker.clone();
            drop(core);
            self.waker = waker;
        }
        if self.is_cancelled() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Lets others run what it was woken for, and what belongs to the key of the job that has ended, because it takes
    /// no job for now.
    pub(crate) fn unbind(&mut self) {
        let Self { shared, standing, badge, .. } = self;
        if standing.sleeping || standing.bound.lane.is_some() {
            let mut core = shared.lock();
            if standing.sleeping {
                standing.arrive(&mut core, badge.id);
                standing.set_idle(&mut core, false);
            }
            core.jobs.finish(&mut standing.bound);
            shared.see_to(core);
        }
    }

    /// Whether it sleeps and the pool could do without it.
    pub(crate) fn is_spare(&self) -> bool {
        self.standing.spare
    }

    /// Leaves after having been idle for long; false if it was woken meanwhile, or is needed.
    pub(crate) fn try_leave(&mut self) -> bool {
        let Self { shared, standing, badge, .. } = self;
        let wanted = shared.wanted();
        let mut core = shared.lock();
        if !standing.sleeping
            || core.counts.workers <= wanted.max(core.crew.size.min)
            || core.desks[badge.id].sleeping.is_none()
            || core.has_work()
        {
            return false;
        }
        standing.arrive(&mut core, badge.id);
        standing.set_idle(&mut core, false);
        standing.leave(&mut core, *badge);
        true
    }

    /// The worker's service has to be made anew.
    pub(crate) fn rebuilding(&mut self) {
        self.unbind();
        self.shared.lock().counts.rebuilt += 1;
    }
}

impl<Req, T, E: LayerError> Drop for Seat<Req, T, E> {
    fn drop(&mut self) {
        let mut core = self.shared.lock();
        self.standing.arrive(&mut core, self.badge.id);
        self.standing.set_idle(&mut core, false);
        core.jobs.finish(&mut self.standing.bound);
        let left = std::mem::replace(&mut self.standing.left, true);
        if !left {
            self.standing.leave(&mut core, self.badge);
        }
        // A worker that was on its way to a job passes its wake on.
        let worker = core.wake_one();
        let last = !left && core.counts.workers == 0;
        let drained = core.draining > 0;
        drop(core);
        wake(worker);
        self.shared.publish_size();
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
    #[inline]
    fn arrive<Req, T, E>(&mut self, core: &mut Core<Req, T, E>, worker: usize) {
        if self.sleeping {
            (self.sleeping, self.spare) = (false, false);
            if !core.rise(worker) {
                core.waking = false;
            }
        } else if !self.arrived {
            self.arrived = true;
            core.crew.coming -= 1;
        }
    }

    #[inline]
    fn sleep<Req, T, E>(&mut self, core: &mut Core<Req, T, E>, worker: usize, waker: &Waker) {
        self.sleeping = true;
        core.sleep(worker, waker.clone());
    }

    fn set_idle<Req, T, E>(&mut self, core: &mut Core<Req, T, E>, idle: bool) {
        match (self.idle, idle) {
            (false, true) => core.counts.idle += 1,
            (true, false) => core.counts.idle -= 1,
            _ => {}
        }
        self.idle = idle;
    }

    fn leave<Req, T, E>(&mut self, core: &mut Core<Req, T, E>, badge: Badge) {
        self.left = true;
        core.counts.workers -= 1;
        core.desks[badge.id].waker = None;
        core.crew.leave(badge);
    }
}
