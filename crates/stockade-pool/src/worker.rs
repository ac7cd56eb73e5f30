//! A worker: makes its service, gets it ready, takes a job, runs it, and so on.
//!
//! Everything that is the user's runs under [`guard`] or [`contain`]: a panic costs the job at hand its answer
//! and the worker its service, which is made anew.

use std::{
    any::Any,
    fmt,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use stockade_core::{LayerError, Reason, attempts::Counter, deadline::Deadline};
use tokio::{
    task::coop,
    time::{Instant, sleep},
};
use tower_service::Service;

use crate::{
    Outcome, Status,
    job::Reply,
    shared::{Entry, Finished, Seat, Shared},
};

type Panic = Box<dyn Any + Send>;

/// Why a worker stopped using its service.
enum Stopped {
    /// The pool is closed and the queue empty.
    Closed,
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
        tokio::task::yield_now().await;
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
                Stopped::Closed => return,
                Stopped::Broken if before == failures => failures += 1,
                Stopped::Broken => failures = 1,
            }
            let _ = guard(|| drop(service));
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
        make.call(seat.id).await
    });
    match built.await {
        Ok(Ok(service)) => Some(service),
        Ok(Err(_error)) => {
            #[cfg(feature = "tracing")]
            tracing::warn!(
                target: "stockade",
                layer = "pool",
                name = seat.shared.settings.name,
                worker = seat.id,
                error = %_error,
                "a worker could not make its service"
            );
            None
        }
        Err(panic) => {
            report(panic, seat);
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
    // The job that has just ended. It goes on the books together with taking the next one; it is never held
    // back across an await.
    let mut finished = None;
    loop {
        let ready = poll_fn(|cx| match guard(|| service.poll_ready(cx)) {
            Ok(Poll::Pending) => {
                settle(&seat.shared, &mut finished);
                Poll::Pending
            }
            Ok(Poll::Ready(Ok(()))) => Poll::Ready(true),
            Ok(Poll::Ready(Err(_))) => Poll::Ready(false),
            Err(panic) => {
                report(panic, seat);
                Poll::Ready(false)
            }
        });
        if !ready.await {
            settle(&seat.shared, &mut finished);
            return Stopped::Broken;
        }
        let Some(entry) = poll_fn(|cx| next(seat, &mut finished, cx)).await else {
            return Stopped::Closed;
        };
        let (ended, intact) = execute(seat, service, entry).await;
        finished = Some(ended);
        if !intact {
            settle(&seat.shared, &mut finished);
            return Stopped::Broken;
        }
        *failures = 0;
    }
}

fn next<Req, T, E: LayerError>(
    seat: &mut Seat<Req, T, E>,
    finished: &mut Option<Finished<T, E>>,
    cx: &mut Context<'_>,
) -> Poll<Option<Entry<Req, T, E>>> {
    // A worker whose jobs end at their first poll must let others have the thread now and then.
    let Poll::Ready(budget) = coop::poll_proceed(cx) else {
        settle(&seat.shared, finished);
        return Poll::Pending;
    };
    let next = seat.poll_next(finished, cx);
    if next.is_ready() {
        budget.made_progress();
    }
    next
}

fn settle<Req, T, E: LayerError>(
    shared: &Shared<Req, T, E>,
    finished: &mut Option<Finished<T, E>>,
) {
    if let Some(finished) = finished.take() {
        shared.finish(finished);
    }
}

/// Runs one job; also says whether the service is still good.
async fn execute<S, Req>(
    seat: &Seat<Req, S::Response, S::Error>,
    service: &mut S,
    entry: Entry<Req, S::Response, S::Error>,
) -> (Finished<S::Response, S::Error>, bool)
where
    S: Service<Req>,
    S::Error: LayerError,
{
    let Entry { request, reply, deadline, since } = entry;
    let mut running = Running::new(seat, reply, since);
    if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        let _ = guard(|| drop(request));
        return (running.refuse(Status::Expired, Reason::Expired), true);
    }
    if running.is_cancelled() {
        let _ = guard(|| drop(request));
        return (running.refuse(Status::Cancelled, Reason::Cancelled), true);
    }
    let mut deadline = deadline.map(Deadline::At);
    let mut counter = Counter::default();
    let mut within = |run: &mut dyn FnMut()| match &mut deadline {
        Some(deadline) => deadline.enter(|| counter.enter(run)),
        None => counter.enter(run),
    };

    let mut request = Some(request);
    let mut future = None;
    let called = guard(|| {
        within(&mut || future = request.take().map(|request| service.call(request)));
    });
    let mut future = pin!(future);
    let ended = match called {
        Err(panic) => Err(panic),
        Ok(()) => {
            poll_fn(|cx| {
                let mut polled = Poll::Pending;
                let outcome = guard(|| {
                    within(&mut || {
                        if let Some(future) = future.as_mut().as_pin_mut() {
                            polled = future.poll(cx);
                        }
                    });
                });
                match (outcome, polled) {
                    (Err(panic), _) => Poll::Ready(Err(panic)),
                    (Ok(()), Poll::Ready(result)) => Poll::Ready(Ok(Some(result))),
                    (Ok(()), Poll::Pending) if running.is_cancelled_or_watch(cx) => {
                        Poll::Ready(Ok(None))
                    }
                    (Ok(()), Poll::Pending) => Poll::Pending,
                }
            })
            .await
        }
    };
    let mut intact = true;
    if let Err(panic) = guard(|| future.set(None)) {
        report(panic, seat);
        intact = false;
    }
    running.attempts = counter.attempts();
    let finished = match ended {
        Ok(Some(result)) => running.finish(Status::of(&result), result),
        Ok(None) => running.refuse(Status::Cancelled, Reason::Cancelled),
        Err(panic) => {
            report(panic, seat);
            intact = false;
            running.refuse(Status::Panicked, Reason::Panicked)
        }
    };
    (finished, intact)
}

/// A job that runs. Dropping it, as when the worker's task is aborted, reports it as cancelled.
struct Running<'a, Req, T, E: LayerError> {
    seat: &'a Seat<Req, T, E>,
    reply: Option<Reply<T, E>>,
    watched: bool,
    attempts: u32,
    since: Option<Instant>,
    started: Option<Instant>,
}

// === impl Running ===

impl<'a, Req, T, E: LayerError> Running<'a, Req, T, E> {
    fn new(seat: &'a Seat<Req, T, E>, reply: Reply<T, E>, since: Option<Instant>) -> Self {
        let started = seat.shared.clock();
        Self { seat, reply: Some(reply), watched: false, attempts: 0, since, started }
    }

    fn is_cancelled(&self) -> bool {
        self.reply.as_ref().is_some_and(Reply::is_cancelled)
    }

    /// Whether the caller has gone; if not, the worker will be woken when he goes.
    fn is_cancelled_or_watch(&mut self, cx: &Context<'_>) -> bool {
        if let Some(reply) = &mut self.reply
            && !std::mem::replace(&mut self.watched, true)
        {
            reply.watch(cx.waker());
        }
        self.is_cancelled()
    }

    fn refuse(self, status: Status, reason: Reason) -> Finished<T, E> {
        let rejected = self.seat.shared.rejected(reason);
        self.finish(status, Err(rejected.into_error()))
    }

    fn finish(mut self, status: Status, result: Result<T, E>) -> Finished<T, E> {
        let reply = self.reply.take().expect("a job ends once");
        let run = self.started.zip(self.seat.shared.clock());
        let outcome = Outcome {
            id: 0,
            status,
            result,
            queued_for: self.since.zip(self.started).map(|(since, started)| started - since),
            ran_for: run.filter(|_| self.attempts > 0).map(|(started, ended)| ended - started),
            worker: (self.attempts > 0).then_some(self.seat.id),
            attempts: self.attempts,
        };
        Finished { reply, outcome }
    }
}

impl<Req, T, E: LayerError> Drop for Running<'_, Req, T, E> {
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            let rejected = self.seat.shared.rejected(Reason::Cancelled);
            let outcome = Outcome {
                id: 0,
                status: Status::Cancelled,
                result: Err(rejected.into_error()),
                queued_for: None,
                ran_for: None,
                worker: Some(self.seat.id),
                attempts: self.attempts.max(1),
            };
            self.seat.shared.finish(Finished { reply, outcome });
        }
    }
}

/// Runs what is the user's; a panic is returned.
fn guard<R>(run: impl FnOnce() -> R) -> Result<R, Panic> {
    catch_unwind(AssertUnwindSafe(run))
}

/// Polls what is the user's; a panic is returned.
async fn contain<F: Future>(future: F) -> Result<F::Output, Panic> {
    let mut future = pin!(future);
    poll_fn(|cx| match guard(|| future.as_mut().poll(cx)) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

/// The panic hook has printed it; an event says which worker it was.
fn report<Req, T, E: LayerError>(panic: Panic, _seat: &Seat<Req, T, E>) {
    #[cfg(feature = "tracing")]
    tracing::error!(
        target: "stockade",
        layer = "pool",
        name = _seat.shared.settings.name,
        worker = _seat.id,
        panic = message(&*panic),
        "panicked"
    );
    // Dropping the payload runs code of the user's as well.
    let _ = guard(|| drop(panic));
}

#[cfg(feature = "tracing")]
fn message(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(message), _) => message,
        (_, Some(message)) => message,
        _ => "a payload that is no text",
    }
}
