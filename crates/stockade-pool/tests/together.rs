//! Jobs that belong together: runs over streams, in order, and groups.

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use futures_util::{StreamExt, stream};
use stockade_core::Error;
use stockade_pool::{ByHand, Pool, Status, Streamed};
use stockade_testkit::{Behaviour, Fault, Probe, Request, Response};
use tokio::time::sleep;
use tokio_test::{assert_pending, task};
use tower::service_fn;

use common::{MS, Refusal, accepted, settle};

type Probed = Pool<Request, Response, Error<Fault>>;

fn pool(workers: usize, queue: usize) -> (Probe, Probed) {
    let probe = Probe::new();
    (probe.clone(), Pool::builder().workers(workers).queue(queue).build(probe))
}

fn backwards() -> Pool<u64, u64, Refusal> {
    Pool::builder().workers(4).queue(4).build(service_fn(async |n: u64| {
        sleep(MS * (4 - n as u32 % 4)).await;
        Ok::<_, Refusal>(n)
    }))
}

#[tokio::test(start_paused = true)]
async fn ordered_outcomes_come_in_the_order_of_the_requests() {
    let pool = backwards();
    let outcomes = pool.run(0..100).ordered();
    let ids: Vec<u64> = outcomes.map(|outcome| outcome.result.unwrap()).collect().await;
    assert_eq!(ids, (0..100).collect::<Vec<_>>());
    let unordered: Vec<u64> = pool.run(0..4).map(|outcome| outcome.id).collect().await;
    assert_eq!(unordered, [3, 2, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_first_request_holds_up_the_source_of_an_ordered_run() {
    let (probe, pool) = pool(2, 2);
    let taken = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&taken);
    let requests = (0..1_000).map(move |id| {
        counted.fetch_add(1, SeqCst);
        if id == 0 { Request::wait(id) } else { Request::ready(id) }
    });
    let mut outcomes = pool.run(requests).ordered();
    {
        let mut next = task::spawn(Box::pin(outcomes.next()));
        for _ in 0..20 {
            assert_pending!(next.poll());
            settle().await;
        }
    }
    assert!(taken.load(SeqCst) <= 9, "{taken:?} requests were taken");
    probe.release(0);
    for id in 0..1_000 {
        assert_eq!(outcomes.next().await.unwrap().id, id);
    }
    assert!(outcomes.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_run_over_a_stream_takes_what_comes_and_ends_with_it() {
    let pool = backwards();
    let slow = stream::iter(0..10u64).then(async |n| {
        sleep(10 * MS).await;
        n
    });
    let slow = std::pin::pin!(slow);
    let ids: Vec<u64> = pool.run(Streamed(slow)).map(|outcome| outcome.id).collect().await;
    assert_eq!(ids, (0..10).collect::<Vec<_>>());
    assert_eq!(pool.stats().succeeded, 10);
}

#[tokio::test(start_paused = true)]
async fn a_run_over_a_stream_is_back_pressure_to_it_and_cancels_when_dropped() {
    let (probe, pool) = pool(1, 2);
    let taken = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&taken);
    let requests = stream::iter(0..1_000).map(move |id| {
        counted.fetch_add(1, SeqCst);
        Request::wait(id)
    });
    let mut outcomes = pool.run(Streamed(requests));
    {
        let mut next = task::spawn(Box::pin(outcomes.next()));
        for _ in 0..5 {
            assert_pending!(next.poll());
            settle().await;
        }
    }
    assert!(taken.load(SeqCst) <= 4, "{taken:?} requests were taken");
    drop(outcomes);
    settle().await;
    let stats = pool.stats();
    assert_eq!((probe.in_flight(), stats.queued, stats.cancelled), (0, 0, stats.accepted));
}

#[tokio::test(start_paused = true)]
async fn a_group_awaits_all_in_the_order_of_submission() {
    let pool = backwards();
    let mut group = pool.run(ByHand::new());
    for n in 0..20 {
        group.push(n).await.unwrap();
    }
    assert_eq!(group.len(), 20);
    let outcomes = group.all().await;
    let ids: Vec<u64> = outcomes.into_iter().map(|outcome| outcome.result.unwrap()).collect();
    assert_eq!(ids, (0..20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_group_fails_at_the_first_error_and_cancels_the_rest() {
    let (probe, pool) = pool(2, 8);
    let mut group = pool.run(ByHand::new());
    group.push(Request::wait(0)).await.unwrap();
    group.push(Request::new(1, Behaviour::Fail)).await.unwrap();
    group.push(Request::wait(2)).await.unwrap();
    group.push(Request::wait(3)).await.unwrap();
    let Err(Error::Service(fault)) = group.try_all().await else { panic!("no fault") };
    assert_eq!(fault.request, Some(1));
    settle().await;
    let stats = pool.stats();
    assert_eq!((probe.in_flight(), stats.queued, stats.running), (0, 0, 0));
    assert_eq!((stats.failed, stats.cancelled), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn a_group_reports_a_panic_and_goes_on_with_the_others() {
    let (_probe, pool) = pool(1, 8);
    let mut group = pool.run(ByHand::new());
    group.push(Request::new(0, Behaviour::PanicInCall)).await.unwrap();
    group.push(Request::ready(1)).await.unwrap();
    assert_eq!(group.next().await.unwrap().status, Status::Panicked);
    assert_eq!(group.next().await.unwrap().status, Status::Success);
    assert!(group.next().await.is_none() && group.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_dropped_cancels_its_jobs_and_no_others() {
    let (probe, pool) = pool(2, 8);
    let mut group = pool.run(ByHand::new());
    group.push(Request::wait(0)).await.unwrap();
    let other = accepted(pool.submit(Request::wait(1))).await.unwrap();
    group.push(Request::wait(2)).await.unwrap();
    settle().await;
    drop(group);
    settle().await;
    assert_eq!((probe.in_flight(), pool.stats().cancelled), (1, 2));
    probe.release(1);
    other.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_group_over_a_closed_pool_gives_the_request_back() {
    let (_probe, pool) = pool(1, 1);
    let mut group = pool.run(ByHand::new());
    pool.close();
    assert_eq!(group.push(Request::ready(7)).await.unwrap_err().request.id, 7);
}
