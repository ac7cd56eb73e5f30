//! Jobs of the in-memory backend, through a stack with layers that refuse.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]
#![cfg(feature = "apalis")]

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use apalis_core::{
    error::AbortError,
    task::{Task, builder::TaskBuilder},
    worker::{
        builder::WorkerBuilder, context::WorkerContext, event::Event,
        ext::event_listener::EventListenerExt,
    },
};
use stockade_breaker::BreakerLayer;
use stockade_core::{BoxError, Error, Reason, Rejected, deadline};
use stockade_fleet::jobs::{self, Due, JobsLayer};
use stockade_limit::LimitLayer;
use stockade_pool::Pool;
use stockade_rate::RateLayer;
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, Service, ServiceBuilder, service_fn};

const LONG: Duration = Duration::from_secs(3_600);

/// Counts the jobs that ended, and stops the worker after so many.
#[derive(Clone)]
struct Tally {
    done: Arc<Mutex<Vec<u32>>>,
    stop_after: usize,
    worker: WorkerContext,
}

impl Tally {
    fn new(stop_after: usize, worker: &WorkerContext) -> Self {
        Self { done: Arc::default(), stop_after, worker: worker.clone() }
    }

    fn count(&self, job: u32) {
        let mut done = self.done.lock().unwrap();
        done.push(job);
        if done.len() == self.stop_after {
            self.worker.stop().unwrap();
        }
    }

    fn sorted(&self) -> Vec<u32> {
        let mut done = self.done.lock().unwrap().clone();
        done.sort_unstable();
        done
    }
}

#[tokio::test(start_paused = true)]
async fn ten_jobs_through_a_stack_that_refuses_are_all_done_and_the_worker_returns() {
    let (storage, queue) = jobs::memory();
    for job in 0..10_u32 {
        queue.push(job).unwrap();
    }
    let worker = WorkerContext::new("worker");
    let tally = Tally::new(10, &worker);
    let counts = tally.clone();
    let stack = ServiceBuilder::new()
        .layer(BreakerLayer::new())
        .layer(RateLayer::per_second(1).queue(0))
        .layer(LimitLayer::new(1).queue(0))
        .service_fn(move |job: u32| {
            counts.count(job);
            async { Ok::<_, BoxError>(()) }
        });
    let service = JobsLayer::new(move |job, after| queue.requeue(job, after)).layer(stack);
    let begin = Instant::now();

    let ran = WorkerBuilder::new(&worker).backend(storage).build(service).run();
    timeout(LONG, ran).await.expect("the worker returns").unwrap();

    assert_eq!(tally.sorted(), (0..10).collect::<Vec<_>>());
    assert!(begin.elapsed() >= Duration::from_secs(9), "one a second");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_threads_that_send_jobs_back_at_once_lose_none() {
    const JOBS: u32 = 500;
    let (storage, queue) = jobs::memory();
    for job in 0..JOBS {
        queue.push(job).unwrap();
    }
    let worker = WorkerContext::new("worker");
    let tally = Tally::new(JOBS as usize, &worker);
    let counts = tally.clone();
    let refused = Arc::new(Mutex::new(std::collections::HashSet::new()));
    let stack = service_fn(move |job: u32| {
        let first = refused.lock().unwrap().insert(job);
        if first {
            let no = Rejected::new(&"rate", Reason::RateLimited);
            let no = no.with_retry_after(Duration::from_millis(1));
            return std::future::ready(Err(no.into_error()));
        }
        counts.count(job);
        std::future::ready(Ok::<_, BoxError>(()))
    });
    let pool = Pool::builder().workers(8).queue(8).build(stack);
    let service = JobsLayer::new(move |job, after| queue.requeue(job, after)).layer(pool);
    let ran = WorkerBuilder::new(&worker).backend(storage).build(service).run();
    timeout(Duration::from_secs(30), ran).await.expect("the worker returns").unwrap();
    assert_eq!(tally.sorted(), (0..JOBS).collect::<Vec<_>>());
}

/// Is not ready every other time, by an error.
#[derive(Clone)]
struct Shaky {
    asked: usize,
    tally: Tally,
}

impl Service<u32> for Shaky {
    type Response = ();
    type Error = BoxError;
    type Future = std::future::Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.asked += 1;
        Poll::Ready(if self.asked.is_multiple_of(2) { Err("not ready".into()) } else { Ok(()) })
    }

    fn call(&mut self, job: u32) -> Self::Future {
        self.tally.count(job);
        std::future::ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_readiness_is_one_jobs_and_does_not_end_the_worker() {
    let (storage, queue) = jobs::memory();
    for job in 0..10_u32 {
        queue.push(job).unwrap();
    }
    let worker = WorkerContext::new("worker");
    let tally = Tally::new(5, &worker);
    let failed = Arc::new(AtomicUsize::new(0));
    let fails = Arc::clone(&failed);
    let shaky = Shaky { asked: 0, tally: tally.clone() };
    let service = JobsLayer::new(move |job, after| queue.requeue(job, after)).layer(shaky);
    let worker = WorkerBuilder::new(&worker).backend(storage).on_event(move |_, event| {
        if let Event::Error(error) = event {
            assert_eq!(error.to_string(), "not ready");
            fails.fetch_add(1, Relaxed);
        }
    });

    timeout(LONG, worker.build(service).run()).await.expect("the worker returns").unwrap();

    assert_eq!(tally.sorted(), [0, 2, 4, 6, 8]);
    assert_eq!(failed.load(Relaxed), 4);
}

#[tokio::test(start_paused = true)]
async fn jobs_of_a_drained_pool_go_back_to_the_queue_and_another_worker_does_them() {
    let (storage, queue) = jobs::memory();
    for job in 0..10_u32 {
        queue.push(job).unwrap();
    }
    let first = WorkerContext::new("first");
    let ran = Arc::new(Mutex::new(Vec::new()));
    let runs = Arc::clone(&ran);
    let pool = Pool::builder().workers(2).queue(4).build(service_fn(move |job: u32| {
        let runs = Arc::clone(&runs);
        async move {
            sleep(Duration::from_secs(2)).await;
            runs.lock().unwrap().push(job);
            Ok::<_, BoxError>(())
        }
    }));
    // What comes back is held until the second worker is there, as a queue outside of the process does.
    let (back, mut returned) = tokio::sync::mpsc::unbounded_channel();
    let requeue = move |job: Task<u32>, after: Duration| {
        assert_eq!(after, Duration::ZERO);
        back.send(job.args).unwrap();
        std::future::ready(Ok(()))
    };
    let service = JobsLayer::new(requeue).layer(pool.clone());
    let worker = WorkerBuilder::new(&first).backend(storage).build(service);
    let running = tokio::spawn(worker.run());
    sleep(Duration::from_secs(1)).await;

    let drained = pool.drain(Duration::ZERO).await;
    first.stop().unwrap();
    timeout(LONG, running).await.expect("the worker returns").unwrap().unwrap();

    let mut unfinished = drained.unfinished;
    assert_eq!((unfinished.len(), drained.cancelled), (4, 2));
    let mut handed_back = Vec::new();
    returned.close();
    while let Some(job) = returned.recv().await {
        handed_back.push(job);
    }
    handed_back.sort_unstable();
    unfinished.sort_unstable();
    assert!(unfinished.iter().all(|job| handed_back.contains(job)), "{handed_back:?}");
    assert!(ran.lock().unwrap().is_empty());

    let (storage, queue) = jobs::memory();
    for job in &handed_back {
        queue.push(*job).unwrap();
    }
    let second = WorkerContext::new("second");
    let tally = Tally::new(handed_back.len(), &second);
    let counts = tally.clone();
    let service = service_fn(move |job: u32| {
        counts.count(job);
        std::future::ready(Ok::<_, BoxError>(()))
    });
    let service = JobsLayer::new(move |job, after| queue.requeue(job, after)).layer(service);
    let worker = WorkerBuilder::new(&second).backend(storage).build(service);
    timeout(LONG, worker.run()).await.expect("the worker returns").unwrap();
    assert_eq!(tally.sorted(), handed_back);
}

/// What one job ends as.
async fn end_of<S>(
    service: S,
    job: Task<u32>,
) -> (Result<Option<S::Response>, BoxError>, Vec<(u32, Duration)>)
where
    S: Service<u32>,
    S::Error: stockade_core::LayerError + Into<BoxError>,
{
    let back = Arc::new(Mutex::new(Vec::new()));
    let goes = Arc::clone(&back);
    let requeue = move |job: Task<u32>, after| {
        goes.lock().unwrap().push((job.args, after));
        std::future::ready(Ok(()))
    };
    let mut service = JobsLayer::new(requeue).layer(service);
    std::future::poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
    let end = service.call(job).await;
    let back = back.lock().unwrap().clone();
    (end, back)
}

fn refuses(
    reason: Reason,
    after: Option<Duration>,
) -> impl Service<u32, Response = (), Error = Error<Infallible>> {
    service_fn(move |_| {
        let no = Rejected::new(&"rate", reason);
        std::future::ready(Err(after.map_or(no, |after| no.with_retry_after(after)).into()))
    })
}

#[tokio::test(start_paused = true)]
async fn a_refusal_sends_the_job_back_for_the_time_that_it_says() {
    let after = Duration::from_secs(7);
    for reason in [
        Reason::RateLimited,
        Reason::QueueFull,
        Reason::BreakerOpen,
        Reason::WaitExceeded,
        Reason::Expired,
        Reason::Shed,
        Reason::Unavailable,
    ] {
        let (end, back) = end_of(refuses(reason, Some(after)), Task::new(1)).await;
        assert!(end.unwrap().is_none());
        assert_eq!(back, [(1, after)]);
    }
    let (end, back) = end_of(refuses(Reason::ForcedOpen, None), Task::new(1)).await;
    assert!(end.unwrap().is_none());
    assert_eq!(back, [(1, Duration::from_secs(1))]);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_the_stack_itself_refuses_is_put_off_and_spends_no_attempt() {
    let deaf = |_: u32| std::future::pending::<Result<(), Error<Infallible>>>();
    let open = BreakerLayer::new().layer(service_fn(deaf));
    let guard = open.handle().force_open();
    let empty = RateLayer::new(1, LONG).queue(0).layer(service_fn(deaf));
    empty.handle().try_take(1).expect("the first token");
    let full = LimitLayer::new(1).queue(0).layer(service_fn(deaf));
    let mut busy = full.clone();
    std::future::poll_fn(|cx| busy.poll_ready(cx)).await.expect("ready");
    let _busy = busy.call(0);
    let late = RateLayer::new(1, LONG).layer(service_fn(deaf));
    late.handle().try_take(1).expect("the first token");

    let attempts = |(args, after): (Task<u32>, Duration)| {
        let again = jobs::again(args, after);
        (again.max_attempts(), after)
    };
    let job = || TaskBuilder::new(1).attempt(1).max_attempts(2).build();
    let second = Duration::from_secs(1);
    assert_eq!(put_off(open, job()).await.map(attempts), Some((Some(2), second)));
    assert_eq!(put_off(empty, job()).await.map(attempts), Some((Some(2), LONG)));
    assert_eq!(put_off(full, job()).await.map(attempts), Some((Some(2), second)));
    drop(guard);

    let mut deadline = deadline::Deadline::after(second);
    let mut expired = std::pin::pin!(put_off(late, job()));
    let expired = std::future::poll_fn(|cx| deadline.enter(|| expired.as_mut().poll(cx))).await;
    let (left, after) = expired.map(attempts).expect("it goes back");
    assert_eq!(left, Some(2));
    assert!(after > LONG - 2 * second && after < LONG, "{after:?}");
}

/// The job as it goes back to the queue, and after what time.
async fn put_off<S>(service: S, job: Task<u32>) -> Option<(Task<u32>, Duration)>
where
    S: Service<u32>,
    S::Error: stockade_core::LayerError + Into<BoxError>,
{
    let back = Arc::new(Mutex::new(None));
    let goes = Arc::clone(&back);
    let requeue = move |job: Task<u32>, after| {
        *goes.lock().unwrap() = Some((job, after));
        std::future::ready(Ok(()))
    };
    let mut service = JobsLayer::new(requeue).layer(service);
    std::future::poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
    assert!(service.call(job).await.unwrap().is_none());
    back.lock().unwrap().take()
}

#[tokio::test(start_paused = true)]
async fn a_job_that_has_run_or_can_never_pass_does_not_go_back() {
    for reason in [Reason::Elapsed, Reason::Panicked, Reason::Cancelled] {
        let (end, back) = end_of(refuses(reason, None), Task::new(1)).await;
        assert!(end.unwrap_err().downcast_ref::<AbortError>().is_none(), "it may be tried again");
        assert!(back.is_empty());
    }
    let (end, back) = end_of(refuses(Reason::TooCostly, None), Task::new(1)).await;
    assert!(end.unwrap_err().downcast_ref::<AbortError>().is_some(), "it is never tried again");
    assert!(back.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_a_job_is_the_one_of_its_call_and_a_job_past_it_is_not_run() {
    let due = |due: Due| TaskBuilder::new(1).metadata(&due).build();
    let seen = || {
        service_fn(|_: u32| {
            let at_once = deadline::current();
            async move {
                assert_eq!(deadline::current(), at_once, "around each poll, too");
                Ok::<_, BoxError>(at_once)
            }
        })
    };
    let begin = Instant::now();
    let (end, _) = end_of(seen(), due(Due::within(Duration::from_secs(60)))).await;
    let left = end.unwrap().unwrap().expect("there is a deadline") - begin;
    assert!(left <= Duration::from_secs(60) && left > Duration::from_secs(50), "{left:?}");

    let (end, _) = end_of(seen(), Task::new(1)).await;
    assert_eq!(end.unwrap(), Some(None));

    let past = due(Due::at(SystemTime::now() - Duration::from_secs(1)));
    let (end, back) = end_of(seen(), past).await;
    let error = end.unwrap_err();
    assert!(error.to_string().contains("deadline expired"), "{error}");
    assert!(error.downcast_ref::<AbortError>().is_some() && back.is_empty());

    let soon = due(Due::within(Duration::from_secs(5)));
    let (end, back) = end_of(refuses(Reason::RateLimited, Some(LONG)), soon).await;
    assert!(
        end.unwrap_err().downcast_ref::<AbortError>().is_some(),
        "it could only come back too late"
    );
    assert!(back.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_a_call_reaches_the_jobs_that_it_pushes() {
    let mut call = deadline::Deadline::after(Duration::from_secs(30));
    let due = call.enter(Due::ambient).expect("there is one");
    assert!(due.left() <= Duration::from_secs(30) && due.left() > Duration::from_secs(20));
    assert_eq!(Due::ambient(), None);
}

#[test]
fn a_job_that_is_pushed_again_has_the_attempts_that_it_had_left() {
    let job = TaskBuilder::new(1)
        .attempt(3)
        .max_attempts(5)
        .priority(7)
        .idempotency_key("once")
        .metadata(&Due::within(LONG))
        .build();
    let before = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();

    let again = jobs::again(job, Duration::from_millis(2_500));

    // Two of five are spent; the third is the one that was refused.
    assert_eq!((again.attempt(), again.max_attempts()), (0, Some(3)));
    assert_eq!((again.priority(), again.idempotency_key()), (Some(7), None));
    assert!(again.metadata().extract_as::<Due>().is_ok());
    assert!(again.run_at().unwrap() >= before + 3);
}
