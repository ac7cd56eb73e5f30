//! Jobs by class, and in equal or weighted shares; on the paused clock.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use proptest::prelude::*;
use stockade_core::{
    LayerError, Reason, Share,
    priority::{self, Priority, PriorityLayer},
};
use stockade_pool::{Pool, PoolBuilder, Stats, WhenFull};
use stockade_testkit::{Probe, contract};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, ServiceExt, service_fn};

use common::{MS, Refusal, reason, settle};

fn balanced(stats: &Stats) {
    assert_eq!(stats.accepted, stats.ended() + stats.queued as u64 + stats.running as u64);
}

/// A pool whose jobs take 100 ms, and log what they were.
fn logging(builder: PoolBuilder<char>) -> (Pool<char, char, Refusal>, Arc<Mutex<String>>) {
    let log = Arc::new(Mutex::new(String::new()));
    let logged = Arc::clone(&log);
    let pool = builder.build(service_fn(move |job: char| {
        logged.lock().unwrap().push(job);
        async move {
            sleep(100 * MS).await;
            Ok::<_, Refusal>(job)
        }
    }));
    (pool, log)
}

/// The class of a job that is named like it.
fn class(job: char) -> Priority {
    match job {
        'c' => Priority::Critical,
        'd' => Priority::Default,
        's' => Priority::Sheddable,
        _ => Priority::Background,
    }
}

#[tokio::test(start_paused = true)]
async fn jobs_of_a_higher_class_run_first_whether_they_are_queued_or_wait_in_line() {
    for queue in [100, 3] {
        let (pool, log) = logging(Pool::builder().workers(1).queue(queue).by_priority());
        let first = pool.submit('x');
        settle().await;
        let jobs: Vec<_> =
            "bdscdcsb".chars().map(|job| class(job).enter(|| pool.submit(job))).collect();
        for job in jobs {
            assert!(job.await.is_ok());
        }
        assert_eq!(first.await, Ok('x'));
        assert_eq!(*log.lock().unwrap(), "xccddssbb");
        balanced(&pool.stats());
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_through_the_layers_waits_in_line_with_its_class() {
    let (pool, log) = logging(Pool::builder().workers(1).queue(1).by_priority());
    let svc = PriorityLayer::new(|job: &char| class(*job)).layer(pool.clone());
    let mut calls: Vec<_> =
        "xdbdscc".chars().map(|job| task::spawn(svc.clone().oneshot(job))).collect();
    for call in &mut calls {
        assert_pending!(call.poll());
        settle().await;
    }
    for call in calls {
        assert!(call.await.is_ok());
    }
    assert_eq!(*log.lock().unwrap(), "xccddsb");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_drops_its_lowest_job_for_a_higher_one() {
    let builder = || Pool::builder().workers(1).queue(2).when_full(WhenFull::Refuse);
    let (pool, log) = logging(builder().by_priority());
    let submit = |job| class(job).enter(|| pool.try_submit(job));
    let running = submit('d').unwrap();
    settle().await;
    let (low, middle) = (submit('b').unwrap(), submit('d').unwrap());
    assert_eq!(submit('b').unwrap_err().rejected.reason(), Reason::QueueFull);
    let high = submit('c').unwrap();
    assert_eq!(reason(low.await), Reason::Shed);
    let higher = submit('c').unwrap();
    assert_eq!(reason(middle.await), Reason::Shed);
    assert_eq!(submit('c').unwrap_err().rejected.reason(), Reason::QueueFull);
    for job in [running, high, higher] {
        assert!(job.await.is_ok());
    }
    assert_eq!(*log.lock().unwrap(), "dcc");
    let stats = pool.stats();
    assert_eq!((stats.refused.queue_full, stats.accepted), (2, 5));
    assert_eq!(Priority::ALL.map(|priority| stats.refused.of(priority)), [2, 0, 1, 1]);
    balanced(&stats);
}

#[tokio::test(start_paused = true)]
async fn a_full_line_drops_its_lowest_job_for_a_higher_one() {
    let (pool, log) = logging(Pool::builder().workers(1).queue(0).max_waiting(2).by_priority());
    let submit = |job| class(job).enter(|| pool.submit(job));
    let running = submit('d');
    settle().await;
    let (low, middle) = (submit('b'), submit('d'));
    assert_eq!(reason(submit('b').await), Reason::QueueFull);
    let high = submit('c');
    assert_eq!(reason(low.await), Reason::Shed);
    // Nothing is queued that would give way, and who does not want to wait drops nobody from the line.
    assert_eq!(
        class('c').enter(|| pool.try_submit('c')).unwrap_err().rejected.reason(),
        Reason::QueueFull
    );
    for job in [running, high, middle] {
        assert!(job.await.is_ok());
    }
    assert_eq!(*log.lock().unwrap(), "dcd");
    balanced(&pool.stats());
}

#[tokio::test(start_paused = true)]
async fn drop_oldest_takes_the_lowest_class_first_and_then_the_oldest_of_its_own() {
    let builder = Pool::builder().workers(1).queue(2).when_full(WhenFull::DropOldest);
    let (pool, log) = logging(builder.by_priority());
    let submit = |job| class(job).enter(|| pool.try_submit(job));
    let running = submit('x').unwrap();
    settle().await;
    let (low, first) = (submit('b').unwrap(), submit('d').unwrap());
    let second = submit('d').unwrap();
    assert_eq!(reason(low.await), Reason::Shed);
    let third = submit('d').unwrap();
    assert_eq!(reason(first.await), Reason::Shed);
    assert_eq!(submit('b').unwrap_err().rejected.reason(), Reason::QueueFull);
    for job in [running, second, third] {
        assert!(job.await.is_ok());
    }
    assert_eq!(*log.lock().unwrap(), "xdd");
    balanced(&pool.stats());
}

#[tokio::test(start_paused = true)]
async fn at_three_times_the_capacity_critical_jobs_succeed_and_no_class_is_starved() {
    for queue in [10, 100] {
        // Ten at once for 100 ms each, and three hundred a second: a quarter of them in each class.
        let builder = Pool::builder().workers(10).queue(queue).when_full(WhenFull::Refuse);
        let (pool, _) = logging(builder.max_wait(500 * MS).by_priority());
        let books = Arc::new(Mutex::new(BTreeMap::<char, (u32, u32)>::new()));
        let mut tasks = Vec::new();
        for n in 0..6_000 {
            let job = ['b', 's', 'd', 'c'][n % 4];
            let (pool, books) = (pool.clone(), Arc::clone(&books));
            let call = async move { pool.submit(job).await.is_ok() };
            tasks.push(tokio::spawn(priority::scope(class(job), async move {
                let ok = call.await;
                let mut books = books.lock().unwrap();
                let (made, answered) = books.entry(job).or_default();
                (*made, *answered) = (*made + 1, *answered + u32::from(ok));
            })));
            sleep(Duration::from_millis(if n % 3 == 0 { 4 } else { 3 })).await;
        }
        for task in tasks {
            task.await.unwrap();
        }
        let books = books.lock().unwrap();
        let share = |job| f64::from(books[&job].1) / f64::from(books[&job].0);
        assert!(share('c') >= 0.99, "{books:?}");
        assert!(
            share('d') > 0.2 && share('d') > share('s') && share('s') >= share('b'),
            "{books:?}"
        );
        assert!(books[&'b'].1 > 0, "{books:?}");
        let all: u32 = books.values().map(|(_, answered)| answered).sum();
        assert!(all >= 1_950, "the workers are used: {books:?}");
        balanced(&pool.stats());
    }
}

/// How many jobs of each tenant are answered in ten seconds, where tenant `h` submits ten times as many as `c`.
async fn offer(builder: PoolBuilder<char>) -> (u32, u32) {
    let (pool, log) = logging(builder.workers(10));
    let end = Instant::now() + 10_000 * MS;
    let mut jobs = Vec::new();
    while Instant::now() < end {
        for job in "hhhhhhhhhhc".chars() {
            jobs.push(task::spawn(pool.submit(job)));
        }
        sleep(10 * MS).await;
    }
    let log = log.lock().unwrap();
    let count = |tenant| log.chars().filter(|job| *job == tenant).count() as u32;
    (count('h'), count('c'))
}

fn weight(job: &char) -> Share {
    Share::of(job).weight(if *job == 'h' { 3 } else { 1 })
}

#[tokio::test(start_paused = true)]
async fn two_tenants_at_ten_to_one_get_equal_shares_or_what_they_weigh() {
    for when_full in [WhenFull::Wait, WhenFull::Refuse] {
        let pool = || Pool::builder().queue(32).when_full(when_full);
        let (hot, cold) = offer(pool().fair_by(|job: &char| *job)).await;
        assert!((f64::from(hot) / f64::from(cold) - 1.0).abs() < 0.05, "{hot} {cold}");
        assert!(hot + cold >= 970, "{hot} {cold}");
        let (hot, cold) = offer(pool().fair_by(weight)).await;
        assert!((f64::from(hot) / f64::from(cold) - 3.0).abs() < 0.15, "{hot} {cold}");
    }
}

#[tokio::test(start_paused = true)]
async fn cancelled_jobs_leave_the_order_and_cost_their_tenant_nothing() {
    let (pool, log) = logging(Pool::builder().workers(1).queue(4).fair_by(|job: &char| *job));
    let first = pool.submit('x');
    settle().await;
    for _ in 0..10_000 {
        drop(pool.submit('h'));
    }
    let jobs = "hccccch".chars().map(|job| pool.submit(job)).collect::<Vec<_>>();
    assert!(first.await.is_ok());
    for job in jobs {
        assert!(job.await.is_ok());
    }
    assert_eq!(*log.lock().unwrap(), "xhchcccc");
    balanced(&pool.stats());
}

#[tokio::test(start_paused = true)]
async fn of_several_orders_the_last_one_counts() {
    let builder = || Pool::builder().workers(1).queue(10);
    let by_rank = |job: &char| i64::from(u32::from(*job));
    for (expected, builder) in [
        ("xcb", builder().order(by_rank).by_priority()),
        ("xbc", builder().fair_by(|job: &char| *job).by_priority().order(by_rank)),
        ("xbc", builder().by_priority().fair_by(|job: &char| *job)),
    ] {
        let (pool, log) = logging(builder);
        let first = pool.submit('x');
        settle().await;
        let jobs = ['b', 'c'].map(|job| class(job).enter(|| pool.submit(job)));
        for job in jobs.into_iter().chain([first]) {
            assert!(job.await.is_ok());
        }
        assert_eq!(*log.lock().unwrap(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_with_shares_drains_and_closes_as_others_do() {
    let (pool, _) = logging(Pool::builder().workers(1).queue(2).fair_by(|job: &char| *job));
    let mut jobs: Vec<_> = "abcde".chars().map(|job| task::spawn(pool.submit(job))).collect();
    settle().await;
    jobs.iter_mut().for_each(|job| assert_pending!(job.poll()));
    pool.close();
    let closed = jobs.split_off(3).into_iter().map(|mut job| reason(assert_ready!(job.poll())));
    assert_eq!(closed.collect::<Vec<_>>(), [Reason::PoolClosed; 2]);
    for job in jobs {
        assert!(job.await.is_ok());
    }
    balanced(&pool.stats());
}

#[tokio::test(start_paused = true)]
async fn a_pool_by_class_and_one_with_shares_keep_the_contract() {
    contract(|inner: Probe| Pool::builder().workers(2).queue(16).by_priority().build(inner))
        .limit(2)
        .close(|pool| pool.close())
        .run()
        .await
        .assert();
    contract(|inner: Probe| Pool::builder().workers(2).queue(16).fair_by(|_: &_| 1).build(inner))
        .limit(2)
        .close(|pool| pool.close())
        .run()
        .await
        .assert();
}

#[derive(Clone, Debug)]
enum Step {
    Submit(usize),
    Try(usize),
    Drop(prop::sample::Index),
    Permits(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..4_usize).prop_map(Step::Submit),
        2 => (0..4_usize).prop_map(Step::Try),
        2 => any::<prop::sample::Index>().prop_map(Step::Drop),
        3 => (1..3_usize).prop_map(Step::Permits),
    ];
    prop::collection::vec(step, 0..120)
}

/// Each job that is accepted ends once, and one that was not cancelled is answered or told why not.
async fn play(steps: Vec<Step>, builder: PoolBuilder<usize>) {
    let (gate, ran) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
    let service = service_fn({
        let (gate, ran) = (Arc::clone(&gate), Arc::clone(&ran));
        move |id: usize| {
            ran.lock().unwrap().push(id);
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.unwrap().forget();
                Ok::<_, Refusal>(id)
            }
        }
    });
    let pool = builder.workers(2).build(service);
    let mut jobs = Vec::new();
    for (id, step) in steps.into_iter().enumerate() {
        match step {
            Step::Submit(class) => {
                let job = Priority::ALL[class].enter(|| pool.submit(id * 4 + class));
                jobs.push((id * 4 + class, task::spawn(job)));
            }
            Step::Try(class) => {
                let job = Priority::ALL[class].enter(|| pool.try_submit(id * 4 + class));
                jobs.extend(job.ok().map(|job| (id * 4 + class, task::spawn(job))));
            }
            Step::Drop(at) if !jobs.is_empty() => drop(jobs.swap_remove(at.index(jobs.len()))),
            Step::Drop(_) => {}
            Step::Permits(n) => gate.add_permits(n),
        }
        settle().await;
        balanced(&pool.stats());
    }
    gate.add_permits(10_000);
    settle().await;
    for (id, mut job) in jobs {
        match job.poll() {
            Poll::Ready(Ok(answered)) => assert_eq!(answered, id),
            Poll::Ready(Err(error)) => {
                let reason = error.rejected().unwrap().reason();
                assert!(matches!(reason, Reason::Shed | Reason::QueueFull), "{reason:?}");
            }
            Poll::Pending => panic!("job {id} is lost"),
        }
    }
    let stats = pool.stats();
    balanced(&stats);
    assert_eq!((stats.queued, stats.running), (0, 0));
    let mut ran = ran.lock().unwrap().clone();
    let all = ran.len();
    ran.sort_unstable();
    ran.dedup();
    assert_eq!(ran.len(), all, "no job runs twice");
}

proptest! {
    #[test]
    fn nobody_is_lost_or_runs_twice_whoever_comes_leaves_or_gives_way(
        steps in steps(),
        by_class in any::<bool>(),
        when_full in prop::sample::select(vec![WhenFull::Wait, WhenFull::Refuse, WhenFull::DropOldest]),
        queue in 0..4_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let builder = Pool::builder().queue(queue).when_full(when_full).max_waiting(3);
            let builder = builder.fair_by(|id: &usize| id % 4);
            play(steps, if by_class { builder.by_priority() } else { builder }).await;
        });
    }
}
