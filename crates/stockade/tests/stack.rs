//! The layers together: one error, one deadline, nothing lost.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use stockade::{
    BoxError, BreakerLayer, Error, LayerError, LimitLayer, Pool, RateLayer, Reason, RetryLayer,
    TimeoutLayer, breaker, deadline,
};
use tokio::time::{Instant, sleep};
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

type Answer<T> = Result<T, Error<&'static str>>;

const MS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn the_deadline_reaches_every_layer_and_the_pools_worker() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let client = service_fn({
        let seen = Arc::clone(&seen);
        move |()| {
            seen.lock().unwrap().push(deadline::current());
            async { Answer::Ok(()) }
        }
    });
    let pool = Pool::builder().workers(1).queue(4).build(
        ServiceBuilder::new()
            .layer(RetryLayer::max_attempts(3))
            .layer(BreakerLayer::new())
            .layer(RateLayer::per_second(100))
            .layer(LimitLayer::new(4))
            .service(client),
    );
    let svc = TimeoutLayer::new(250 * MS).layer(pool);
    let start = Instant::now();
    svc.oneshot(()).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [Some(start + 250 * MS)]);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_covers_the_wait_for_a_permit() {
    let (limit, handle) = LimitLayer::new(1).with_handle();
    let svc = ServiceBuilder::new()
        .layer(TimeoutLayer::new(50 * MS))
        .layer(limit)
        .service(service_fn(|()| std::future::pending::<Answer<()>>()));
    let first = tokio::spawn(svc.clone().oneshot(()));
    let second = tokio::spawn(svc.oneshot(()));
    for call in [first, second] {
        let reason = call.await.unwrap().unwrap_err().rejected().unwrap().reason();
        // The second one may get the permit of the first just as its own time is over.
        assert!(matches!(reason, Reason::Elapsed | Reason::Expired), "{reason}");
    }
    assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn retry_does_not_sleep_beyond_the_deadline_and_returns_the_last_real_error() {
    let calls = Arc::new(AtomicU32::new(0));
    let svc = ServiceBuilder::new()
        .layer(TimeoutLayer::new(100 * MS))
        .layer(RetryLayer::max_attempts(10).backoff(stockade::retry::Backoff::constant(60 * MS)))
        .service(service_fn({
            let calls = Arc::clone(&calls);
            move |()| {
                calls.fetch_add(1, SeqCst);
                async { Answer::<()>::Err(Error::Service("down")) }
            }
        }));
    let start = Instant::now();
    let error = svc.oneshot(()).await.unwrap_err();
    assert_eq!(error, Error::Service("down"));
    assert!(start.elapsed() < 100 * MS, "{:?}", start.elapsed());
    assert!(calls.load(SeqCst) >= 1);
}

#[tokio::test(start_paused = true)]
async fn the_order_of_the_layers_never_changes_the_error_type() {
    fn same(_: &impl Service<u32, Response = u32, Error = Error<Infallible>>) {}
    let client = service_fn(async |n: u32| Ok::<_, Error<Infallible>>(n));
    let limit = || LimitLayer::new(1);
    let rate = || RateLayer::per_second(1);
    let timeout = || TimeoutLayer::new(MS);
    same(&limit().layer(rate().layer(timeout().layer(client))));
    same(&timeout().layer(limit().layer(rate().layer(client))));
    same(&RetryLayer::max_attempts(2).layer(BreakerLayer::new().layer(limit().layer(client))));
    same(&BreakerLayer::new().layer(RetryLayer::max_attempts(2).layer(timeout().layer(client))));
}

#[tokio::test(start_paused = true)]
async fn a_stack_over_boxed_errors_needs_nothing_written() {
    let mut svc = ServiceBuilder::new()
        .layer(TimeoutLayer::new(20 * MS))
        .layer(BreakerLayer::new())
        .layer(LimitLayer::new(1))
        .service(service_fn(async |wait: Duration| {
            sleep(wait).await;
            Ok::<_, BoxError>(())
        }));
    stockade::check::<Duration>(&svc);
    svc.ready().await.unwrap().call(MS).await.unwrap();
    let error = svc.ready().await.unwrap().call(MS * 100).await.unwrap_err();
    assert_eq!(error.rejected().unwrap().layer(), "timeout");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_the_open_breaker_refuses_takes_no_token_and_no_permit() {
    let window = breaker::Window::calls(4);
    let (breaker, handle) = BreakerLayer::new().window(window).min_calls(4).with_handle();
    let (rate, rate_handle) = RateLayer::new(10, Duration::from_secs(3_600)).with_handle();
    let (limit, limit_handle) = LimitLayer::new(4).with_handle();
    let svc = ServiceBuilder::new()
        .layer(breaker.clone())
        .layer(rate)
        .layer(limit)
        .service(service_fn(async |()| Answer::<()>::Err(Error::Service("down"))));
    for _ in 0..4 {
        assert_eq!(svc.clone().oneshot(()).await, Err(Error::Service("down")));
    }
    assert_eq!(handle.state(), breaker::State::Open);
    for _ in 0..100 {
        let error = svc.clone().oneshot(()).await.unwrap_err();
        assert_eq!(error.rejected().unwrap().reason(), Reason::BreakerOpen);
    }
    assert_eq!(rate_handle.available(), 6);
    assert_eq!(limit_handle.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn every_call_ends_once_and_every_permit_comes_back() {
    let (limit, handle) = LimitLayer::new(3).queue(20).max_wait(40 * MS).with_handle();
    let breaker = BreakerLayer::new().open_for(20 * MS);
    let retry = RetryLayer::max_attempts(3).backoff(stockade::retry::Backoff::constant(5 * MS));
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(200 * MS))
        .layer(retry)
        .layer(breaker)
        .layer(RateLayer::new(5, MS).queue(30))
        .layer(limit)
        .layer(TimeoutLayer::new(30 * MS))
        .service(service_fn(async |n: u64| match n % 11 {
            0 => Answer::Err(Error::Service("no")),
            1 => {
                sleep(50 * MS).await;
                Ok(n)
            }
            2 => std::panic::resume_unwind(Box::new("as asked")),
            _ => {
                sleep(MS * (n % 7) as u32).await;
                Ok(n)
            }
        }));
    let pool = Pool::builder().workers(8).queue(16).build(stack);
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..1_000u64 {
        let pool = pool.clone();
        calls.spawn(async move {
            let mut job = pool.submit(n);
            job.accepted().await.unwrap();
            if n % 13 == 0 {
                // Goes away while the job waits or runs.
                let _ = tokio::time::timeout(MS, job).await;
                return true;
            }
            job.await.map_or(true, |answer| answer == n)
        });
    }
    assert!(calls.join_all().await.into_iter().all(|fine| fine));
    let drained = pool.drain(Duration::from_secs(60)).await;
    let stats = pool.stats();
    assert!(drained.is_complete());
    assert_eq!((stats.accepted, stats.queued, stats.running), (1_000, 0, 0));
    assert_eq!(stats.ended(), 1_000);
    assert!(stats.panicked > 0 && stats.cancelled > 0 && stats.succeeded > 0 && stats.failed > 0);
    assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn waiters_never_wake_themselves() {
    let hangs = service_fn(|()| std::future::pending::<Answer<()>>());
    let fails = service_fn(async |()| Answer::<()>::Err(Error::Service("down")));
    let limit = LimitLayer::new(1).layer(hangs);
    let rate = RateLayer::new(1, MS * 1_000).layer(fails);
    let pool = Pool::builder().workers(1).queue(0).build(hangs);
    let mut first = task::spawn(limit.clone().oneshot(()));
    assert_pending!(first.poll());
    assert!(rate.clone().oneshot(()).await.is_err());
    let running = pool.submit(());
    sleep(MS).await;

    let mut waiters: Vec<task::Spawn<Pin<Box<dyn Future<Output = _>>>>> = Vec::new();
    let mut wait =
        |call: Pin<Box<dyn Future<Output = Answer<()>>>>| waiters.push(task::spawn(call));
    for _ in 0..3 {
        wait(Box::pin(limit.clone().oneshot(())));
        wait(Box::pin(rate.clone().oneshot(())));
        wait(Box::pin(pool.clone().oneshot(())));
        wait(Box::pin(TimeoutLayer::new(MS * 1_000).layer(hangs).oneshot(())));
        wait(Box::pin(BreakerLayer::new().layer(limit.clone()).oneshot(())));
        let backoff = stockade::retry::Backoff::constant(MS * 1_000);
        wait(Box::pin(RetryLayer::max_attempts(2).backoff(backoff).layer(fails).oneshot(())));
    }
    for round in 0..10 {
        for (n, waiter) in waiters.iter_mut().enumerate() {
            assert_pending!(waiter.poll());
            assert!(
                !waiter.is_woken(),
                "waiter {n} woke itself when polled for the {round}th time"
            );
        }
        // Nothing that they wait for happens in this time.
        sleep(MS * 10).await;
        assert!(waiters.iter().all(|waiter| !waiter.is_woken()), "in round {round}");
    }
    drop((waiters, running));
}

#[tokio::test(start_paused = true)]
async fn a_name_is_handed_on_as_it_is_and_never_copied() {
    let name: &'static str = String::from("search").leak();
    let hangs = service_fn(|()| std::future::pending::<Answer<()>>());
    let refusal = |answer: Answer<()>| *answer.unwrap_err().rejected().unwrap();
    let timeout = TimeoutLayer::new(MS).name(name).layer(hangs);
    let limit = LimitLayer::new(1).queue(0).name(name);
    let rate = RateLayer::new(1, MS * 1_000).queue(0).name(name).layer(hangs);
    let (breaker, handle) = BreakerLayer::new().name(name).with_handle();
    let _guard = handle.force_open();
    let (held, token) = (limit.layer(hangs), rate.clone());
    let _held = (tokio::spawn(held.oneshot(())), tokio::spawn(token.oneshot(())));
    tokio::task::yield_now().await;
    let refusals = [
        refusal(timeout.oneshot(()).await),
        refusal(limit.layer(hangs).oneshot(()).await),
        refusal(rate.oneshot(()).await),
        refusal(breaker.layer(hangs).oneshot(()).await),
    ];
    for refusal in refusals {
        assert!(refusal.name().is_some_and(|told| std::ptr::eq(told, name)), "{refusal}");
    }
}
