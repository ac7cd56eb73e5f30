//! What must not allocate does not, counted for the thread that calls. The same holds with the feature `tracing` as long
//! as nobody listens.

use std::{
    future::{Future, Pending, pending},
    hint::black_box,
    io,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use stockade::{
    BreakerLayer, Error, HedgeLayer, LayerError, LimitLayer, MeasureLayer, Pool, RateLayer, Reason,
    TimeoutLayer, deadline::Deadline,
};
use stockade_benches::{
    drive::call_often,
    kit::{self, Kit},
    service::{AtOnce, AtSecond, Client, Failure, Stack},
    tasks, turns,
};
use tower::{Layer, Service, service_fn};

const READY: AtOnce = AtOnce;
const CALLS: u64 = 1_000;

/// The answer of a future that needs no second poll.
fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("it is pending"),
    }
}

fn is_ready<S: Service<u64, Error = Failure>>(service: &mut S) {
    let ready = service.poll_ready(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(ready, Poll::Ready(Ok(()))));
}

/// The README's stack: five layers and a total timeout.
fn five() -> impl Stack {
    tasks::readme(READY)
}

/// A pool of workers that do nothing.
fn pool() -> Pool<u64, u64, Failure> {
    Pool::builder().workers(4).queue(1_024).build(READY)
}

/// Allocations of all turns, after a few that do not count.
fn allocations(mut turn: impl FnMut(u64)) -> u64 {
    let _runtime = turns::runtime(1);
    let _guard = _runtime.enter();
    (0..16).for_each(&mut turn);
    allocation_counter::measure(|| (0..CALLS).for_each(&mut turn)).count_total
}

/// Allocations of calls through one handle.
fn of_calls<S: Client>(mut service: S) -> u64 {
    allocations(|n| {
        let ready = service.poll_ready(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(ready, Poll::Ready(Ok(()))));
        assert!(matches!(now(service.call(black_box(n))), Ok(answer) if answer == n));
    })
}

/// Allocations of calls through one handle to a service that is pending once.
fn of_pending_calls<S: Client>(mut service: S) -> u64 {
    let runtime = turns::runtime(1);
    let hangs = service_fn(|_: u64| -> Pending<Result<u64, Failure>> { pending() });
    let _guard = runtime.enter();
    // The runtime's timer goes when nobody waits on it, and comes again: this one keeps it.
    let mut stays = TimeoutLayer::new(Duration::from_secs(3_600)).layer(hangs);
    is_ready(&mut stays);
    let mut stays = pin!(stays.call(0));
    assert!(stays.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let mut calls = |calls| runtime.block_on(call_often(&mut service, calls));
    calls(16);
    allocation_counter::measure(|| calls(CALLS)).count_total
}

/// Allocations of calls that are refused for `reason`.
fn of_refusals<S>(mut service: S, reason: Reason) -> u64
where
    S: Service<u64, Response = u64, Error = Failure>,
{
    allocations(|n| {
        is_ready(&mut service);
        let answer = now(service.call(n));
        let rejected = answer.as_ref().err().and_then(LayerError::rejected);
        assert_eq!(rejected.map(|rejected| rejected.reason()), Some(reason));
    })
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|n| drop(black_box(Box::new(n)))), CALLS);
}

#[test]
fn no_layer_allocates_for_a_call_that_passes() {
    let Kit { limit, rate, timeout, retry, breaker, .. } = Kit::passing();
    assert_eq!(of_calls(limit.layer(READY)), 0, "limit");
    assert_eq!(of_calls(rate.layer(READY)), 0, "rate");
    assert_eq!(of_calls(timeout.layer(READY)), 0, "timeout");
    assert_eq!(of_calls(retry.layer(READY)), 0, "retry");
    assert_eq!(of_calls(breaker.layer(READY)), 0, "breaker");
}

#[test]
fn nothing_is_allocated_where_nothing_is_hedged_made_up_or_shared() {
    let Kit { hedge, fallback, chaos, .. } = Kit::passing();
    let percentile = HedgeLayer::percentile(0.95);
    assert_eq!(of_calls(percentile.layer(READY)), 0, "hedge by percentile");
    assert_eq!(of_calls(hedge.layer(READY)), 0, "hedge");
    assert_eq!(of_calls(fallback.layer(READY)), 0, "fallback");
    assert_eq!(of_calls(chaos.layer(READY)), 0, "chaos");
    assert_eq!(of_calls(kit::unshared(READY)), 0, "coalesce");

    const PENDING: AtSecond = AtSecond;
    assert_eq!(of_pending_calls(hedge.layer(PENDING)), 0, "hedge, pending");
    assert_eq!(of_pending_calls(fallback.layer(PENDING)), 0, "fallback, pending");
    assert_eq!(of_pending_calls(chaos.layer(PENDING)), 0, "chaos, pending");
    assert_eq!(of_pending_calls(kit::unshared(PENDING)), 0, "coalesce, pending");
}

#[test]
fn a_measured_call_allocates_nothing() {
    assert_eq!(of_calls(MeasureLayer::new().layer(READY)), 0, "ready");
    assert_eq!(of_pending_calls(MeasureLayer::new().layer(AtSecond::<255>)), 0, "pending");
}

#[test]
fn five_layers_allocate_nothing_for_a_call_that_passes() {
    assert_eq!(of_calls(five()), 0);
}

#[test]
fn five_layers_allocate_nothing_for_a_clone_that_is_called_once() {
    let service = five();
    let count = allocations(|n| {
        let mut once = service.clone();
        let ready = once.poll_ready(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(ready, Poll::Ready(Ok(()))));
        assert_eq!(now(once.call(black_box(n))).unwrap(), n);
    });
    assert_eq!(count, 0);
}

#[test]
fn a_full_limit_allocates_nothing_to_refuse() {
    let hangs = service_fn(|_: u64| -> Pending<Result<u64, Failure>> { pending() });
    let mut service = LimitLayer::new(1).queue(0).layer(hangs);
    is_ready(&mut service);
    let _in_flight = service.call(0);
    assert_eq!(of_refusals(service, Reason::QueueFull), 0);
}

#[test]
fn an_empty_bucket_allocates_nothing_to_refuse() {
    let layer = RateLayer::new(1, Duration::from_secs(3_600)).queue(0);
    let mut service = layer.layer(READY);
    is_ready(&mut service);
    assert_eq!(now(service.call(1)).unwrap(), 1);
    assert_eq!(of_refusals(service, Reason::RateLimited), 0);
}

#[test]
fn an_open_breaker_allocates_nothing_to_refuse() {
    let fails = service_fn(async |_: u64| {
        Err::<u64, _>(Error::Service(io::Error::from(io::ErrorKind::BrokenPipe)))
    });
    let mut service = BreakerLayer::new().consecutive(1).layer(fails);
    is_ready(&mut service);
    assert!(now(service.call(1)).is_err());
    assert_eq!(of_refusals(service, Reason::BreakerOpen), 0);
}

#[test]
fn a_forced_open_breaker_allocates_nothing_to_refuse() {
    let (layer, handle) = BreakerLayer::new().with_handle();
    let _forced = handle.force_open();
    assert_eq!(of_refusals(layer.layer(READY), Reason::ForcedOpen), 0);
}

#[test]
fn a_full_queue_allocates_nothing_to_refuse() {
    let hangs = service_fn(|_: u64| -> Pending<Result<u64, Failure>> { pending() });
    let mut service = LimitLayer::new(1).queue(1).layer(hangs);
    is_ready(&mut service);
    let _in_flight = service.call(0);
    let runtime = turns::runtime(1);
    let _guard = runtime.enter();
    is_ready(&mut service);
    let mut waits = Box::pin(service.call(1));
    assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(_guard);
    assert_eq!(of_refusals(service, Reason::QueueFull), 0, "limit");

    let layer = RateLayer::new(1, Duration::from_secs(3_600)).queue(1);
    let mut service = layer.layer(READY);
    is_ready(&mut service);
    assert_eq!(now(service.call(1)).unwrap(), 1);
    let _guard = runtime.enter();
    is_ready(&mut service);
    let mut waits = Box::pin(service.call(1));
    assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(_guard);
    assert_eq!(of_refusals(service, Reason::QueueFull), 0, "rate");
}

#[test]
fn a_call_that_cannot_pass_in_time_or_at_all_allocates_nothing_to_be_refused() {
    let hour = Duration::from_secs(3_600);
    let mut late = RateLayer::new(1, hour).max_wait(Duration::from_secs(1)).layer(READY);
    is_ready(&mut late);
    assert_eq!(now(late.call(1)).unwrap(), 1);
    assert_eq!(of_refusals(late, Reason::WaitExceeded), 0);
    let costly = RateLayer::new(1, hour).cost(|_: &u64| 2).layer(READY);
    assert_eq!(of_refusals(costly, Reason::TooCostly), 0);
}

#[test]
fn a_call_whose_deadline_has_passed_allocates_nothing_to_be_refused() {
    /// Calls and polls under a deadline that has passed.
    fn expire<S>(mut service: S) -> u64
    where
        S: Service<u64, Response = u64, Error = Failure>,
    {
        allocations(|n| {
            is_ready(&mut service);
            let answer = Deadline::after(Duration::ZERO).enter(|| now(service.call(n)));
            let rejected = answer.as_ref().err().and_then(LayerError::rejected);
            assert_eq!(rejected.map(|rejected| rejected.reason()), Some(Reason::Expired));
        })
    }

    let hangs = service_fn(|_: u64| -> Pending<Result<u64, Failure>> { pending() });
    let mut limit = LimitLayer::new(1).layer(hangs);
    is_ready(&mut limit);
    let _in_flight = limit.call(0);
    assert_eq!(expire(limit), 0, "limit");
    let mut rate = RateLayer::new(1, Duration::from_secs(3_600)).layer(READY);
    is_ready(&mut rate);
    assert_eq!(now(rate.call(1)).unwrap(), 1);
    assert_eq!(expire(rate), 0, "rate");
}

#[test]
fn a_call_that_takes_too_long_allocates_nothing_to_be_ended() {
    let runtime = turns::runtime(1);
    let hangs = service_fn(|_: u64| -> Pending<Result<u64, Failure>> { pending() });
    let mut service = TimeoutLayer::new(Duration::from_millis(1)).layer(hangs);
    let _guard = runtime.enter();
    // The timer goes when nobody waits on it, and comes again: this one keeps it.
    let mut stays = TimeoutLayer::new(Duration::from_secs(3_600)).layer(hangs);
    is_ready(&mut stays);
    let mut stays = pin!(stays.call(0));
    assert!(stays.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let mut end = |calls: u64| {
        runtime.block_on(async {
            for n in 0..calls {
                is_ready(&mut service);
                let error = service.call(n).await.expect_err("it hangs");
                let rejected = error.rejected().map(|rejected| rejected.reason());
                assert_eq!(rejected, Some(Reason::Elapsed));
            }
        });
    };
    end(8);
    assert_eq!(allocation_counter::measure(|| end(32)).count_total, 0);
}

#[test]
fn a_full_pool_allocates_nothing_to_refuse() {
    let hangs = service_fn(|_: u64| -> Pending<Result<u64, Failure>> { pending() });
    let runtime = turns::runtime(1);
    let _guard = runtime.enter();
    let mut pool = Pool::builder().workers(1).queue(1).build(hangs);
    // One runs and one is queued.
    let _jobs = [pool.submit(0), pool.submit(1)];
    while pool.stats().running == 0 {
        runtime.block_on(tokio::task::yield_now());
    }
    let refused = allocation_counter::measure(|| {
        for n in 0..CALLS {
            let refused = pool.try_submit(n).map_err(|refused| refused.request);
            assert!(matches!(refused, Err(request) if request == n));
        }
    });
    assert_eq!(refused.count_total, 0, "try_submit");
    assert_eq!(allocations(|n| drop(now(pool.call(n)).expect_err("it is full"))), 0, "call");
}

#[test]
fn a_job_of_the_pool_allocates_nothing() {
    let runtime = turns::runtime(1);
    let _guard = runtime.enter();
    let mut pool = pool();
    let mut jobs = |calls| {
        runtime.block_on(async {
            for n in 0..calls {
                let ready = std::future::poll_fn(|cx| pool.poll_ready(cx)).await;
                assert!(ready.is_ok());
                assert_eq!(pool.call(n).await.unwrap(), n);
                assert_eq!(pool.submit(n).await.unwrap(), n);
            }
        });
    };
    jobs(16);
    let measured = allocation_counter::measure(|| jobs(CALLS));
    assert_eq!(measured.count_total, 0);
}

#[test]
fn running_many_jobs_allocates_none_a_job() {
    const JOBS: u64 = 10_000;
    let runtime = turns::runtime(1);
    let _guard = runtime.enter();
    let pool = pool();
    let run = |jobs| {
        runtime.block_on(async {
            let mut outcomes = pool.run(0..jobs);
            let mut ended = 0;
            while let Some(outcome) = outcomes.next().await {
                ended += u64::from(outcome.result.is_ok());
            }
            assert_eq!(ended, jobs);
        });
    };
    run(16);
    let measured = allocation_counter::measure(|| run(JOBS));
    assert!(measured.count_total < 100, "{} for {JOBS} jobs", measured.count_total);
}

#[test]
fn a_hundred_thousand_queued_jobs_of_64_bytes_stay_under_33_megabytes() {
    const JOBS: usize = 100_000;
    let runtime = turns::runtime(1);
    let _guard = runtime.enter();
    let service = service_fn(async |_: [u8; 64]| Ok::<_, Failure>(()));
    let mut pool = None;
    let mut jobs = Vec::new();
    let measured = allocation_counter::measure(|| {
        let pool = pool.insert(Pool::builder().workers(4).queue(JOBS).build(service));
        jobs.extend((0..JOBS).map(|_| pool.try_submit([1; 64]).expect("there is room")));
    });
    assert_eq!(pool.map(|pool| pool.stats().queued), Some(JOBS));
    assert!(measured.bytes_max < 33 << 20, "{} bytes", measured.bytes_max);
    drop(jobs);
}
