//! A worker: makes its service, gets it ready, takes a job, runs it, and so on.
//!
//! Everything that is the user's runs under [`guard`] or [`contain`]: a panic costs the job at hand its answer
//! and the worker its service, which is made anew.

use std::{
    any::Any,
    fmt,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use stockade_core::{LayerError, Reason};
use tokio::{task::yield_now, time::sleep};
use tower_service::Service;

use crate::{
    Status,
    idle::Idle,
    nested,
    seat::{Next, Seat},
    shared::Shared,
    slot::Slot,
};

type Panic = Box<dyn Any + Send>;

/// Why a worker stopped using its service.
enum Stopped {
    /// The pool is closed and the queue empty, or it can do without this worker.
    Left,
    /// It panicked, or its readiness failed.
    Broken,
}

/// A worker from its start to its end.
pub(crate) async fn run<M, S, Req>(mut seat: Seat<Req, S::Response, S::Error>, mut make: M)
where
    M: Service<usize, Response = S>,
    M::Error: fmt::Display,
    S: Service<Req>,
    S::Error: LayerError,
{
    // What the loop inside does not contain, such as a panic in the `Drop` of an answer that nobody reads,
    // must not cost the pool a worker.
    while contain(work(&mut seat, &mut make)).await.is_err() {
        seat.rebuilding();
        yield_now().await;
    }
}

async fn work<M, S, Req>(seat: &mut Seat<Req, S::Response, S::Error>, make: &mut M)
where
    M: Service<usize, Response = S>,
    M::Error: fmt::Display,
    S: Service<Req>,
    S::Error: LayerError,
{
    let mut failures = 0;
    loop {
        if let Some(mut service) = build(make, seat).await {
            let before = failures;
            match serve(seat, &mut service, &mut failures).await {
                Stopped::Left => return,
                Stopped::Broken if before == failures => failures += 1,
                Stopped::Broken => failures = 1,
            }
            discard(service);
        } else {
            failures += 1;
        }
        seat.rebuilding();
        if let Some(pause) = backoff(failures) {
            sleep(pause).await;
        }
        if seat.shared.is_closed() && seat.shared.stats().queued == 0 {
            return;
        }
    }
}

/// The pause before a service is made anew: none the first time, then from a millisecond up to a second.
fn backoff(failures: u32) -> Option<Duration> {
    let doublings = failures.checked_sub(2)?;
    Some(Duration::from_millis(1 << doublings.min(10)).min(Duration::from_secs(1)))
}

async fn build<M, S, Req, T, E>(make: &mut M, seat: &Seat<Req, T, E>) -> Option<S>
where
    M: Service<usize, Response = S>,
    M::Error: fmt::Display,
    E: LayerError,
{
    let built = contain(async {
        poll_fn(|cx| make.poll_ready(cx)).await?;
        make.call(seat.badge.id).await
    });
    match built.await {
        Ok(Ok(service)) => Some(service),
        Ok(Err(_error)) => {
            #[cfg(feature = "tracing")]
            tracing::warn!(
                target: "stockade",
                layer = "pool",
                name = seat.shared.settings.name,
                worker = seat.badge.id,
                error = %_error,
                "a worker could not make its service"
            );
            None
        }
        Err(panic) => {
            report(panic, &seat.shared, seat.badge.id);
            None
        }
    }
}

/// Runs job after job until the pool is closed or the service is broken.
async fn serve<S, Req>(
    seat: &mut Seat<Req, S::Response, S::Error>,
    service: &mut S,
    failures: &mut u32,
) -> Stopped
where
    S: Service<Req>,
    S::Error: LayerError,
{
    let mut call = pin!(None);
    let mut hand =
        Hand { shared: Arc::clone(&seat.shared), worker: seat.badge.id, slot: Slot::new() };
    let mut turn = 0;
    let (mut idle, mut timer) = (Idle::new(), pin!(None));
    // One poll function, and not an `async fn` a step, so that a job which is answered at once is never stored.
    let stopped = poll_fn(|cx| {
        loop {
            if hand.slot.is_empty() || hand.slot.has_ended() {
                match guard(|| service.poll_ready(cx)) {
                    Ok(Poll::Ready(Ok(()))) => {}
                    Ok(Poll::Ready(Err(_))) => return Poll::Ready(Stopped::Broken),
                    Ok(Poll::Pending) => {
                        hand.settle();
                        seat.unbind();
                        return Poll::Pending;
                    }
                    Err(panic) => {
                        report(panic, &hand.shared, hand.worker);
                        return Poll::Ready(Stopped::Broken);
                    }
                }
                // A worker whose jobs are answered at once lets others have the thread now and then.
                turn += 1;
                if turn > TURN {
                    turn = 0;
                    hand.settle();
                    // The runtime wakes the worker once it has looked after all others.
                    let _ = pin!(yield_now()).poll(cx);
                    return Poll::Pending;
                }
                match seat.poll_next(&mut hand.slot, cx) {
                    Poll::Ready(Next::Job) => idle.end(),
                    Poll::Ready(Next::Leave) => return Poll::Ready(Stopped::Left),
                    Poll::Pending => {
                        turn = 0;
                        while seat.is_spare() {
                            ready!(idle.poll(timer.as_mut(), hand.shared.settings.idle, cx));
                            if seat.try_leave() {
                                return Poll::Ready(Stopped::Left);
                            }
                        }
                        return Poll::Pending;
                    }
                }
            }
            match hand.poll(seat, service, call.as_mut(), cx) {
                Poll::Ready(true) => *failures = 0,
                Poll::Ready(false) => return Poll::Ready(Stopped::Broken),
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

/// How many jobs in a row a worker runs before it lets others have the thread.
const TURN: u32 = 64;

/// What a worker has in hand. Dropping it, as when the worker's task is aborted, reports a job that runs as
/// cancelled.
struct Hand<Req, T, E: LayerError> {
    shared: Arc<Shared<Req, T, E>>,
    worker: usize,
    slot: Slot<Req, T, E>,
}

// === impl Hand ===

impl<Req, T, E: LayerError> Hand<Req, T, E> {
    /// Starts the call, polls it, and drops it when it has ended; then says whether the service is still good.
    #[inline]
    fn poll<S>(
        &mut self,
        seat: &mut Seat<Req, T, E>,
        service: &mut S,
        mut call: Pin<&mut Option<S::Future>>,
        cx: &mut Context<'_>,
    ) -> Poll<bool>
    where
        S: Service<Req, Response = T, Error = E>,
    {
        let _inside = self.slot.span().enter();
        if self.slot.is_waiting() && self.refuse_unwanted(seat.is_cancelled()) {
            return Poll::Ready(true);
        }
        let Self { shared, slot, .. } = self;
        let mut answered = false;
        let request = slot.start();
        // The call, its first poll and its end are one stretch for a job that is answered at once.
        let guarded = guard(|| {
            let run = || {
                if let Some(request) = request {
                    call.set(Some(service.call(request)));
                }
                match call.as_mut().as_pin_mut() {
                    Some(call) => call.poll(cx),
                    None => Poll::Pending,
                }
            };
            answered = nested::enter(&**shared, || slot.enter(run));
            if answered {
                call.set(None);
            }
        });
        match guarded {
            Ok(()) if answered => {
                slot.end_answered(shared.clock());
                Poll::Ready(true)
            }
            Ok(()) => {
                ready!(seat.poll_cancelled(cx));
                self.refuse(Reason::Cancelled);
                Poll::Ready(self.drop_call(call))
            }
            Err(panic) => {
                // If it is answered, it panicked only when it was dropped.
                if answered {
                    slot.end_answered(shared.clock());
                } else {
                    self.refuse(Reason::Panicked);
                }
                report(panic, &self.shared, self.worker);
                self.drop_call(call);
                Poll::Ready(false)
            }
        }
    }

    /// Drops a call that has not ended; false if it panics.
    fn drop_call<F>(&self, mut call: Pin<&mut Option<F>>) -> bool {
        let dropped = guard(|| call.set(None));
        dropped.map_err(|panic| report(panic, &self.shared, self.worker)).is_ok()
    }

    /// Ends a job that is not to be started, because its deadline has passed or its caller has gone.
    #[inline]
    fn refuse_unwanted(&mut self, cancelled: bool) -> bool {
        let reason = if self.slot.is_expired() {
            Reason::Expired
        } else if cancelled {
            Reason::Cancelled
        } else if self.slot.is_shed() {
            Reason::Shed
        } else {
            return false;
        };
        discard(self.slot.skip());
        self.refuse(reason);
        true
    }

    /// Ends the job without an answer of the service.
    #[cold]
    fn refuse(&mut self, reason: Reason) {
        let status = match reason {
            Reason::Expired => Status::Expired,
            Reason::Panicked => Status::Panicked,
            Reason::Shed => Status::Shed,
            _ => Status::Cancelled,
        };
        let mut rejected = self.shared.rejected(reason);
        if let (Reason::Shed, Some((_, interval))) = (reason, self.shared.settings.codel) {
            // By then the queue has drained, or is shed from faster.
            rejected = rejected.with_retry_after(interval);
        }
        self.slot.end(status, Err(rejected.into_error()), self.shared.clock());
    }

    fn settle(&mut self) {
        self.shared.settle(&mut self.slot, self.worker);
    }
}

impl<Req, T, E: LayerError> Drop for Hand<Req, T, E> {
    fn drop(&mut self) {
        if !self.slot.is_empty() && !self.slot.has_ended() {
            let _inside = self.slot.span().enter();
            self.refuse(Reason::Cancelled);
        }
        self.settle();
    }
}

/// Runs what is the user's; a panic is returned.
pub(crate) fn guard<R>(run: impl FnOnce() -> R) -> Result<R, Panic> {
    catch_unwind(AssertUnwindSafe(run))
}

/// Drops what is the user's; a panic costs nothing.
pub(crate) fn discard<T>(value: T) {
    if let Err(panic) = guard(|| drop(value)) {
        // A payload that panics when it is dropped is beyond help.
        std::mem::forget(panic);
    }
}

/// Polls what is the user's; a panic is returned.
fn contain<F: Future>(future: F) -> Contain<F> {
    Contain { future }
}

pin_project! {
    /// No `async fn`, because a worker goes through it each time it is woken.
    struct Contain<F> {
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Contain<F> {
    type Output = Result<F::Output, Panic>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.project().future;
        match guard(|| future.poll(cx)) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}

/// The panic hook has printed it; an event says which worker it was.
fn report<Req, T, E>(panic: Panic, _shared: &Shared<Req, T, E>, _worker: usize) {
    #[cfg(feature = "tracing")]
    tracing::error!(
        target: "stockade",
        layer = "pool",
        name = _shared.settings.name,
        worker = _worker,
        panic = message(&*panic),
        "panicked"
    );
    discard(panic);
}

#[cfg(feature = "tracing")]
fn message(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(message), _) => message,
        (_, Some(message)) => message,
        _ => "a payload that is no text",
    }
}
