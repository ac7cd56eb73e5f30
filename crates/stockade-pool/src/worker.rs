//! A worker and the job that it has in hand: how it asks for a job, sleeps, waits for something else, and leaves.
//!
//! Whatever a worker waits for, closing the pool reaches it.

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use stockade_core::{
    Reason,
    internal::sync::atomic::{AtomicBool, Ordering::*},
};
use tokio::sync::watch;

use crate::{
    contain::{Panic, discard, forget, guard},
    idle::Idle,
    in_flight::InFlight,
    queue::Binding,
    shared::Shared,
};

/// A worker on the roster. When it is dropped, as when it is stopped, a job that runs ends as cancelled, and the worker is
/// off the roster.
pub(crate) struct Worker<Req, T, E> {
    pub(crate) shared: Arc<Shared<Req, T, E>>,
    pub(crate) number: usize,
    pub(crate) job: InFlight<Req, T, E>,
    /// The caller of the job at hand has gone.
    cancelled: Arc<AtomicBool>,
    binding: Binding,
    /// The one that the roster has.
    waker: Option<Waker>,
    standing: Standing,
    pub(crate) idle: Idle,
    /// How often the service has failed in a row.
    pub(crate) failures: u32,
    /// A drain waits until it is dropped.
    _token: watch::Receiver<()>,
}

/// What a worker knows of itself.
#[derive(Default)]
struct Standing {
    /// It has asked for a job before.
    arrived: bool,
    asleep: bool,
    /// The pool could do without it.
    spare: bool,
    /// It has run a job since it slept.
    worked: bool,
    left: bool,
}

/// What a worker does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Run the job that it has been given.
    Job,
    /// Leave: the pool is closed and the queue empty, or there are too many workers.
    Leave,
}

// === impl Worker ===

impl<Req, T, E> Worker<Req, T, E> {
    /// One that is on the roster with this number, and looks there whether its job is cancelled.
    pub(crate) fn new(
        shared: Arc<Shared<Req, T, E>>,
        number: usize,
        cancelled: Arc<AtomicBool>,
    ) -> Self {
        Self {
            _token: shared.tokens.subscribe(),
            shared,
            number,
            job: InFlight::new(),
            cancelled,
            binding: Binding::default(),
            waker: None,
            standing: Standing::default(),
            idle: Idle::default(),
            failures: 0,
        }
    }

    /// Takes the next job, or sleeps. A job in hand that has ended is handed over in the same visit to the lock.
    #[inline(always)]
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        self.keep_waker(cx);
        let Self { shared, number, job, cancelled, binding, standing, idle, .. } = self;
        let (number, now, ended) = (*number, shared.clock(), job.has_ended());
        let mut core = shared.lock();
        if ended {
            core.record(job, number);
            core.queue.finish(binding);
            core.admit();
        }
        if standing.asleep || !standing.arrived {
            core.roster.arrive(number);
            (standing.asleep, standing.arrived) = (false, true);
        }
        // One that is too many takes the job that it was woken for, because a nested job may count on it.
        let may_not = core.paused || (standing.worked && core.roster.is_too_large());
        let taken = if may_not { None } else { core.take(binding, number, now) };
        let Some((key, taken)) = taken else {
            if core.roster.is_too_large() || (core.closed && !core.paused) {
                standing.left = true;
                let entry = core.roster.leave(number);
                core.wake_workers();
                core.wake_if_over();
                shared.let_go(core);
                discard(entry);
                job.discard();
                return Poll::Ready(Step::Leave);
            }
            (standing.asleep, standing.worked) = (true, false);
            standing.spare = core.roster.alive() > core.roster.size.min;
            core.roster.sleep(number);
            // It may have been woken for a job that it does not take.
            core.wake_workers();
            shared.let_go(core);
            job.discard();
            return Poll::Pending;
        };
        cancelled.store(false, Relaxed);
        standing.worked = true;
        idle.end();
        job.fill(key, taken, now);
        core.wake_workers();
        shared.let_go(core);
        if ended {
            job.discard();
        }
        job.note_taken();
        Poll::Ready(Step::Job)
    }

    /// Hands over a job that has ended, before the worker does something that may take long.
    pub(crate) fn settle(&mut self) {
        if !self.job.has_ended() {
            return;
        }
        let mut core = self.shared.lock();
        core.record(&mut self.job, self.number);
        core.queue.finish(&mut self.binding);
        self.shared.see_to(core);
        self.job.discard();
    }

    /// Ends the job in hand without an answer of the service.
    #[cold]
    pub(crate) fn refuse(&mut self, reason: Reason) {
        self.job.refuse(self.shared.rejected(reason), self.shared.clock());
    }

    /// Ends a job that the worker cannot go on with.
    pub(crate) fn give_up(&mut self) {
        if !self.job.is_free() {
            if let Some(key) = self.job.key.filter(|_| self.job.started) {
                self.job.kept = guard(|| self.shared.save_stopped(key)).unwrap_or_default();
            }
            self.refuse(Reason::Cancelled);
        }
        self.settle();
    }

    /// Takes no job for now: another worker runs the job that it was woken for, and the next ones of its key.
    pub(crate) fn stand_aside(&mut self) {
        if !self.standing.asleep && self.binding.lane.is_none() {
            return;
        }
        let mut core = self.shared.lock();
        core.roster.arrive(self.number);
        core.queue.finish(&mut self.binding);
        self.standing.asleep = false;
        self.shared.see_to(core);
    }

    /// Ready when a worker that takes no job may leave, and has left. It is woken for that whatever else it waits for.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.keep_waker(cx);
        let mut core = self.shared.lock();
        let over = core.is_over() || core.roster.is_too_large();
        let entry = if over { core.roster.leave(self.number) } else { None };
        drop(core);
        discard(entry);
        self.standing.left |= over;
        if over { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Waits for something other than a job; none if the worker left instead.
    pub(crate) async fn wait<F: Future>(&mut self, what: F) -> Option<F::Output> {
        let mut what = pin!(what);
        let wait = poll_fn(|cx| match what.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.poll_over(cx).map(|()| None),
        });
        wait.await
    }

    /// Whether it sleeps and the pool could do without it.
    pub(crate) fn is_spare(&self) -> bool {
        self.standing.asleep && self.standing.spare
    }

    /// Leaves after having been idle for long; false if it was woken, or is needed.
    pub(crate) fn try_leave(&mut self) -> bool {
        let number = self.number;
        let wanted = self.shared.wanted(0);
        let mut core = self.shared.lock();
        let needed = core.roster.alive() <= wanted.max(core.roster.size.min);
        if needed || !core.roster.is_asleep(number) || (core.queue.ready() > 0 && !core.paused) {
            return false;
        }
        let entry = core.roster.leave(self.number);
        drop(core);
        discard(entry);
        self.standing.left = true;
        true
    }

    /// Whether it has left the roster.
    pub(crate) fn has_left(&self) -> bool {
        self.standing.left
    }

    /// Whether the caller of the job at hand has gone.
    #[inline]
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Acquire)
    }

    /// The same; if it has not, the worker is woken when it goes.
    pub(crate) fn poll_cancelled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.keep_waker(cx);
        if self.is_cancelled() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Sees to it that the roster has the waker, for whatever the worker waits.
    #[inline]
    fn keep_waker(&mut self, cx: &mut Context<'_>) {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.replace_waker(cx.waker());
        }
    }

    #[cold]
    fn replace_waker(&mut self, waker: &Waker) {
        self.waker = Some(waker.clone());
        let old = self.shared.lock().roster.keep_waker(self.number, self.waker.clone());
        discard(old);
        if self.shared.is_stopped() {
            // It may have been stopped before there was a waker.
            waker.wake_by_ref();
        }
    }

    /// The worker's service has to be made anew.
    pub(crate) fn rebuilding(&mut self) {
        self.stand_aside();
        self.shared.lock().counts.rebuilt += 1;
    }

    /// Ends a job, which is not started, with the error that keeps the worker from having a service, if there is one.
    pub(crate) fn fail_one(&mut self, error: Option<E>) {
        let (number, now) = (self.number, self.shared.clock());
        let mut core = self.shared.lock();
        if core.paused {
            return;
        }
        let Some((key, taken)) = core.take(&mut self.binding, number, now) else { return };
        self.shared.let_go(core);
        self.job.fill(key, taken, now);
        discard(self.job.request.take());
        match error {
            Some(error) => self.job.fail(error, self.shared.clock()),
            None => self.refuse(Reason::Unavailable),
        }
        self.settle();
    }

    /// Tells of a panic. The panic hook has printed it; the event says which worker it was.
    pub(crate) fn tell(&self, panic: Panic) {
        #[cfg(feature = "tracing")]
        tracing::error!(
            target: "stockade",
            layer = "pool",
            name = self.shared.config.name,
            worker = self.number,
            panic = crate::contain::message(&*panic),
            "panicked"
        );
        forget(panic);
    }
}

impl<Req, T, E> Drop for Worker<Req, T, E> {
    fn drop(&mut self) {
        self.give_up();
        let mut core = self.shared.lock();
        core.queue.finish(&mut self.binding);
        let entry = if self.standing.left { None } else { core.roster.leave(self.number) };
        // One that was on its way to a job passes its wake on.
        core.wake_workers();
        let lost = !self.standing.left && core.roster.alive() == 0 && core.draining == 0;
        self.shared.let_go(core);
        discard(entry);
        self.shared.publish_size();
        if lost {
            // The workers were lost with their runtime.
            self.shared.abandon();
        }
    }
}
