//! What the order of the layers does: each test runs a wrong order beside the right one. The paragraphs of
//! `stockade::order` say the same in words.

use std::{
    future::{Future, pending},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use stockade::{
    BreakerLayer, Error, LayerError, LimitLayer, Pool, RateLayer, Reason, RetryLayer, TimeoutLayer,
    breaker::{State, Window},
    retry::{Backoff, Budget},
};
use stockade_core::Configured;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tower::{
    Service, ServiceBuilder, ServiceExt,
    layer::util::{Identity, Stack},
    service_fn,
};

type Answer = Result<(), Error<&'static str>>;

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);

const DOWN: Answer = Err(Error::Service("down"));

/// Three attempts, 100 ms apart.
fn retry() -> RetryLayer {
    RetryLayer::max_attempts(3).backoff(Backoff::constant(MS * 100)).budget(Budget::unlimited())
}

fn attempt_timeout() -> TimeoutLayer {
    TimeoutLayer::new(MS * 100)
}

/// Under a deadline that comes before an open breaker closes.
fn total() -> ServiceBuilder<Stack<TimeoutLayer, Identity>> {
    ServiceBuilder::new().layer(TimeoutLayer::new(MS * 1_000))
}

/// Opens at four calls of which two failed.
fn breaker() -> BreakerLayer {
    BreakerLayer::new().window(Window::calls(4)).min_calls(4)
}

/// A client, and how often it was called.
fn client<F>(
    answer: impl Fn(u32) -> F + Clone,
) -> (
    impl Service<(), Response = (), Error = Error<&'static str>, Future = F> + Clone,
    Arc<AtomicU32>,
)
where
    F: Future<Output = Answer>,
{
    let calls = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&calls);
    (service_fn(move |()| answer(count.fetch_add(1, SeqCst))), calls)
}

async fn hangs(_: u32) -> Answer {
    pending().await
}

async fn fails(_: u32) -> Answer {
    DOWN
}

async fn takes_20_ms(_: u32) -> Answer {
    sleep(MS * 20).await;
    Ok(())
}

/// Makes `n` calls at once, as tasks that stay with the caller.
fn calls<S>(n: usize, service: &S) -> JoinSet<Answer>
where
    S: Service<(), Response = (), Error = Error<&'static str>> + Clone + Send + 'static,
    S::Future: Send,
{
    (0..n).map(|_| service.clone().oneshot(())).collect()
}

/// Why a layer refused the call, if one did.
fn refused(answer: &Answer) -> Option<Reason> {
    Some(answer.as_ref().err()?.rejected()?.reason())
}

#[tokio::test(start_paused = true)]
async fn a_timeout_inside_of_retry_only_bounds_no_call() {
    let inside = ServiceBuilder::new().layer(retry()).layer(attempt_timeout());
    let start = Instant::now();
    let answer = inside.service(client(hangs).0).oneshot(()).await;
    assert_eq!(refused(&answer), Some(Reason::Elapsed));
    assert!(start.elapsed() >= MS * 500, "three attempts and two waits");

    let both = ServiceBuilder::new().layer(TimeoutLayer::new(MS * 250)).layer(retry());
    let start = Instant::now();
    let answer = both.layer(attempt_timeout()).service(client(hangs).0).oneshot(()).await;
    assert_eq!(refused(&answer), Some(Reason::Elapsed));
    assert!(start.elapsed() <= MS * 252);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_outside_of_retry_only_lets_one_hanging_attempt_use_all_the_time() {
    let first_hangs = async |n| if n == 0 { pending().await } else { Ok(()) };
    let outside = ServiceBuilder::new().layer(TimeoutLayer::new(MS * 1_000)).layer(retry());
    let (once, calls) = client(first_hangs);
    let answer = outside.clone().service(once).oneshot(()).await;
    assert_eq!(refused(&answer), Some(Reason::Elapsed));
    assert_eq!(calls.load(SeqCst), 1);

    let both = outside.layer(attempt_timeout()).service(client(first_hangs).0);
    assert_eq!(both.oneshot(()).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn with_the_limit_outside_of_retry_a_call_that_sleeps_keeps_its_place() {
    let first_fails = async |n| if n == 0 { DOWN } else { Ok(()) };
    let outside = ServiceBuilder::new()
        .layer(LimitLayer::new(1))
        .layer(retry())
        .service(client(first_fails).0);
    let right = ServiceBuilder::new()
        .layer(retry())
        .layer(LimitLayer::new(1))
        .service(client(first_fails).0);

    let sleeping = calls(1, &outside);
    sleep(MS).await;
    let start = Instant::now();
    assert_eq!(outside.oneshot(()).await, Ok(()));
    assert!(start.elapsed() >= MS * 99, "it waited for nobody");
    drop(sleeping);

    let _sleeping = calls(1, &right);
    sleep(MS).await;
    let start = Instant::now();
    assert_eq!(right.oneshot(()).await, Ok(()));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn with_the_rate_outside_of_retry_the_server_sees_more_than_the_rate() {
    let (wrong, sent_wrong) = client(fails);
    let (right, sent_right) = client(fails);
    let five = || RateLayer::new(5, HOUR);
    let outside = ServiceBuilder::new().layer(five()).layer(retry()).service(wrong);
    let right = ServiceBuilder::new().layer(retry()).layer(five()).service(right);
    let _all = (calls(5, &outside), calls(5, &right));
    sleep(HOUR / 10).await;
    assert_eq!(sent_wrong.load(SeqCst), 15);
    assert_eq!(sent_right.load(SeqCst), 5);
}

#[tokio::test(start_paused = true)]
async fn with_the_breaker_outside_of_retry_it_opens_late() {
    let ((wrong, sent_wrong), (right, sent_right)) = (client(fails), client(fails));
    let outside = total().layer(breaker()).layer(retry()).service(wrong);
    let right = total().layer(retry()).layer(breaker()).service(right);
    for _ in 0..4 {
        assert_eq!(outside.clone().oneshot(()).await, DOWN);
    }
    for _ in 0..4 {
        assert!(right.clone().oneshot(()).await.is_err());
    }
    assert_eq!(sent_wrong.load(SeqCst), 12);
    assert_eq!(sent_right.load(SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn with_the_breaker_outside_of_retry_attempts_that_failed_look_healthy() {
    let every_second_fails = async |n: u32| if n.is_multiple_of(2) { DOWN } else { Ok(()) };
    let (wrong, of_wrong) = breaker().with_handle();
    let (right, of_right) = breaker().with_handle();
    let outside = total().layer(wrong).layer(retry()).service(client(every_second_fails).0);
    let inside = total().layer(retry()).layer(right).service(client(every_second_fails).0);
    for _ in 0..4 {
        assert_eq!(outside.clone().oneshot(()).await, Ok(()));
        let _ = inside.clone().oneshot(()).await;
    }
    assert_eq!(of_wrong.state(), State::Closed);
    assert_eq!(of_right.snapshot().opened, 1);
}

#[tokio::test(start_paused = true)]
async fn with_the_rate_outside_of_the_breaker_refused_calls_take_tokens() {
    let [(wrong, of_wrong), (right, of_right)] =
        [(); 2].map(|()| RateLayer::new(20, HOUR).with_handle());
    let outside = ServiceBuilder::new().layer(wrong).layer(breaker()).service(client(fails).0);
    let inside = ServiceBuilder::new().layer(breaker()).layer(right).service(client(fails).0);
    for _ in 0..10 {
        assert!(outside.clone().oneshot(()).await.is_err());
        assert!(inside.clone().oneshot(()).await.is_err());
    }
    assert_eq!(of_wrong.available(), 10);
    assert_eq!(of_right.available(), 16, "only the four that opened it");
}

#[tokio::test(start_paused = true)]
async fn with_the_limit_outside_of_the_rate_who_waits_for_a_token_holds_a_place() {
    let limits = [LimitLayer::new(4), LimitLayer::new(4)].map(LimitLayer::with_handle);
    let one = || RateLayer::new(1, HOUR);
    let [(wrong, outer), (right, inner)] = limits;
    let outside = ServiceBuilder::new().layer(wrong).layer(one()).service(client(takes_20_ms).0);
    let inside = ServiceBuilder::new().layer(one()).layer(right).service(client(takes_20_ms).0);
    let _all = (calls(10, &outside), calls(10, &inside));
    sleep(MS * 100).await;
    assert_eq!([outer.in_flight(), inner.in_flight()], [4, 0], "and none of them runs");
}

#[tokio::test(start_paused = true)]
async fn with_the_attempt_timeout_outside_of_the_limit_ones_own_queue_opens_the_breaker() {
    let (wrong, of_wrong) = breaker().with_handle();
    let (right, of_right) = breaker().with_handle();
    let outside = ServiceBuilder::new()
        .layer(wrong)
        .layer(attempt_timeout())
        .layer(LimitLayer::new(1))
        .service(client(takes_20_ms).0);
    let inside = ServiceBuilder::new()
        .layer(right)
        .layer(LimitLayer::new(1))
        .layer(attempt_timeout())
        .service(client(takes_20_ms).0);
    // Four times as many calls as can run.
    let mut answers = JoinSet::new();
    for _ in 0..60 {
        answers.spawn(outside.clone().oneshot(()));
        sleep(MS * 5).await;
    }
    let answers = answers.join_all().await;
    assert!(answers.iter().filter(|answer| refused(answer) == Some(Reason::Elapsed)).count() > 2);
    assert_eq!(of_wrong.state(), State::Open, "although no call has failed");

    let answers = calls(20, &inside).join_all().await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(of_right.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn with_backpressure_inside_of_retry_idle_workers_of_a_pool_hold_the_places_that_a_retry_needs()
 {
    let first_fails = async |n| if n == 0 { DOWN } else { Ok(()) };
    let job = MS * 1_000;
    let stack = |limit: Configured<LimitLayer>| {
        let stack = ServiceBuilder::new().layer(retry()).layer(limit.backpressure());
        Pool::builder().workers(3).queue(8).build(stack.service(client(first_fails).0))
    };
    let (limit, places) = LimitLayer::new(2).with_handle();
    let wrong = stack(limit);
    let stuck = tokio::spawn(wrong.clone().oneshot(()));
    sleep(job).await;
    assert_eq!((places.in_flight(), stuck.is_finished()), (2, false), "and none runs");
    // A job takes a place from an idle worker, and leaves it to the retry when it ends.
    assert_eq!(wrong.clone().oneshot(()).await, Ok(()));
    assert_eq!(tokio::time::timeout(job, stuck).await.map(Result::ok), Ok(Some(Ok(()))));

    let start = Instant::now();
    assert_eq!(stack(LimitLayer::new(3).with_handle().0).oneshot(()).await, Ok(()));
    assert_eq!(start.elapsed(), MS * 100);
}

#[tokio::test(start_paused = true)]
async fn with_the_pool_inside_of_retry_a_further_attempt_stands_at_the_end_of_the_queue() {
    let log = || Arc::new(Mutex::new(Vec::new()));
    let first_fails = |log: &Arc<Mutex<Vec<u32>>>| {
        let log = Arc::clone(log);
        service_fn(move |n: u32| {
            let mut log = log.lock().unwrap();
            let repeated = log.contains(&n);
            log.push(n);
            async move { if n == 1 && !repeated { Err(Error::Service("once")) } else { Ok(n) } }
        })
    };
    let retry = || RetryLayer::max_attempts(2).backoff(Backoff::none());
    let (wrong, right) = (log(), log());

    let pool = Pool::builder().workers(1).queue(8).build(first_fails(&wrong));
    let outside = ServiceBuilder::new().layer(retry()).service(pool);
    let all: JoinSet<_> = (1..=3).map(|n| outside.clone().oneshot(n)).collect();
    assert!(all.join_all().await.iter().all(Result::is_ok));
    assert_eq!(*wrong.lock().unwrap(), [1, 2, 3, 1]);

    let stack = ServiceBuilder::new().layer(retry()).service(first_fails(&right));
    let pool = Pool::builder().workers(1).queue(8).build(stack);
    let all: JoinSet<_> = (1..=3).map(|n| pool.clone().oneshot(n)).collect();
    assert!(all.join_all().await.iter().all(Result::is_ok));
    assert_eq!(*right.lock().unwrap(), [1, 1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn without_max_elapsed_a_probe_with_no_time_left_opens_the_breaker_again() {
    let down_once = async |n| {
        if n == 0 {
            return DOWN;
        }
        sleep(MS * 300).await;
        Ok(())
    };
    // It is open for 792 ms at least, whatever the jitter.
    let breaker = || BreakerLayer::new().consecutive(1).open_for(MS * 990);

    let patient = || retry().retry_refusals(MS * 2_000);
    let late = total().layer(patient()).layer(breaker());
    let late = late.service(client(down_once).0);
    assert_eq!(refused(&late.clone().oneshot(()).await), Some(Reason::Elapsed));
    assert_eq!(refused(&late.oneshot(()).await), Some(Reason::BreakerOpen), "opened by the probe");

    let in_time = total().layer(patient().max_elapsed(MS * 700)).layer(breaker());
    let in_time = in_time.service(client(down_once).0);
    assert_eq!(in_time.clone().oneshot(()).await, DOWN);
    sleep(MS * 1_000).await;
    assert_eq!(in_time.oneshot(()).await, Ok(()));
}
