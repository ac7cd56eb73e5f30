//! What a worker does with its service: makes it, and runs one job after the other with it until it breaks.
//!
//! A service is made anew after a panic, a failure to become ready, or a result that is fatal; each time with a longer
//! pause, until a job succeeds. Everything of the user's runs under [`guard`]: a panic costs the job at hand its answer,
//! and the worker its service.

use std::{
    future::poll_fn,
    mem::replace,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use stockade_core::{
    LayerError, Reason,
    internal::{lock, sync::Mutex},
};
use tokio::{task::yield_now, time::sleep};
use tower_service::Service;

use crate::{
    MakeWorker, PoolService,
    contain::{Panic, discard, guard},
    nested,
    span::Span,
    worker::{Step, Worker},
};

/// Why a worker stopped using its service.
enum Stopped<E> {
    Left,
    /// It panicked, a result was fatal, or its readiness failed with this.
    Broken(Option<E>),
}

/// How many jobs in a row a worker runs before it lets other tasks have the thread.
const MOST: u32 = 64;

/// A worker from its start to its end.
pub(crate) async fn run<M, S, Req>(
    mut worker: Worker<Req, S::Response, S::Error>,
    make: Arc<Mutex<M>>,
) where
    M: MakeWorker<S>,
    S: PoolService<Req>,
{
    loop {
        let made = {
            let mut making = pin!(make_service(worker.number, &make));
            let guarded = poll_fn(|cx| match guard(|| making.as_mut().poll(cx)) {
                Ok(polled) => polled.map(Ok),
                Err(panic) => Poll::Ready(Err(panic)),
            });
            worker.wait(guarded).await
        };
        let failed = match made {
            None => return,
            Some(Ok(Ok(service))) => match serve(&mut worker, service).await {
                Stopped::Left => return,
                Stopped::Broken(error) => error.map(Some),
            },
            Some(Ok(Err(error))) => {
                worker.contain(|| {
                    worker.tell_failure("a worker could not make its service", Some(&error), None);
                    drop(error);
                });
                Some(None)
            }
            Some(Err(panic)) => {
                worker.tell(panic);
                Some(None)
            }
        };
        worker.failures = worker.failures.saturating_add(1);
        worker.rebuilding();
        if let Some(error) = failed {
            match worker.shared.config.give_up_after {
                Some(limit) if worker.failures >= limit => worker.fail_one(error),
                _ => discard(error),
            }
        }
        if let Some(pause) = backoff(worker.failures)
            && worker.wait(sleep(pause)).await.is_none()
        {
            return;
        }
    }
}

async fn make_service<M, S>(worker: usize, make: &Mutex<M>) -> Result<S, M::Error>
where
    M: MakeWorker<S>,
{
    let mut maker = lock(make).clone();
    poll_fn(|cx| maker.poll_ready(cx)).await?;
    let made = maker.call(worker).await;
    discard(maker);
    made
}

/// The pause before a service is made anew: none the first time, then from a millisecond up to a second.
fn backoff(failures: u32) -> Option<Duration> {
    let doublings = failures.checked_sub(2)?;
    Some(Duration::from_millis(1 << doublings.min(10)).min(Duration::from_secs(1)))
}

/// Runs job after job until the worker leaves or the service is broken.
async fn serve<S, Req>(
    worker: &mut Worker<Req, S::Response, S::Error>,
    mut service: S,
) -> Stopped<S::Error>
where
    S: PoolService<Req>,
{
    let mut call = pin!(None);
    // Many jobs in one stretch, so that one that is answered at once is never stored in a future.
    let stopped = poll_fn(|cx| match guard(|| worker.poll_jobs(&mut service, call.as_mut(), cx)) {
        Ok(polled) => polled,
        Err(panic) => {
            worker.panicked(panic);
            Poll::Ready(Stopped::Broken(None))
        }
    })
    .await;
    worker.contain(|| call.set(None));
    worker.settle();
    worker.contain(|| drop(service));
    stopped
}

// === impl Worker ===

impl<Req, T, E: LayerError> Worker<Req, T, E> {
    /// Runs jobs until there is none, or one is pending, or the service is.
    fn poll_jobs<S>(
        &mut self,
        service: &mut S,
        mut call: Pin<&mut Option<S::Future>>,
        cx: &mut Context<'_>,
    ) -> Poll<Stopped<E>>
    where
        S: Service<Req, Response = T, Error = E>,
    {
        if self.shared.is_stopped() {
            return Poll::Ready(Stopped::Left);
        }
        let mut jobs = 0;
        loop {
            if self.job.is_free() {
                match service.poll_ready(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => {
                        let reason = error.rejected().map(|rejected| rejected.reason());
                        self.tell_failure(
                            "the service of a worker has failed to become ready, and is made anew",
                            None,
                            reason,
                        );
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
                match self.poll_next(cx) {
                    Poll::Ready(Step::Job) => {}
                    Poll::Ready(Step::Leave) => return Poll::Ready(Stopped::Left),
                    Poll::Pending if self.is_spare() => {
                        return self.poll_idle(cx).map(|()| Stopped::Left);
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
            if ready!(self.poll_job(service, call.as_mut(), cx)) {
                self.failures = 0;
            } else {
                return Poll::Ready(Stopped::Broken(None));
            }
        }
    }

    /// Starts the call, polls it, and drops it when it has ended; then says whether the service is still good.
    fn poll_job<S>(
        &mut self,
        service: &mut S,
        mut call: Pin<&mut Option<S::Future>>,
        cx: &mut Context<'_>,
    ) -> Poll<bool>
    where
        S: Service<Req, Response = T, Error = E>,
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
        let fatal = self.job.result.as_ref().is_some_and(&self.shared.is_fatal);
        call.set(None);
        self.job.end(self.shared.clock());
        Poll::Ready(!fatal)
    }

    /// Something of the user's has panicked. It costs the job at hand its answer, if it has none yet.
    #[cold]
    fn panicked(&mut self, panic: Panic) {
        let span = replace(&mut self.job.span, Span::NONE);
        let _inside = span.enter();
        if self.job.has_ended() {
            self.job.end(self.shared.clock());
        } else if !self.job.is_free() {
            self.refuse(Reason::Panicked);
        }
        self.tell(panic);
    }

    /// Ends a job that is not to be started. What is due at the deadline is late.
    fn refuse_unwanted(&mut self) -> bool {
        let reason = if self.job.is_expired() {
            Reason::Expired
        } else if self.is_cancelled() {
            Reason::Cancelled
        } else if self.shared.config.is_late(self.job.since) {
            Reason::WaitExceeded
        } else {
            return false;
        };
        discard(self.job.request.take());
        self.refuse(reason);
        true
    }
}
