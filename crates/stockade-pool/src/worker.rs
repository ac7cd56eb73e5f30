//! A worker and the job that it has in hand: how it asks for a job, sleeps, waits for something else, and leaves.
//!
//! Whatever a worker waits for, closing the pool reaches it.

use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use stockade_core::{
    Reason,
    internal::sync::atomic::{AtomicBool, Ordering::*},
};
use tokio::{
    sync::watch,
    time::{Sleep, sleep},
};

use crate::{
    contain::{Panic, discard, forget, guard},
    in_flight::InFlight,
    shared::{Hired, Shared},
};

/// A worker on the roster. When it is dropped, as when it is stopped, a job that runs ends as cancelled, and the worker is
/// off the roster.
pub(crate) struct Worker<Req, T, E> {
    pub(crate) shared: Arc<Shared<Req, T, E>>,
    pub(crate) number: usize,
    pub(crate) job: InFlight<Req, T, E>,
    /// The caller of the job at hand has gone.
    cancelled: Arc<AtomicBool>,
    /// The one that the roster has.
    waker: Option<Waker>,
    asleep: bool,
    /// When it fell asleep the pool could do without it.
    spare: bool,
    /// It has run a job since it slept.
    worked: bool,
    left: bool,
    /// Fires when it has been idle for long.
    timer: Option<Pin<Box<Sleep>>>,
    /// How often the service has failed in a row.
    pub(crate) failures: u32,
    /// A drain waits until it is dropped.
    _token: watch::Receiver<()>,
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
    pub(crate) fn new(shared: Arc<Shared<Req, T, E>>, hired: Hired) -> Self {
        let Hired { number, cancelled, token } = hired;
        Self {
            shared,
            number,
            job: InFlight::new(),
            cancelled,
            waker: None,
            asleep: false,
            spare: false,
            worked: false,
            left: false,
            timer: None,
            failures: 0,
            _token: token,
        }
    }

    /// Takes the next job, or sleeps. A job in hand that has ended is handed over in the same visit to the lock.
    #[inline(always)]
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        self.keep_waker(cx);
        let (number, now, ended) = (self.number, self.shared.clock(), self.job.has_ended());
        let mut core = self.shared.lock();
        if ended {
            core.record(&mut self.job, number);
            core.admit();
        }
        core.roster.arrive(number);
        // One that is too many takes the job that it was woken for, because a nested job may count on it.
        let may_not = core.paused || (self.worked && core.roster.is_too_large());
        let taken = if may_not { None } else { core.take(number, now) };
        let Some((key, taken)) = taken else {
            self.left = core.roster.is_too_large() || (core.closed && !core.paused);
            if self.left {
                self.shared.dismiss(core, number);
                self.job.discard();
                return Poll::Ready(Step::Leave);
            }
            (self.asleep, self.worked) = (true, false);
            self.spare = core.roster.alive() > core.roster.size.min;
            core.roster.sleep(number);
            // It may have been woken for a job that it does not take.
            core.wake_workers();
            self.shared.let_go(core);
            self.job.discard();
            return Poll::Pending;
        };
        self.cancelled.store(false, Relaxed);
        (self.asleep, self.worked) = (false, true);
        self.job.fill(key, taken, now);
        core.wake_workers();
        self.shared.let_go(core);
        self.timer = None;
        if ended {
            self.job.discard();
        }
        self.job.note_taken();
        Poll::Ready(Step::Job)
    }

    /// Hands over a job that has ended, before the worker does something that may take long.
    pub(crate) fn settle(&mut self) {
        if !self.job.has_ended() {
            return;
        }
        let mut core = self.shared.lock();
        core.record(&mut self.job, self.number);
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

    /// Takes no job for now: another worker runs the job that it was woken for.
    pub(crate) fn stand_aside(&mut self) {
        if std::mem::take(&mut self.asleep) {
            let mut core = self.shared.lock();
            core.roster.arrive(self.number);
            self.shared.see_to(core);
        }
    }

    /// Ready when a worker that takes no job may leave, and has left. It is woken for that whatever else it waits for.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.keep_waker(cx);
        let core = self.shared.lock();
        self.left = core.is_over() || core.roster.is_too_large() || self.shared.is_stopped();
        if !self.left {
            return Poll::Pending;
        }
        self.shared.dismiss(core, self.number);
        Poll::Ready(())
    }

    /// Ready when a worker that sleeps has been idle for long while the pool could do without it, and has left.
    pub(crate) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.is_spare() {
            let limit = self.shared.config.idle;
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
            ready!(timer.as_mut().poll(cx));
            self.timer = None;
            if self.try_leave() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
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
        self.asleep && self.spare
    }

    /// Leaves after having been idle for long; false if it was woken, or is needed.
    pub(crate) fn try_leave(&mut self) -> bool {
        let wanted = self.shared.wanted(0);
        let core = self.shared.lock();
        let needed = core.roster.alive() <= wanted.max(core.roster.size.min);
        let has_job = core.queue.ready() > 0 && !core.paused;
        self.left = !needed && !has_job && core.roster.is_asleep(self.number);
        if self.left {
            self.shared.dismiss(core, self.number);
        }
        self.left
    }

    /// Whether the caller of the job at hand has gone.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Acquire)
    }

    /// The same; if it has not, the worker is woken when it goes.
    pub(crate) fn poll_cancelled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.keep_waker(cx);
        if self.is_cancelled() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Sees to it that the roster has the waker, for whatever the worker waits.
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
        let now = self.shared.clock();
        let mut core = self.shared.lock();
        if core.paused {
            return;
        }
        let Some((key, taken)) = core.take(self.number, now) else { return };
        self.shared.let_go(core);
        self.job.fill(key, taken, now);
        discard(self.job.request.take());
        match error {
            Some(error) => self.job.fail(error, self.shared.clock()),
            None => self.refuse(Reason::Unavailable),
        }
        self.settle();
    }

    /// Runs what is the user's, and tells of a panic.
    pub(crate) fn contain(&self, run: impl FnOnce()) {
        if let Err(panic) = guard(run) {
            self.tell(panic);
        }
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

    /// Tells of the first failure in a row to have a service.
    pub(crate) fn tell_failure(
        &self,
        what: &str,
        error: Option<&dyn fmt::Display>,
        reason: Option<Reason>,
    ) {
        #[cfg(feature = "tracing")]
        if self.failures == 0 {
            tracing::warn!(
                target: "stockade",
                layer = "pool",
                name = self.shared.config.name,
                worker = self.number,
                error = error.map(tracing::field::display),
                reason = reason.map(Reason::label),
                "{what}"
            );
        }
        #[cfg(not(feature = "tracing"))]
        let _ = (what, error, reason);
    }
}

impl<Req, T, E> Drop for Worker<Req, T, E> {
    fn drop(&mut self) {
        self.give_up();
        let mut is_lost = false;
        if !self.left {
            let core = self.shared.lock();
            is_lost = core.roster.alive() == 1 && core.draining == 0;
            self.shared.dismiss(core, self.number);
        }
        self.shared.publish_size();
        if is_lost {
            // The last worker was lost with its runtime.
            self.shared.abandon();
        }
    }
}
