//! What the pool does, on the paused clock.

mod common;

use std::{
    future::{Ready, ready},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures_util::future::join_all;
use stockade_core::{
    Error, Reason, Rejected,
    deadline::{self, Deadline},
};
use stockade_pool::{Outcome, Pool, Stats, Status};
use stockade_testkit::{Behaviour, Fault, Probe, Readiness, Request, Response};
use tokio::{
    runtime::Handle,
    task::yield_now,
    time::{Instant, sleep},
};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower::{Service, ServiceExt, service_fn};

use common::{MS, Refusal, accepted, reason, settle};

type Probed = Pool<Request, Response, Error<Fault>>;

fn pool(workers: usize, queue: usize) -> (Probe, Probed) {
    let probe = Probe::new();
    let pool = Pool::builder().workers(workers).queue(queue).name("test").build(probe.clone());
    (probe, pool)
}

/// Each job is in exactly one place.
fn balanced(stats: &Stats) {
    assert_eq!(stats.accepted, stats.ended() + stats.queued as u64 + stats.running as u64);
}

#[tokio::test(start_paused = true)]
async fn poll_ready_is_back_pressure_and_places_go_to_callers_in_order() {
    let (probe, mut pool) = pool(1, 1);
    settle().await;
    let mut jobs = Vec::new();
    for id in 0..2 {
        jobs.push(task::spawn(pool.ready().await.unwrap().call(Request::wait(id))));
        settle().await;
    }
    let (mut first, mut second) = (pool.clone(), pool.clone());
    let mut first = task::spawn(first.ready());
    let mut second = task::spawn(second.ready());
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    probe.release(0);
    settle().await;
    assert!(first.is_woken() && !second.is_woken());
    assert_ready_ok!(first.poll());
    assert_pending!(second.poll());
    assert_ready_ok!(jobs[0].poll());
}

#[tokio::test(start_paused = true)]
async fn a_woken_caller_that_goes_passes_its_place_on() {
    let (probe, mut pool) = pool(1, 1);
    settle().await;
    let _jobs = [
        pool.ready().await.unwrap().call(Request::wait(0)),
        pool.ready().await.unwrap().call(Request::wait(1)),
    ];
    settle().await;
    let mut clone = pool.clone();
    let mut first = task::spawn(clone.ready());
    assert_pending!(first.poll());
    let mut second = task::spawn(accepted(pool.submit(Request::ready(2))));
    assert_pending!(second.poll());
    probe.release(0);
    settle().await;
    assert!(first.is_woken() && !second.is_woken());
    drop(first);
    drop(clone);
    assert!(second.is_woken());
    let _job = assert_ready_ok!(second.poll());
}

#[tokio::test(start_paused = true)]
async fn an_idle_clone_that_is_ready_gives_its_place_back_when_dropped() {
    let (_probe, mut pool) = pool(1, 1);
    settle().await;
    let mut idle = [pool.clone(), pool.clone()];
    for clone in &mut idle {
        clone.ready().await.unwrap();
    }
    assert_pending!(task::spawn(pool.ready()).poll());
    drop(idle);
    assert_ready_ok!(task::spawn(pool.ready()).poll());
}

#[tokio::test(start_paused = true)]
async fn handles_that_submit_hold_no_place_while_idle() {
    let (_probe, pool) = pool(1, 1);
    settle().await;
    let clones: Vec<_> = (0..100).map(|_| pool.clone()).collect();
    for (id, clone) in clones.iter().enumerate() {
        clone.submit(Request::ready(id as u64)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_waits_for_its_place_and_its_answer_and_is_cancelled_wherever_it_is_dropped() {
    let (probe, pool) = pool(1, 1);
    settle().await;
    let mut running = task::spawn(pool.submit(Request::wait(0)));
    assert_pending!(running.poll());
    settle().await;
    let mut queued = task::spawn(pool.submit(Request::ready(1)));
    let mut waiting = [2, 3].map(|id| task::spawn(pool.submit(Request::ready(id))));
    assert_pending!(queued.poll());
    waiting.iter_mut().for_each(|invoke| assert_pending!(invoke.poll()));
    assert_eq!((pool.stats().running, pool.stats().queued), (1, 1));
    let [gives_up, mut next] = waiting;
    drop(queued);
    assert!(gives_up.is_woken(), "the place is handed on");
    drop(gives_up);
    assert!(next.is_woken());
    assert_pending!(next.poll());
    assert!(!running.is_woken());
    drop(running);
    settle().await;
    assert_eq!(probe.in_flight(), 0);
    assert_eq!(assert_ready!(next.poll()).unwrap().id, 3);
    pool.close();
    assert_eq!(reason(pool.submit(Request::ready(4)).await), Reason::PoolClosed);
    let stats = pool.stats();
    assert_eq!((stats.accepted, stats.succeeded, stats.cancelled), (4, 1, 3));
    balanced(&stats);
}

#[tokio::test(start_paused = true)]
async fn rendezvous_accepts_only_when_a_worker_is_free() {
    let (probe, pool) = pool(2, 0);
    let mut held = vec![pool.try_submit(Request::wait(0)).unwrap()];
    held.push(pool.try_submit(Request::wait(1)).unwrap());
    let full = pool.try_submit(Request::wait(2)).unwrap_err();
    assert_eq!((full.rejected.reason(), full.request.id), (Reason::QueueFull, 2));
    settle().await;
    assert_eq!(probe.in_flight(), 2);
    let mut waiting = task::spawn(accepted(pool.submit(Request::wait(3))));
    assert_pending!(waiting.poll());
    probe.release(0);
    settle().await;
    let _job = assert_ready_ok!(waiting.poll());
    assert_eq!((pool.stats().queued, pool.stats().running), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_over_a_queue_of_one_are_all_served() {
    let pool = Pool::builder().workers(2).queue(1).build(service_fn(async |n: u32| {
        if n.is_multiple_of(3) {
            yield_now().await;
        }
        Ok::<_, Refusal>(n)
    }));
    let calls = (0..1_024).map(|n| {
        let mut pool = pool.clone();
        tokio::spawn(async move {
            if n % 7 == 0 {
                // Somebody who waits a while and goes.
                let mut ready = task::spawn(pool.ready());
                let _ = ready.poll();
                yield_now().await;
                return true;
            }
            pool.ready().await.unwrap().call(n).await == Ok(n)
        })
    });
    let served = join_all(calls).await;
    assert!(served.into_iter().all(Result::unwrap));
    balanced(&pool.stats());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_job_leaves_the_queue_at_once_and_drops_its_request() {
    let alive = Arc::new(());
    let pool = Pool::builder()
        .workers(1)
        .queue(1)
        .build(service_fn(async |_: Arc<()>| std::future::pending::<Result<(), Refusal>>().await));
    settle().await;
    let _running = accepted(pool.submit(Arc::new(()))).await.unwrap();
    settle().await;
    let queued = accepted(pool.submit(alive.clone())).await.unwrap();
    assert!(pool.try_submit(alive.clone()).is_err());
    drop(queued);
    assert_eq!(Arc::strong_count(&alive), 1, "the request is dropped");
    let _next = pool.try_submit(alive.clone()).unwrap();
    let stats = pool.stats();
    assert_eq!((stats.cancelled, stats.queued, stats.running), (1, 1, 1));
    balanced(&stats);
}

#[tokio::test(start_paused = true)]
async fn a_running_call_is_dropped_at_its_next_await_when_the_caller_goes() {
    let (probe, pool) = pool(1, 4);
    let job = accepted(pool.submit(Request::wait(0))).await.unwrap();
    settle().await;
    assert_eq!(probe.in_flight(), 1);
    drop(job);
    settle().await;
    assert_eq!(probe.in_flight(), 0);
    assert_eq!(pool.stats().cancelled, 1);
    pool.submit(Request::ready(1)).await.unwrap();
    balanced(&pool.stats());
}

#[tokio::test(start_paused = true)]
async fn a_panic_costs_one_call_its_answer_and_the_others_go_on() {
    let (probe, pool) = pool(2, 16);
    let behaviours = [Behaviour::PanicInCall, Behaviour::Ready, Behaviour::PanicInFuture];
    let mut jobs = Vec::new();
    for id in 0..12 {
        let request = Request::new(id, behaviours[id as usize % 3]);
        jobs.push(accepted(pool.submit(request)).await.unwrap());
    }
    for (id, job) in jobs.into_iter().enumerate() {
        match job.await {
            Ok(answer) => assert_eq!((answer.id, id % 3), (id as u64, 1)),
            refused => {
                assert_ne!(id % 3, 1);
                assert_eq!(reason(refused), Reason::Panicked);
            }
        }
    }
    let stats = pool.stats();
    assert_eq!((stats.panicked, stats.succeeded, stats.workers), (8, 4, 2));
    assert_eq!(stats.rebuilt, 8);
    assert_eq!(probe.violations(), []);
    balanced(&stats);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_always_panics_is_made_anew_with_growing_pauses() {
    let pool = Pool::builder().workers(1).queue(16).build(service_fn(async |_: u32| {
        std::panic::resume_unwind(Box::new("as asked"));
        #[expect(unreachable_code)]
        Ok::<_, Refusal>(())
    }));
    let start = Instant::now();
    for n in 0..16 {
        let answer = pool.submit(n).await;
        assert_eq!(reason(answer), Reason::Panicked);
    }
    let took = start.elapsed();
    assert!(took > 2_000 * MS && took < 20_000 * MS, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_the_call_is_dropped_is_survived() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("dropped"));
        }
    }
    let pool = Pool::builder().workers(1).queue(4).build(service_fn(async |armed: bool| {
        if armed {
            let _bomb = Bomb;
            std::future::pending::<()>().await;
        }
        Ok::<_, Refusal>(())
    }));
    let armed = accepted(pool.submit(true)).await.unwrap();
    settle().await;
    drop(armed);
    settle().await;
    pool.submit(false).await.unwrap();
    let stats = pool.stats();
    assert_eq!((stats.cancelled, stats.succeeded, stats.workers), (1, 1, 1));
    balanced(&stats);
}

#[tokio::test(start_paused = true)]
async fn a_readiness_error_rebuilds_the_service_and_the_job_stays_queued() {
    let (probe, pool) = pool(1, 4);
    probe.set_ready(Readiness::Error);
    let mut job = task::spawn(accepted(pool.submit(Request::ready(0))).await.unwrap());
    settle().await;
    sleep(100 * MS).await;
    assert_pending!(job.poll());
    assert_eq!((pool.stats().queued, probe.calls()), (1, 0));
    probe.set_ready(Readiness::Ready);
    sleep(2_000 * MS).await;
    assert_ready_ok!(job.poll());
    assert!(pool.stats().rebuilt > 1);
}

/// What `poll_ready` of a [`Fragile`] says.
type Readied = Poll<Result<(), Refusal>>;

struct Fragile {
    worker: usize,
    /// Once this is set; until then it is ready.
    broken: Option<Arc<OnceLock<Readied>>>,
}

impl Service<usize> for Fragile {
    type Response = usize;
    type Error = Refusal;
    type Future = Ready<Result<usize, Refusal>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Readied {
        let broken = self.broken.as_ref().and_then(|broken| broken.get());
        broken.copied().unwrap_or(Poll::Ready(Ok(())))
    }

    fn call(&mut self, _: usize) -> Self::Future {
        ready(Ok(self.worker))
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_service_breaks_while_it_sleeps_leaves_the_job_to_another() {
    let error = Refusal::from(Rejected::new(&"inside", Reason::BreakerOpen));
    for (fragile, broken_so) in [
        (0, Poll::Ready(Err(error))),
        (1, Poll::Ready(Err(error))),
        (0, Poll::Pending),
        (1, Poll::Pending),
    ] {
        let broken = Arc::new(OnceLock::new());
        let unmade = Arc::new(Mutex::new(Some(broken.clone())));
        let make = service_fn(move |worker: usize| {
            let mut unmade = unmade.lock().unwrap();
            let broken = if worker == fragile { unmade.take() } else { None };
            let again = worker == fragile && broken.is_none();
            async move {
                sleep(if again { 5_000 * MS } else { Duration::ZERO }).await;
                Ok::<_, Refusal>(Fragile { worker, broken })
            }
        });
        let pool = Pool::builder().workers(2).queue(8).build_make(make);
        sleep(10 * MS).await;
        assert_eq!(pool.stats().idle, 2);
        broken.set(broken_so).unwrap();
        let start = Instant::now();
        let workers = [0, 1].map(|n| pool.try_submit(n).unwrap());
        for worker in workers {
            assert_eq!(worker.await.unwrap(), 1 - fragile);
        }
        assert!(start.elapsed() < 10 * MS);
        assert_eq!(pool.stats().idle, 1, "it could not take a job now");
    }
}

#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_puts_no_job_on_the_books_twice() {
    struct Bomb;
    impl Wake for Bomb {
        fn wake(self: Arc<Self>) {
            std::panic::resume_unwind(Box::new("woken"));
        }
    }
    let (probe, pool) = pool(1, 4);
    let mut job = std::pin::pin!(pool.try_submit(Request::wait(0)).unwrap());
    let bomb = Waker::from(Arc::new(Bomb));
    assert_pending!(job.as_mut().poll(&mut Context::from_waker(&bomb)));
    settle().await;
    probe.release_all();
    settle().await;
    let stats = pool.stats();
    assert_eq!((stats.running, stats.succeeded, stats.idle), (0, 1, 1));
    balanced(&stats);
    job.await.unwrap();
    pool.submit(Request::ready(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn each_worker_makes_its_own_service_and_a_failed_make_is_tried_again() {
    let (made, tries) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let make = service_fn({
        let (made, tries) = (made.clone(), tries.clone());
        move |worker: usize| {
            let (made, tries) = (made.clone(), tries.clone());
            async move {
                if tries.fetch_add(1, SeqCst) % 2 == 0 {
                    return Err("not yet");
                }
                made.fetch_add(1, SeqCst);
                Ok(service_fn(move |n: usize| async move { Ok::<_, Refusal>((worker, n)) }))
            }
        }
    });
    let pool = Pool::builder().workers(3).queue(8).build_make(make);
    let answers = join_all((0..9).map(|n| {
        let pool = &pool;
        async move { pool.submit(n).await.unwrap() }
    }));
    let answers = answers.await;
    assert!(answers.iter().all(|(worker, _)| *worker < 3));
    sleep(1_000 * MS).await;
    assert_eq!((made.load(SeqCst), pool.stats().idle), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_cannot_be_made_for_long_is_tried_again_every_second() {
    let begin = Instant::now();
    let tries = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&tries);
    let make = service_fn(move |_: usize| {
        log.lock().unwrap().push(begin.elapsed());
        let is_back = begin.elapsed() >= Duration::from_secs(60);
        async move {
            let service = service_fn(async |n: u64| Ok::<_, Refusal>(n));
            if is_back { Ok(service) } else { Err("not yet") }
        }
    });
    let pool = Pool::builder().workers(1).queue(1).build_make(make);
    assert_eq!(pool.submit(7).await, Ok(7));
    assert!(begin.elapsed() <= Duration::from_secs(61), "{:?}", begin.elapsed());
    let tries = tries.lock().unwrap();
    let longest = tries.windows(2).map(|pair| pair[1] - pair[0]).max();
    // The timer is exact to a millisecond.
    assert!(longest <= Some(1_001 * MS) && tries.len() > 60, "{longest:?}, {} times", tries.len());
}

#[tokio::test(start_paused = true)]
async fn drain_runs_what_is_queued_and_leaves_no_task() {
    let before = Handle::current().metrics().num_alive_tasks();
    let pool = Pool::builder().workers(2).queue(16).build(service_fn(async |n: u64| {
        sleep(10 * MS).await;
        Ok::<_, Refusal>(n)
    }));
    let mut jobs = Vec::new();
    for n in 0..10 {
        jobs.push(accepted(pool.submit(n)).await.unwrap());
    }
    let drained = pool.drain(Duration::from_secs(5)).await;
    assert!(drained.is_complete());
    assert_eq!((drained.completed, drained.unfinished), (10, vec![]));
    for (n, job) in jobs.into_iter().enumerate() {
        assert_eq!(job.await, Ok(n as u64));
    }
    assert_eq!(Handle::current().metrics().num_alive_tasks(), before);
    balanced(&pool.stats());
}

#[tokio::test(start_paused = true)]
async fn drain_hands_unstarted_requests_back_at_the_deadline() {
    let (probe, mut pool) = pool(1, 16);
    let mut jobs = Vec::new();
    for id in 0..5 {
        jobs.push(task::spawn(accepted(pool.submit(Request::wait(id))).await.unwrap()));
    }
    let start = Instant::now();
    let handle = pool.handle();
    let drained = handle.drain(50 * MS).await;
    assert!((45..=50).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    let back: Vec<u64> = drained.unfinished.iter().map(|request| request.id).collect();
    assert_eq!(back, [1, 2, 3, 4]);
    assert_eq!((drained.completed, drained.cancelled, drained.stuck), (0, 1, 0));
    let reasons: Vec<Reason> =
        jobs.iter_mut().map(|job| reason(assert_ready!(job.poll()))).collect();
    assert_eq!(reasons[0], Reason::Cancelled);
    assert!(reasons[1..].iter().all(|reason| *reason == Reason::PoolClosed));
    assert_eq!(probe.in_flight(), 0);
    let stats = pool.stats();
    assert_eq!((stats.handed_back, stats.cancelled, stats.workers), (4, 1, 0));
    balanced(&stats);

    let closed = pool.try_submit(Request::ready(9)).unwrap_err();
    assert_eq!((closed.rejected.reason(), closed.request.id), (Reason::PoolClosed, 9));
    assert_eq!(accepted(pool.submit(Request::ready(8))).await.unwrap_err().request.id, 8);
    let refused = pool.ready().await.unwrap().call(Request::ready(7)).await;
    assert_eq!(reason(refused), Reason::PoolClosed);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_goes_during_a_drain_is_not_one_whom_the_drain_stopped() {
    let (probe, pool) = pool(1, 4);
    let job = pool.try_submit(Request::wait(0)).unwrap();
    settle().await;
    let mut drain = task::spawn(pool.drain(Duration::from_secs(5)));
    assert_pending!(drain.poll());
    drop(job);
    settle().await;
    let drained = assert_ready!(drain.poll());
    assert_eq!((drained.completed, drained.cancelled, probe.in_flight()), (0, 0, 0));
    assert!(drained.is_complete());
    assert_eq!(pool.stats().cancelled, 1);
}

#[tokio::test(start_paused = true)]
async fn closing_wakes_all_who_wait_for_a_place() {
    let (_probe, pool) = pool(1, 1);
    settle().await;
    let _jobs = [
        accepted(pool.submit(Request::wait(0))).await.unwrap(),
        accepted(pool.submit(Request::wait(1))).await.unwrap(),
    ];
    settle().await;
    let mut waiting: Vec<_> =
        (0..5).map(|id| task::spawn(accepted(pool.submit(Request::ready(id))))).collect();
    waiting.iter_mut().for_each(|submit| assert!(submit.poll().is_pending()));
    pool.close();
    for submit in &mut waiting {
        assert!(submit.is_woken());
        assert!(assert_ready!(submit.poll()).is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_is_given_up_goes_on_and_can_be_taken_up_again() {
    let (probe, pool) = pool(1, 4);
    let _job = accepted(pool.submit(Request::wait(0))).await.unwrap();
    let queued = accepted(pool.submit(Request::ready(1))).await.unwrap();
    settle().await;
    let mut drain = task::spawn(Box::pin(pool.drain(Duration::from_secs(60))));
    assert_pending!(drain.poll());
    drop(drain);
    probe.release(0);
    queued.await.unwrap();
    let drained = pool.drain(Duration::from_secs(60)).await;
    assert!(drained.is_complete());
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_runs_what_is_queued_and_ends_the_workers() {
    let (probe, pool) = pool(1, 8);
    let handle = pool.handle();
    let mut outcomes = pool.run((0..3).map(Request::ready));
    drop(pool);
    let mut seen = 0;
    while let Some(outcome) = outcomes.next().await {
        assert_eq!(outcome.status, Status::Success);
        seen += 1;
    }
    drop(outcomes);
    settle().await;
    assert_eq!((seen, probe.calls()), (3, 3));
    assert_eq!(handle.stats().workers, 0);
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_weak_handle_keeps_nothing_of_the_pool() {
    let alive = Arc::new(());
    let token = Arc::clone(&alive);
    let service = service_fn(move |()| {
        let _token = Arc::clone(&token);
        async { Ok::<_, Refusal>(()) }
    });
    let pool = Pool::builder().workers(2).build(service);
    let weak = pool.handle().downgrade();
    pool.submit(()).await.unwrap();
    assert_eq!(weak.clone().upgrade().map(|handle| handle.stats().succeeded), Some(1));
    drop(pool);
    settle().await;
    assert!(weak.upgrade().is_none());
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[test]
fn a_runtime_that_is_shut_down_answers_who_waits() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (mut running, mut queued, pool) = runtime.block_on(async {
        let (_, pool) = pool(1, 4);
        let running = task::spawn(accepted(pool.submit(Request::wait(0))).await.unwrap());
        let queued = task::spawn(accepted(pool.submit(Request::wait(1))).await.unwrap());
        settle().await;
        (running, queued, pool)
    });
    assert_pending!(running.poll());
    assert_pending!(queued.poll());
    drop(runtime);
    assert_eq!(reason(assert_ready!(running.poll())), Reason::Cancelled);
    assert_eq!(reason(assert_ready!(queued.poll())), Reason::PoolClosed);
    balanced(&pool.stats());
}

#[test]
#[should_panic(expected = "a pool is built inside a tokio runtime")]
fn outside_a_runtime_it_says_so() {
    pool(1, 1);
}

#[tokio::test(start_paused = true)]
async fn run_reports_every_request_once_in_the_order_of_completion() {
    let pool = Pool::builder().workers(3).queue(2).measure().build(service_fn(async |n: u64| {
        sleep(MS * (30 - n as u32)).await;
        if n.is_multiple_of(5) { Err(Error::Service("fifth")) } else { Ok(n) }
    }));
    let mut outcomes = pool.run(0..30u64);
    let mut seen: Vec<Outcome<_, _, _>> = Vec::new();
    while let Some(outcome) = outcomes.next().await {
        seen.push(outcome);
    }
    assert_eq!(seen[..3].iter().map(|outcome| outcome.id).collect::<Vec<_>>(), [2, 1, 0]);
    seen.sort_by_key(|outcome| outcome.id);
    for (id, outcome) in seen.iter().enumerate() {
        let id = id as u64;
        assert_eq!(outcome.id, id);
        let failed = id.is_multiple_of(5);
        assert_eq!(outcome.status, if failed { Status::Failed } else { Status::Success });
        assert_eq!(outcome.result.is_err(), failed);
        assert!(outcome.ran_for.unwrap() >= MS * (30 - id as u32));
        assert!(outcome.queued_for.is_some() && outcome.worker.is_some());
        assert_eq!(outcome.attempts, 1);
    }
    let stats = pool.stats();
    assert_eq!((stats.succeeded, stats.failed), (24, 6));
    let run_time = stats.run_time.unwrap();
    assert_eq!(run_time.count, 30);
    assert!(run_time.max >= 30 * MS && run_time.p50 >= 14 * MS);
    balanced(&stats);
}

#[tokio::test(start_paused = true)]
async fn run_takes_requests_only_as_there_is_room() {
    let (probe, pool) = pool(1, 2);
    let taken = Arc::new(AtomicU32::new(0));
    let counted = (0..1_000).map({
        let taken = taken.clone();
        move |id| {
            taken.fetch_add(1, SeqCst);
            Request::wait(id)
        }
    });
    let mut outcomes = pool.run(counted);
    let mut next = task::spawn(Box::pin(outcomes.next()));
    for _ in 0..5 {
        assert_pending!(next.poll());
        settle().await;
    }
    assert!(taken.load(SeqCst) <= 4, "{taken:?} requests were taken");
    drop(next);
    drop(outcomes);
    settle().await;
    let stats = pool.stats();
    assert_eq!((probe.in_flight(), stats.queued, stats.running), (0, 0, 0));
    assert_eq!(stats.cancelled, stats.accepted);
    balanced(&stats);
}

#[tokio::test(start_paused = true)]
async fn run_over_a_pool_that_closes_gives_the_rest_back() {
    let (probe, pool) = pool(1, 1);
    let mut outcomes = pool.run((0..10).map(Request::wait));
    let mut next = task::spawn(Box::pin(outcomes.next()));
    assert_pending!(next.poll());
    settle().await;
    drop(next);
    pool.close();
    probe.release_all();
    let mut ended = 0;
    while let Some(outcome) = outcomes.next().await {
        assert_eq!(outcome.status, Status::Success);
        ended += 1;
        probe.release_all();
    }
    let rest: Vec<u64> = outcomes.into_remaining().map(|request| request.id).collect();
    assert_eq!(rest, (ended..10).collect::<Vec<u64>>());
    assert!(ended > 0);
    balanced(&pool.stats());
}

#[tokio::test(start_paused = true)]
async fn the_deadline_goes_with_the_job_and_an_expired_job_is_never_started() {
    let pool = Pool::builder().workers(1).queue(4).build(service_fn(async |wait: Duration| {
        let seen = deadline::current();
        sleep(wait).await;
        Ok::<_, Refusal>(seen)
    }));
    settle().await;
    let until = Instant::now() + 20 * MS;
    let mut soon = Deadline::At(until);
    let first = soon.enter(|| pool.try_submit(50 * MS).unwrap());
    let second = soon.enter(|| pool.try_submit(MS).unwrap());
    assert_eq!(first.await, Ok(Some(until)));
    assert_eq!(reason(second.await), Reason::Expired);
    let late = soon.enter(|| task::spawn(pool.clone().oneshot(MS)).poll());
    assert_eq!(reason(assert_ready!(late)), Reason::Expired);
    let stats = pool.stats();
    assert_eq!((stats.expired, stats.succeeded, stats.accepted), (1, 1, 2));
    balanced(&stats);
}

#[tokio::test(start_paused = true)]
async fn a_busy_pool_lets_other_tasks_run() {
    let pool = Pool::builder()
        .workers(1)
        .queue(10_000)
        .build(service_fn(async |n: u64| Ok::<_, Refusal>(n)));
    let mut outcomes = pool.run(0..10_000u64);
    let other = tokio::spawn(async {
        let mut turns = 0;
        while turns < 10 {
            turns += 1;
            yield_now().await;
        }
        turns
    });
    let first = outcomes.next().await.unwrap();
    assert_eq!(first.id, 0);
    assert_eq!(other.await.unwrap(), 10);
    let meanwhile = pool.stats().succeeded;
    assert!(meanwhile < 2_000, "{meanwhile} jobs ran before another task had ten turns");
}

#[test]
fn impossible_settings_are_refused_where_they_are_written() {
    let message = |build: fn()| {
        let panic = std::panic::catch_unwind(build).unwrap_err();
        panic.downcast_ref::<String>().unwrap().clone()
    };
    assert_eq!(
        message(|| drop(Pool::<(), _, _>::builder().workers(0))),
        "PoolBuilder::workers: 0 is not allowed, it has to be from 1 to 1048576"
    );
    assert!(
        message(|| drop(Pool::<(), _, _>::builder().queue(usize::MAX)))
            .contains("18446744073709551615")
    );
}
