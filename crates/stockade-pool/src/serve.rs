//! What a worker does with its service: makes it, gets it ready, runs job after job.
//!
//! Everything of the user's runs under [`guard`]: a panic costs the job at hand its answer and the worker
//! its service, which is made anew.

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use stockade_core::internal::{lock, sync::Mutex};
use tokio::{task::yield_now, time::sleep};

use crate::{
    MakeWorker, PoolService,
    contain::{discard, guard, poll_guarded},
    rebuild::Rebuild,
    turn::Stopped,
    worker::Worker,
};

/// A worker from its start to its end, or until the workers are stopped.
pub(crate) async fn run<M, S, Req, R>(
    mut worker: Worker<Req, S::Response, S::Error>,
    make: Arc<Mutex<M>>,
    rebuild: Arc<R>,
) where
    M: MakeWorker<S>,
    S: PoolService<Req>,
    R: Rebuild<S::Response, S::Error>,
{
    let shared = Arc::clone(&worker.shared);
    // A panic that nothing inside has contained must not cost the pool a worker.
    while !worker.has_left() {
        let ended = {
            let mut work = pin!(work(&mut worker, &make, &*rebuild));
            let until_stopped = poll_fn(|cx| match shared.is_stopped() {
                true => Poll::Ready(Ok(())),
                false => poll_guarded(work.as_mut(), cx),
            });
            until_stopped.await
        };
        let Err(panic) = ended else { return };
        worker.tell(panic);
        worker.give_up();
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
    loop {
        let failed = match build(worker, &mut maker, make).await {
            None => break,
            Some(None) => Some(None),
            Some(Some(mut service)) => {
                let stopped = serve(worker, &mut service, rebuild).await;
                if let Err(panic) = guard(|| drop(service)) {
                    worker.tell(panic);
                }
                match stopped {
                    Stopped::Left => break,
                    Stopped::Broken(error) => error.map(Some),
                }
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
) -> Option<Option<S>>
where
    M: MakeWorker<S>,
{
    let number = worker.number;
    let mut building = pin!(async {
        let maker = maker.get_or_insert_with(|| lock(make).clone());
        poll_fn(|cx| maker.poll_ready(cx)).await?;
        maker.call(number).await
    });
    match worker.wait(poll_fn(|cx| poll_guarded(building.as_mut(), cx))).await? {
        Ok(Ok(service)) => Some(Some(service)),
        Ok(Err(_error)) => {
            #[cfg(feature = "tracing")]
            if worker.failures == 0 {
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
    rebuild: &R,
) -> Stopped<S::Error>
where
    S: PoolService<Req>,
    R: Rebuild<S::Response, S::Error>,
{
    let mut call = pin!(None);
    let stopped = poll_fn(|cx| {
        loop {
            // Many jobs in one stretch, so that one that is answered at once is never stored in a future.
            match guard(|| worker.poll_jobs(service, call.as_mut(), rebuild, cx)) {
                Ok(Poll::Ready(stopped)) => return Poll::Ready(stopped),
                Ok(Poll::Pending) => {}
                Err(panic) => return Poll::Ready(worker.panicked(panic, call.as_mut())),
            }
            if !worker.is_spare() {
                return Poll::Pending;
            }
            ready!(worker.idle.poll(worker.shared.config.idle, cx));
            if worker.try_leave() {
                return Poll::Ready(Stopped::Left);
            }
        }
    })
    .await;
    worker.settle();
    stopped
}
