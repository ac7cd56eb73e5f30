//! What the pool does when there is too much to do, on the paused clock.

mod common;

use std::time::Duration;

use stockade_core::{LayerError, Reason};
use stockade_pool::{Pool, Status, WhenFull};
use tokio::time::{Instant, sleep};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Service, ServiceExt, service_fn};

use common::{MS, Refusal, reason, settle};

fn slow(workers: usize, queue: usize) -> stockade_pool::PoolBuilder<u64> {
    Pool::builder().workers(workers).queue(queue)
}

fn build(builder: stockade_pool::PoolBuilder<u64>) -> Pool<u64, u64, Refusal> {
    builder.build(service_fn(async |n: u64| {
        sleep(10 * MS).await;
        Ok::<_, Refusal>(n)
    }))
}

#[tokio::test(start_paused = true)]
async fn a_job_that_has_waited_for_too_long_is_refused_and_told_when_to_come_back() {
    let pool = build(slow(1, 1_000).max_wait(100 * MS));
    let jobs: Vec<_> = (0..30).map(|n| pool.try_submit(n).unwrap()).collect();
    let (mut late, mut served) = (0, 0);
    for job in jobs {
        match job.await {
            Ok(_) => served += 1,
            Err(error) => {
                let rejected = *error.rejected().unwrap();
                assert_eq!(rejected.reason(), Reason::WaitExceeded);
                assert_eq!(rejected.retry_after(), Some(100 * MS));
                late += 1;
            }
        }
    }
    assert!((10..=11).contains(&served), "{served} were served");
    let stats = pool.stats();
    assert_eq!((stats.shed, stats.succeeded), (late, served));
    assert_eq!(stats.accepted, stats.ended());
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_let_through() {
    let pool = build(slow(1, 1_000).max_wait(100 * MS));
    let jobs: Vec<_> = (0..9).map(|n| pool.try_submit(n).unwrap()).collect();
    for (n, job) in jobs.into_iter().enumerate() {
        assert_eq!(job.await, Ok(n as u64));
    }
    assert_eq!(pool.stats().shed, 0);
}

#[tokio::test(start_paused = true)]
async fn under_lasting_overload_half_of_those_who_are_served_wait_less_than_the_limit() {
    // 400 jobs a second can be done, and 600 are offered by callers who do not slow down.
    let pool = build(slow(4, 128).max_wait(100 * MS));
    let calls: Vec<_> = (0..6_000)
        .map(|n| {
            let mut pool = pool.clone();
            tokio::spawn(async move {
                sleep(MS * n * 10 / 6).await;
                let start = Instant::now();
                let answer = pool.ready().await.unwrap().call(u64::from(n)).await;
                (answer.is_ok(), start.elapsed())
            })
        })
        .collect();
    let mut served = Vec::new();
    for call in calls {
        let (is_ok, took) = call.await.unwrap();
        if is_ok {
            served.push(took);
        } else {
            assert!(took <= 101 * MS, "{took:?} to be refused");
        }
    }
    served.sort_unstable();
    assert!(served.len() > 3_800, "{} were served", served.len());
    let (p50, max) = (served[served.len() / 2], served[served.len() - 1]);
    assert!(p50 < 100 * MS && max <= 111 * MS, "{p50:?}, {max:?}");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_waits_for_a_place_is_refused_in_time_although_no_worker_is_free() {
    let pool = Pool::builder().workers(1).queue(0).max_wait(50 * MS);
    let pool =
        pool.build(service_fn(async |()| std::future::pending::<Result<(), Refusal>>().await));
    let _running = pool.submit(());
    let start = Instant::now();
    assert_eq!(reason(pool.submit(()).await), Reason::WaitExceeded);
    assert!(start.elapsed() <= 52 * MS, "{:?}", start.elapsed());
    assert_eq!(pool.stats().refused.wait_exceeded, 1);
}

#[tokio::test(start_paused = true)]
async fn with_no_time_to_wait_a_job_is_accepted_only_when_a_worker_is_free() {
    let pool = build(slow(2, 16).max_wait(Duration::ZERO));
    let jobs = [0, 1].map(|n| pool.submit(n));
    assert_eq!(reason(pool.submit(2).await), Reason::QueueFull);
    for job in jobs {
        job.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn callers_who_wait_are_counted_and_no_more_than_the_bound_may_wait() {
    let pool = build(slow(1, 0).max_waiting(10));
    let _running = pool.submit(0);
    let mut jobs: Vec<_> = (1..1_000).map(|n| task::spawn(pool.submit(n))).collect();
    let refused = jobs.iter_mut().filter_map(|job| match job.poll() {
        std::task::Poll::Ready(answer) => Some(reason(answer)),
        std::task::Poll::Pending => None,
    });
    let refused: Vec<Reason> = refused.collect();
    assert_eq!(refused, vec![Reason::QueueFull; 989]);
    let stats = pool.stats();
    assert_eq!((stats.waiting, stats.refused.queue_full), (10, 989));
    assert_eq!(stats.accepted, 1);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_refuses_when_it_is_full_lets_nobody_wait() {
    let mut pool = build(slow(1, 1).when_full(WhenFull::Refuse));
    let _jobs = [pool.submit(0), pool.submit(1)];
    assert_eq!(reason(pool.submit(2).await), Reason::QueueFull);
    let mut ready = task::spawn(async { pool.ready().await.unwrap().call(3).await });
    assert_eq!(reason(assert_ready!(ready.poll())), Reason::QueueFull);
}

#[tokio::test(start_paused = true)]
async fn the_oldest_job_makes_room_for_a_newer_one() {
    let mut pool = build(slow(1, 2).when_full(WhenFull::DropOldest));
    let running = pool.submit(0);
    settle().await;
    let (first, second) = (pool.submit(1), pool.submit(2));
    let third = pool.submit(3);
    assert_eq!(reason(first.await), Reason::Shed);
    let fourth = pool.ready().await.unwrap().call(4);
    assert_eq!(reason(second.await), Reason::Shed);
    for (n, job) in [(0, running), (3, third), (4, fourth)] {
        assert_eq!(job.await, Ok(n));
    }
    let stats = pool.stats();
    assert_eq!((stats.shed, stats.succeeded, stats.accepted), (2, 3, 5));
}

#[tokio::test(start_paused = true)]
async fn a_run_waits_for_places_whatever_the_pool_does_when_it_is_full() {
    for when_full in [WhenFull::Wait, WhenFull::Refuse, WhenFull::DropOldest] {
        let pool = build(slow(1, 2).when_full(when_full));
        let outcomes = pool.run(0..20).all().await;
        assert_eq!(outcomes.len(), 20);
        assert!(outcomes.iter().all(|outcome| outcome.status == Status::Success));
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_are_counted_by_reason() {
    let mut pool = build(slow(1, 0));
    let _running = pool.submit(0);
    assert!(pool.try_submit(1).is_err());
    let mut past = stockade_core::deadline::Deadline::At(Instant::now());
    assert!(past.enter(|| task::spawn(pool.call(2)).poll()).is_ready());
    let mut waits = task::spawn(pool.submit(3));
    assert_pending!(waits.poll());
    pool.close();
    assert_eq!(reason(assert_ready!(waits.poll())), Reason::PoolClosed);
    assert!(pool.try_submit(4).is_err());
    let refused = pool.stats().refused;
    assert_eq!((refused.queue_full, refused.expired, refused.pool_closed), (1, 1, 2));
    assert_eq!(refused.total(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_gets_no_place_is_counted_once_whichever_way_it_came() {
    // One runs, one is queued, and all others wait.
    let pool = build(slow(1, 1));
    let _jobs = [pool.submit(0), pool.submit(1)];
    let (mut service, mut by_hand) = (pool.clone(), pool.run(stockade_pool::ByHand::new()));
    let mut called = task::spawn(async { service.ready().await.unwrap().call(2).await });
    let mut submitted = task::spawn(pool.submit(3));
    let mut run = task::spawn(pool.run(4..10).all());
    let mut pushed = task::spawn(by_hand.push(10));
    assert_pending!(called.poll());
    assert_pending!(submitted.poll());
    assert_pending!(run.poll());
    assert_pending!(pushed.poll());
    assert_eq!(pool.stats().waiting, 4);

    pool.close();
    assert_eq!(reason(assert_ready!(called.poll())), Reason::PoolClosed);
    assert_eq!(reason(assert_ready!(submitted.poll())), Reason::PoolClosed);
    assert_eq!(assert_ready!(run.poll()).len(), 0);
    assert_eq!(assert_ready!(pushed.poll()).unwrap_err().rejected.reason(), Reason::PoolClosed);
    let refused = pool.stats().refused;
    assert_eq!((refused.pool_closed, refused.total()), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn a_handle_that_waited_in_vain_counts_when_it_is_called_and_refused() {
    let hangs = service_fn(async |_: u64| std::future::pending::<Result<u64, Refusal>>().await);
    let pool = slow(1, 1).max_wait(100 * MS).build(hangs);
    let (running, _queued) = (pool.submit(0), pool.submit(1));
    let [mut called, mut idle] = [pool.clone(), pool.clone()];
    let mut call = task::spawn(async { called.ready().await.unwrap().call(2).await });
    assert_pending!(call.poll());
    let mut only_ready = task::spawn(idle.ready());
    assert_pending!(only_ready.poll());

    sleep(101 * MS).await;
    drop(running);
    settle().await;
    let _ = assert_ready!(only_ready.poll());
    let refused = pool.stats().refused;
    assert_eq!(refused.total(), 0, "nothing was called: {refused:?}");
    let ended = call.poll();
    let refused = pool.stats().refused;
    let told = u64::from(matches!(ended, std::task::Poll::Ready(Err(_))));
    assert_eq!(refused.total(), told, "{refused:?}");
}

#[test]
#[should_panic(expected = "PoolBuilder::max_wait: 1000000000s is not allowed")]
fn a_limit_above_ten_years_is_refused() {
    let _ = Pool::<(), _, _>::builder().max_wait(Duration::from_secs(1_000_000_000));
}
