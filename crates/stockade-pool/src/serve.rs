//! What a worker does with its service: makes it, gets it ready, runs job after job.
//!
//! Everything of the user's runs under [`guard`] or [`contain`]: a panic costs the job at hand its answer and the worker
//! its service, which is made anew.

use std::{
    future::poll_fn,
    mem::{replace, take},
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
    contain::{Panic, contain, discard, guard},
    idle::Idle,
    in_flight::InFlight,
    nested,
    rebuild::Rebuild,
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
const TURN: u32 = 64;

/// A worker from its start to its end.
pub(crate) async fn run<M, S, Req, R>(
    mut worker: Worker<Req, S::Response, S::Error>,
    make: Arc<Mutex<M>>,
    rebuild: Arc<R>,
) where
    M: MakeWorker<S>,
    S: PoolService<Req>,
    R: Rebuild<S::Response, S::Error>,
{
    // A panic that nothing inside has contained must not cost the pool a worker.
    while !worker.has_left()
        && let Err(panic) = contain(work(&mut worker, &make, &*rebuild)).await
    {
        worker.tell(panic);
        worker.rebuilding();
        yield_now().await;
    }
}

async fn work<M, S, Req, R>(
    worker: &mut Worker<Req, S::Response, S::Error>,
    make: &Mutex<M>,
    rebuild: &R,
) where
    M: MakeWorker<S>,
    S: PoolService<Req>,
    R: Rebuild<S::Response, S::Error>,
{
    let mut maker = None;
    let mut failures = 0_u32;
    loop {
        let failed = match build(worker, &mut maker, make, failures == 0).await {
            None => break,
            Some(None) => Some(None),
            Some(Some(mut service)) => {
                let stopped = serve(worker, &mut service, &mut failures, rebuild).await;
                if let Err(panic) = guard(|| drop(service)) {
                    worker.tell(panic);
                }
                match stopped {
                    Stopped::Left => break,
                    Stopped::Broken(error) => error.map(Some),
                }
            }
        };
        failures = failures.saturating_add(1);
        worker.rebuilding();
        if let Some(error) = failed {
            match worker.shared.config.give_up_after {
                Some(limit) if failures >= limit => worker.fail_one(error),
                _ => discard(error),
            }
        }
        if let Some(pause) = backoff(failures)
            && worker.wait(sleep(pause)).await.is_none()
        {
            break;
        }
    }
    discard(maker);
}

/// The pause before a service is made anew: none the first time, then from a millisecond up to a second.
fn backoff(failures: u32) -> Option<Duration> {
    let doublings = failures.checked_sub(2)?;
    Some(Duration::from_millis(1 << doublings.min(10)).min(Duration::from_secs(1)))
}

/// Makes a service. The outer option is none if the worker left, the inner one if it could not be made.
async fn build<M, S, Req, T, E>(
    worker: &mut Worker<Req, T, E>,
    maker: &mut Option<M>,
    make: &Mutex<M>,
    _first: bool,
) -> Option<Option<S>>
where
    M: MakeWorker<S>,
{
    let number = worker.badge.number;
    let building = contain(async {
        let maker = maker.get_or_insert_with(|| lock(make).clone());
        poll_fn(|cx| maker.poll_ready(cx)).await?;
        maker.call(number).await
    });
    match worker.wait(building).await? {
        Ok(Ok(service)) => Some(Some(service)),
        Ok(Err(_error)) => {
            #[cfg(feature = "tracing")]
            if _first {
                tracing::warn!(
                    target: "stockade",
                    layer = "pool",
                    name = worker.shared.config.name,
                    worker = number,
                    error = %_error,
                    "a worker could not make its service"
                );
            }
            Some(None)
        }
        Err(panic) => {
            worker.tell(panic);
            Some(None)
        }
    }
}

/// Runs job after job until the pool is closed or the service is broken.
async fn serve<S, Req, R>(
    worker: &mut Worker<Req, S::Response, S::Error>,
    service: &mut S,
    failures: &mut u32,
    rebuild: &R,
) -> Stopped<S::Error>
where
    S: PoolService<Req>,
    R: Rebuild<S::Response, S::Error>,
{
    let (mut call, mut timer, mut idle) = (pin!(None), pin!(None), Idle::new());
    let mut hand = Hand { worker, job: InFlight::new(), ran: false, failures };
    let stopped = poll_fn(|cx| {
        loop {
            // Many jobs in one stretch, so that one that is answered at once is never stored in a future.
            match guard(|| hand.poll_jobs(service, call.as_mut(), rebuild, cx)) {
                Ok(Poll::Ready(stopped)) => return Poll::Ready(stopped),
                Ok(Poll::Pending) => {}
                Err(panic) => return Poll::Ready(hand.panicked(panic, call.as_mut())),
            }
            if take(&mut hand.ran) {
                idle.end();
            }
            if !hand.worker.is_spare() {
                return Poll::Pending;
            }
            ready!(idle.poll(timer.as_mut(), hand.worker.shared.config.idle, cx));
            if hand.worker.try_leave() {
                return Poll::Ready(Stopped::Left);
            }
        }
    })
    .await;
    hand.settle();
    stopped
}

/// Tells of the first readiness error in a row.
fn tell_broken<Req, T, E: LayerError>(_worker: &Worker<Req, T, E>, _error: &E, _first: bool) {
    #[cfg(feature = "tracing")]
    if _first {
        tracing::warn!(
            target: "stockade",
            layer = "pool",
            name = _worker.shared.config.name,
            worker = _worker.badge.number,
            reason = _error.rejected().map(|rejected| rejected.reason().label()),
            "the service of a worker has failed to become ready, and is made anew"
        );
    }
}

/// What a worker has in hand. When it is dropped, as when the worker is stopped, a job that runs ends as cancelled.
struct Hand<'a, Req, T, E> {
    worker: &'a mut Worker<Req, T, E>,
    job: InFlight<Req, T, E>,
    /// It has run a job in this poll.
    ran: bool,
    /// How often the service has failed in a row.
    failures: &'a mut u32,
}

// === impl Hand ===

impl<Req, T, E: LayerError> Hand<'_, Req, T, E> {
    /// Runs jobs until there is none, or one is pending, or the service is.
    #[inline(always)]
    fn poll_jobs<S, R>(
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
        let mut turn = 0;
        loop {
            if self.job.is_free() {
                match service.poll_ready(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => {
                        tell_broken(self.worker, &error, *self.failures == 0);
                        return Poll::Ready(Stopped::Broken(Some(error)));
                    }
                    Poll::Pending => {
                        self.settle();
                        self.worker.stand_aside();
                        return self.worker.poll_over(cx).map(|()| Stopped::Left);
                    }
                }
                turn += 1;
                if turn > TURN {
                    self.settle();
                    // The runtime wakes the worker once it has looked after all others.
                    let _ = pin!(yield_now()).poll(cx);
                    return Poll::Pending;
                }
                if ready!(self.worker.poll_next(&mut self.job, cx)) == Step::Leave {
                    return Poll::Ready(Stopped::Left);
                }
                self.ran = true;
            }
            if ready!(self.poll_job(service, call.as_mut(), rebuild, cx)) {
                *self.failures = 0;
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
        let shared = &self.worker.shared;
        let request = self.job.request.take();
        self.job.started = true;
        let poll_call = |cx: &mut Context<'_>| {
            if let Some(request) = request {
                call.set(Some(service.call(request)));
            }
            match call.as_mut().as_pin_mut() {
                Some(call) => call.poll(cx),
                None => Poll::Pending,
            }
        };
        let carried = self.job.carried.take();
        let answered = match shared.carry.as_ref().zip(carried.as_ref()) {
            None => nested::enter(&**shared, || self.job.enter(|| poll_call(cx))),
            Some((carry, carried)) => {
                let (mut poll_call, mut answered) = (Some(poll_call), false);
                let mut poll = || {
                    if let Some(poll_call) = poll_call.take() {
                        answered = nested::enter(&**shared, || self.job.enter(|| poll_call(cx)));
                    }
                };
                carry.enter(&**carried, &mut poll);
                poll();
                answered
            }
        };
        self.job.carried = carried;
        if !answered {
            ready!(self.worker.poll_cancelled(cx));
            self.refuse(Reason::Cancelled);
            call.set(None);
            return Poll::Ready(true);
        }
        let fatal = self.job.result.as_ref().is_some_and(|result| rebuild.is_fatal(result));
        call.set(None);
        self.job.end(shared.clock());
        Poll::Ready(!fatal)
    }

    /// Something of the user's has panicked. It costs the job at hand its answer, if it has none yet.
    #[cold]
    fn panicked<F>(&mut self, panic: Panic, mut call: Pin<&mut Option<F>>) -> Stopped<E> {
        let span = replace(&mut self.job.span, Span::NONE);
        let _inside = span.enter();
        if self.job.has_ended() {
            self.job.end(self.worker.shared.clock());
        } else if !self.job.is_free() {
            self.refuse(Reason::Panicked);
        }
        self.worker.tell(panic);
        if let Err(panic) = guard(|| call.set(None)) {
            self.worker.tell(panic);
        }
        Stopped::Broken(None)
    }

    /// Ends a job that is not to be started. What is due at the deadline is late.
    #[inline]
    fn refuse_unwanted(&mut self) -> bool {
        let reason = if self.job.is_expired() {
            Reason::Expired
        } else if self.worker.is_cancelled() {
            Reason::Cancelled
        } else if self.worker.shared.config.admission.is_late(self.job.since) {
            Reason::WaitExceeded
        } else {
            return false;
        };
        discard(self.job.request.take());
        self.refuse(reason);
        true
    }
}

impl<Req, T, E> Hand<'_, Req, T, E> {
    /// Ends the job without an answer of the service.
    #[cold]
    fn refuse(&mut self, reason: Reason) {
        let shared = &self.worker.shared;
        self.job.refuse(shared.rejected(reason), shared.clock());
    }

    #[inline]
    fn settle(&mut self) {
        self.worker.settle(&mut self.job);
    }
}

impl<Req, T, E> Drop for Hand<'_, Req, T, E> {
    fn drop(&mut self) {
        if !self.job.is_free() {
            if let Some(key) = self.job.key.filter(|_| self.job.started) {
                self.job.kept = guard(|| self.worker.shared.save_stopped(key)).unwrap_or_default();
            }
            self.refuse(Reason::Cancelled);
        }
        self.settle();
    }
}
