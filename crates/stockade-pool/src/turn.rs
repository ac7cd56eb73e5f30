//! What a worker does with jobs: takes one after the other, and runs each under its deadline and in its span.

use std::{
    mem::replace,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use stockade_core::{LayerError, Reason};
use tokio::task::yield_now;
use tower_service::Service;

use crate::{
    contain::{Panic, discard, guard},
    nested,
    rebuild::Rebuild,
    span::Span,
    worker::{Step, Worker},
};

/// Why a worker stopped using its service.
pub(crate) enum Stopped<E> {
    Left,
    /// It panicked, a result was fatal, or its readiness failed with this.
    Broken(Option<E>),
}

/// How many jobs in a row a worker runs before it lets other tasks have the thread.
const MOST: u32 = 64;

// === impl Worker ===

impl<Req, T, E: LayerError> Worker<Req, T, E> {
    /// Runs jobs until there is none, or one is pending, or the service is.
    #[inline(always)]
    pub(crate) fn poll_jobs<S, R>(
        &mut self,
        service: &mut S,
        mut call: Pin<&mut Option<S::Future>>,
        rebuild: &R,
        cx: &mut Context<'_>,
    ) -> Poll<Stopped<E>>
    where
        S: Service<Req, Response = T, Error = E>,
        R: Rebuild<T, E>,
    {
        let mut jobs = 0;
        loop {
            if self.job.is_free() {
                match service.poll_ready(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => {
                        self.tell_broken(&error);
                        return Poll::Ready(Stopped::Broken(Some(error)));
                    }
                    Poll::Pending => {
                        self.settle();
                        self.stand_aside();
                        return self.poll_over(cx).map(|()| Stopped::Left);
                    }
                }
                jobs += 1;
                if jobs > MOST {
                    self.settle();
                    // The runtime wakes the worker once it has looked after all others.
                    let _ = pin!(yield_now()).poll(cx);
                    return Poll::Pending;
                }
                if ready!(self.poll_next(cx)) == Step::Leave {
                    return Poll::Ready(Stopped::Left);
                }
            }
            if ready!(self.poll_job(service, call.as_mut(), rebuild, cx)) {
                self.failures = 0;
            } else {
                return Poll::Ready(Stopped::Broken(None));
            }
        }
    }

    /// Starts the call, polls it, and drops it when it has ended; then says whether the service is still good.
    #[inline(always)]
    fn poll_job<S, R>(
        &mut self,
        service: &mut S,
        mut call: Pin<&mut Option<S::Future>>,
        rebuild: &R,
        cx: &mut Context<'_>,
    ) -> Poll<bool>
    where
        S: Service<Req, Response = T, Error = E>,
        R: Rebuild<T, E>,
    {
        let _inside = self.job.span.enter();
        if self.job.request.is_some() && self.refuse_unwanted() {
            return Poll::Ready(true);
        }
        let mut request = self.job.request.take();
        self.job.started = true;
        let mut poll_call = || {
            if let Some(request) = request.take() {
                call.set(Some(service.call(request)));
            }
            match call.as_mut().as_pin_mut() {
                Some(call) => call.poll(cx),
                None => Poll::Pending,
            }
        };
        let (carried, mut answered) = (self.job.carried.take(), None);
        let Self { shared, job, .. } = self;
        let mut poll_once = || {
            if answered.is_none() {
                answered = Some(nested::enter(&**shared, || job.enter(&mut poll_call)));
            }
        };
        if let Some(around) = &carried {
            around(&mut poll_once);
        }
        poll_once();
        job.carried = carried;
        if answered != Some(true) {
            ready!(self.poll_cancelled(cx));
            self.refuse(Reason::Cancelled);
            call.set(None);
            return Poll::Ready(true);
        }
        let fatal = self.job.result.as_ref().is_some_and(|result| rebuild.is_fatal(result));
        call.set(None);
        self.job.end(self.shared.clock());
        Poll::Ready(!fatal)
    }

    /// Tells of the first readiness error in a row.
    fn tell_broken(&self, _error: &E) {
        #[cfg(feature = "tracing")]
        if self.failures == 0 {
            tracing::warn!(
                target: "stockade",
                layer = "pool",
                name = self.shared.config.name,
                worker = self.number,
                reason = _error.rejected().map(|rejected| rejected.reason().label()),
                "the service of a worker has failed to become ready, and is made anew"
            );
        }
    }

    /// Something of the user's has panicked. It costs the job at hand its answer, if it has none yet.
    #[cold]
    pub(crate) fn panicked<F>(
        &mut self,
        panic: Panic,
        mut call: Pin<&mut Option<F>>,
    ) -> Stopped<E> {
        let span = replace(&mut self.job.span, Span::NONE);
        let _inside = span.enter();
        if self.job.has_ended() {
            self.job.end(self.shared.clock());
        } else if !self.job.is_free() {
            self.refuse(Reason::Panicked);
        }
        self.tell(panic);
        if let Err(panic) = guard(|| call.set(None)) {
            self.tell(panic);
        }
        Stopped::Broken(None)
    }

    /// Ends a job that is not to be started. What is due at the deadline is late.
    #[inline]
    fn refuse_unwanted(&mut self) -> bool {
        let reason = if self.job.is_expired() {
            Reason::Expired
        } else if self.is_cancelled() {
            Reason::Cancelled
        } else if self.shared.config.admission.is_late(self.job.since) {
            Reason::WaitExceeded
        } else {
            return false;
        };
        discard(self.job.request.take());
        self.refuse(reason);
        true
    }
}
