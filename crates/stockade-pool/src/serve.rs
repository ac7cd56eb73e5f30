//! What a worker does with its service: makes it, gets it ready, runs job after job.
//!
//! Everything of the user's runs under [`guard`] or [`contain`]: a panic costs the job at hand its answer and the worker
//! its service, which is made anew.

use std::{
    fmt,
    future::poll_fn,
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
    contain::{contain, discard, guard},
    idle::Idle,
    in_flight::InFlight,
    nested,
    queue::Answer,
    rebuild::Rebuild,
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
    M: Service<usize, Response = S> + Clone,
    M::Error: fmt::Display,
    S: Service<Req>,
    S::Error: LayerError,
    R: Rebuild<S::Response, S::Error>,
{
    // A panic that nothing inside has contained must not cost the pool a worker.
    while !worker.left
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
    M: Service<usize, Response = S> + Clone,
    M::Error: fmt::Display,
    S: Service<Req>,
    S::Error: LayerError,
    R: Rebuild<S::Response, S::Error>,
{
    let mut maker = None;
    let mut failures = 0_u32;
    loop {
        let failed = match build(worker, &mut maker, make, failures == 0).await {
            None => break,
            Some(None) => Some(Answer::Refused(worker.shared.rejected(Reason::Unavailable))),
            Some(Some(mut service)) => {
                let stopped = serve(worker, &mut service, &mut failures, rebuild).await;
                if let Err(panic) = guard(|| drop(service)) {
                    worker.tell(panic);
                }
                match stopped {
                    Stopped::Left => break,
                    Stopped::Broken(error) => error.map(|error| Answer::Service(Err(error))),
                }
            }
        };
        failures = failures.saturating_add(1);
        worker.rebuilding();
        if let Some(answer) = failed {
            match worker.shared.config.give_up_after {
                Some(limit) if failures >= limit => worker.fail_one(answer),
                _ => discard(answer),
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
    M: Service<usize, Response = S> + Clone,
    M::Error: fmt::Display,
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
    S: Service<Req>,
    S::Error: LayerError,
    R: Rebuild<S::Response, S::Error>,
{
    let mut call = pin!(None);
    let mut hand = Hand { worker, job: InFlight::new() };
    let mut turn = 0;
    let (mut idle, mut timer) = (Idle::new(), pin!(None));
    // One poll function, so that a job that is answered at once is never stored in a future.
    let stopped = poll_fn(|cx| {
        loop {
            if hand.job.is_free() {
                match guard(|| service.poll_ready(cx)) {
                    Ok(Poll::Ready(Ok(()))) => {}
                    Ok(Poll::Ready(Err(error))) => {
                        tell_broken(hand.worker, &error, *failures == 0);
                        return Poll::Ready(Stopped::Broken(Some(error)));
                    }
                    Ok(Poll::Pending) => {
                        hand.settle();
                        hand.worker.stand_aside();
                        return hand.worker.poll_over(cx).map(|()| Stopped::Left);
                    }
                    Err(panic) => {
                        hand.worker.tell(panic);
                        return Poll::Ready(Stopped::Broken(None));
                    }
                }
                turn += 1;
                if turn > TURN {
                    turn = 0;
                    hand.settle();
                    // The runtime wakes the worker once it has looked after all others.
                    let _ = pin!(yield_now()).poll(cx);
                    return Poll::Pending;
                }
                match hand.worker.poll_next(&mut hand.job, cx) {
                    Poll::Ready(Step::Job) => idle.end(),
                    Poll::Ready(Step::Leave) => return Poll::Ready(Stopped::Left),
                    Poll::Pending => {
                        turn = 0;
                        while hand.worker.is_spare() {
                            let limit = hand.worker.shared.config.idle;
                            ready!(idle.poll(timer.as_mut(), limit, cx));
                            if hand.worker.try_leave() {
                                return Poll::Ready(Stopped::Left);
                            }
                        }
                        return Poll::Pending;
                    }
                }
            }
            match hand.poll_job(service, call.as_mut(), rebuild, cx) {
                Poll::Ready(true) => *failures = 0,
                Poll::Ready(false) => return Poll::Ready(Stopped::Broken(None)),
                Poll::Pending => {
                    turn = 0;
                    return Poll::Pending;
                }
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
            reason = _error.rejected().map(|rejected| rejected.reason().as_str()),
            "the service of a worker has failed to become ready, and is made anew"
        );
    }
}

/// What a worker has in hand. When it is dropped, as when the worker is stopped, a job that runs ends as cancelled.
struct Hand<'a, Req, T, E> {
    worker: &'a mut Worker<Req, T, E>,
    job: InFlight<Req, T, E>,
}

// === impl Hand ===

impl<Req, T, E: LayerError> Hand<'_, Req, T, E> {
    /// Starts the call, polls it, and drops it when it has ended; then says whether the service is still good.
    #[inline]
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
        let _inside = self.job.span().enter();
        if self.job.is_waiting() && self.refuse_unwanted() {
            return Poll::Ready(true);
        }
        let Self { worker, job } = self;
        let shared = &worker.shared;
        let (mut request, carried) = (job.start(), job.carried());
        let (mut polled, mut answered, mut fatal) = (false, false, false);
        // The call, its first poll and its end are one stretch for a job that is answered at once.
        let guarded = guard(|| {
            let mut poll = || {
                if polled {
                    return;
                }
                polled = true;
                let poll_call = || {
                    if let Some(request) = request.take() {
                        call.set(Some(service.call(request)));
                    }
                    match call.as_mut().as_pin_mut() {
                        Some(call) => call.poll(cx),
                        None => Poll::Pending,
                    }
                };
                answered = nested::enter(&**shared, || job.enter(poll_call));
            };
            if let Some((carry, carried)) = shared.carry.as_ref().zip(carried.as_ref()) {
                carry.enter(&**carried, &mut poll);
            }
            poll();
            if answered {
                fatal = job.result().is_some_and(|result| rebuild.is_fatal(result));
                call.set(None);
            }
        });
        job.carry_on(carried);
        match guarded {
            Ok(()) if answered => {
                job.end(shared.clock());
                Poll::Ready(!fatal)
            }
            Ok(()) => {
                ready!(worker.poll_cancelled(cx));
                self.refuse(Reason::Cancelled);
                Poll::Ready(self.drop_call(call))
            }
            Err(panic) => {
                // If it was answered, something panicked after that.
                if answered {
                    job.end(shared.clock());
                } else {
                    self.refuse(Reason::Panicked);
                }
                self.worker.tell(panic);
                self.drop_call(call);
                Poll::Ready(false)
            }
        }
    }

    /// Drops a call that has not ended; false if it panics.
    fn drop_call<F>(&self, mut call: Pin<&mut Option<F>>) -> bool {
        guard(|| call.set(None)).map_err(|panic| self.worker.tell(panic)).is_ok()
    }

    /// Ends a job that is not to be started. What is due at the deadline is late.
    #[inline]
    fn refuse_unwanted(&mut self) -> bool {
        let reason = if self.job.is_expired() {
            Reason::Expired
        } else if self.worker.is_cancelled() {
            Reason::Cancelled
        } else if self.worker.shared.config.admission.is_late(self.job.since()) {
            Reason::WaitExceeded
        } else {
            return false;
        };
        discard(self.job.skip());
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
            if let Some(key) = self.job.key().filter(|_| self.job.is_started()) {
                self.job.kept = guard(|| self.worker.shared.save_stopped(key)).unwrap_or_default();
            }
            self.refuse(Reason::Cancelled);
        }
        self.settle();
    }
}
