//! Jobs that submit to their own pool, on the paused clock.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use stockade_core::{LayerError, Reason};
use stockade_pool::{ByHand, Pool};
use tokio::time::timeout;
use tower::{Service, ServiceExt};

use common::{Refusal, accepted};

type Nested = Pool<Way, Result<u32, Reason>, Refusal>;

/// How a job submits another to its own pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Leaf,
    Submit,
    TrySubmit,
    Call,
    Run,
    Group,
}

const WAYS: [Way; 5] = [Way::Submit, Way::TrySubmit, Way::Call, Way::Run, Way::Group];

#[derive(Clone, Default)]
struct Recursive(Arc<OnceLock<Nested>>);

impl Service<Way> for Recursive {
    type Response = Result<u32, Reason>;
    type Error = Refusal;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Refusal>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, way: Way) -> Self::Future {
        let mut pool = self.0.get().unwrap().clone();
        Box::pin(async move {
            let inner = match way {
                Way::Leaf => return Ok(Ok(0)),
                Way::Submit => pool.submit(Way::Leaf).await,
                Way::TrySubmit => match pool.try_submit(Way::Leaf) {
                    Ok(job) => job.await,
                    Err(_) => return Ok(Err(Reason::QueueFull)),
                },
                Way::Call => pool.ready().await?.call(Way::Leaf).await,
                Way::Run => pool.run([Way::Leaf]).next().await.unwrap().result,
                Way::Group => {
                    let mut group = pool.run(ByHand::new());
                    match group.push(Way::Leaf).await {
                        Ok(()) => group.next().await.unwrap().result,
                        Err(refused) => return Ok(Err(refused.rejected.reason())),
                    }
                }
            };
            Ok(match inner {
                Ok(answer) => answer.map(|depth| depth + 1),
                Err(error) => Err(error.rejected().unwrap().reason()),
            })
        })
    }
}

fn pool(workers: usize, queue: usize) -> Nested {
    let service = Recursive::default();
    let pool = Pool::builder().workers(workers).queue(queue).build(service.clone());
    assert!(service.0.set(pool.clone()).is_ok());
    pool
}

#[tokio::test(start_paused = true)]
async fn a_nested_job_runs_when_a_worker_is_free_and_is_refused_when_none_is() {
    for way in WAYS {
        for (workers, answer) in [(1, Err(Reason::QueueFull)), (2, Ok(1))] {
            let pool = pool(workers, if workers == 1 { 100 } else { 0 });
            tokio::task::yield_now().await;
            let job = accepted(pool.submit(way)).await.unwrap();
            let ended = timeout(Duration::from_secs(60), job).await;
            assert_eq!(ended.expect("it hangs"), Ok(answer), "{way:?}, {workers} workers");
            let stats = pool.stats();
            assert_eq!(stats.accepted, stats.ended());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nested_submits_from_all_workers_at_once_neither_deadlock_nor_hang() {
    for way in WAYS {
        for queue in [0, 3] {
            let pool = pool(4, queue);
            let mut outcomes = pool.run([way; 200]);
            let mut ended = 0;
            let all = async {
                while let Some(outcome) = outcomes.next().await {
                    let answer = outcome.result.unwrap();
                    assert!(matches!(answer, Ok(1) | Err(Reason::QueueFull)), "{answer:?}");
                    ended += 1;
                }
            };
            timeout(Duration::from_secs(60), all).await.expect("it hangs");
            assert_eq!(ended, 200);
            let stats = pool.stats();
            assert_eq!((stats.accepted, stats.queued, stats.running), (stats.ended(), 0, 0));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_rendezvous_pool_refuses_nested_jobs_too() {
    for way in WAYS {
        let pool = pool(1, 0);
        tokio::task::yield_now().await;
        let job = accepted(pool.submit(way)).await.unwrap();
        let ended = timeout(Duration::from_secs(60), job).await;
        assert_eq!(ended.expect("it hangs"), Ok(Err(Reason::QueueFull)), "{way:?}");
    }
}

/// A job that submits another, and lets the worker that is to run it go before it has started.
#[derive(Clone)]
struct Shrinking(Arc<OnceLock<Pool<u32, u32, Refusal>>>, usize);

impl Service<u32> for Shrinking {
    type Response = u32;
    type Error = Refusal;
    type Future = Pin<Box<dyn Future<Output = Result<u32, Refusal>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, depth: u32) -> Self::Future {
        let (pool, most) = (self.0.get().unwrap().clone(), self.1);
        Box::pin(async move {
            if depth == 0 {
                return Ok(0);
            }
            let Ok(job) = pool.try_submit(depth - 1) else { return Ok(depth) };
            pool.handle().resize(most).unwrap();
            job.await
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_nested_job_runs_although_resize_sends_its_worker_away() {
    for (min, max, depth) in [(2, 2, 1), (3, 3, 2), (0, 3, 2)] {
        let service = Shrinking(Arc::default(), 1);
        let pool = Pool::builder().workers(min..=max).queue(4).build(service.clone());
        assert!(service.0.set(pool.clone()).is_ok());
        tokio::task::yield_now().await;
        let ended = timeout(Duration::from_secs(60), pool.submit(depth)).await;
        let answer = ended.expect("it hangs").unwrap();
        // Once the pool is smaller, a job further inside may find nobody free.
        assert!(answer < depth, "{answer}");
        tokio::task::yield_now().await;
        assert_eq!(pool.stats().workers, 1, "then the worker goes");
    }
}
