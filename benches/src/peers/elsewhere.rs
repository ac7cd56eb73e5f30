//! Peers from crates other than tower, each set up as its documentation shows.

use std::{hint::black_box, io, num::NonZeroU32, sync::Arc, time::Duration};

use governor::{Quota, RateLimiter};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, SdkMeterProvider};
use seatbelt::{
    RecoveryInfo, ResilienceContext,
    breaker::{Breaker, BreakerId},
    chaos::injection::Injection,
    fallback::Fallback,
    hedging::Hedging,
    retry::Retry,
    timeout::Timeout,
};
use stockade::{Error, coalesce::SharedError};
use tick::Clock;
use tokio::{runtime::Runtime, sync::oneshot};
use tower::ServiceBuilder;
use tower_resilience_bulkhead::BulkheadLayer;
use tower_resilience_chaos::ChaosLayer;
use tower_resilience_circuitbreaker::CircuitBreakerLayer;
use tower_resilience_coalesce::CoalesceLayer;
use tower_resilience_executor::ExecutorLayer;
use tower_resilience_fallback::FallbackLayer;
use tower_resilience_hedge::HedgeLayer;
use tower_resilience_ratelimiter::RateLimiterLayer;
use tower_resilience_retry::RetryLayer;
use tower_resilience_timelimiter::TimeLimiterLayer;

use super::{LIMIT, MAX, QUEUE};
use crate::{
    drive::{ByReady, Caller, Runner, spawned, window},
    service::{AtOnce, Client, Failure, Stack, key},
    turns::Entry,
};

const VALID: &str = "the configuration is valid";
const OPEN: &str = "the channel is open";

// === tower-resilience ===

/// The bulkhead of tower-resilience.
pub fn resilience_limit(inner: impl Stack) -> impl Client + Clone {
    ServiceBuilder::new().layer(bulkhead(MAX)).service(inner)
}

/// The retry of tower-resilience.
pub fn resilience_retry(inner: impl Stack) -> impl Client + Clone {
    let retry = RetryLayer::<u64, u64, Failure>::builder().max_attempts(3).build();
    ServiceBuilder::new().layer(retry).service(inner)
}

/// The breaker of tower-resilience.
pub fn resilience_breaker(inner: impl Stack) -> impl Client + Clone {
    ServiceBuilder::new().layer(circuit_breaker()).service(inner)
}

/// The hedge of tower-resilience. The errors below it have to be `Clone`.
pub fn resilience_hedge(inner: impl Stack) -> impl Client + Clone {
    ServiceBuilder::new()
        .map_err(|_| refused())
        .layer(HedgeLayer::new(LIMIT))
        .map_err(|error: Failure| SharedError::new(error))
        .service(inner)
}

/// The fallback of tower-resilience.
pub fn resilience_fallback(inner: impl Stack) -> impl Client + Clone {
    let fallback = FallbackLayer::<u64, u64, Failure>::value(0);
    ServiceBuilder::new().map_err(|_| refused()).layer(fallback).service(inner)
}

/// The chaos of tower-resilience, which never does anything.
pub fn resilience_chaos(inner: impl Stack) -> impl Client + Clone {
    ServiceBuilder::new().layer(ChaosLayer::builder().build()).service(inner)
}

/// Coalescing by tower-resilience. Each call has a key of its own. The errors below it have to be `Clone`.
pub fn resilience_coalesce(inner: impl Stack) -> impl Client + Clone {
    ServiceBuilder::new()
        .map_err(|_| refused())
        .layer(CoalesceLayer::new(|n: &u64| *n))
        .map_err(|error: Failure| SharedError::new(error))
        .service(inner)
}

/// Five layers of tower-resilience, in our order.
pub fn resilience_five(inner: impl Stack) -> impl Client + Clone {
    let rate = RateLimiterLayer::builder().limit_for_period(1_000_000_000);
    ServiceBuilder::new()
        .layer(RetryLayer::builder().max_attempts(3).build())
        .layer(circuit_breaker())
        .layer(rate.refresh_period(Duration::from_secs(1)).build().expect(VALID))
        .layer(bulkhead(MAX))
        .layer(TimeLimiterLayer::builder().timeout_duration(LIMIT).build())
        .service(inner)
}

fn bulkhead(max: usize) -> BulkheadLayer {
    BulkheadLayer::builder().max_concurrent_calls(max).build().expect(VALID)
}

fn circuit_breaker() -> CircuitBreakerLayer {
    CircuitBreakerLayer::builder().build().expect(VALID)
}

// === seatbelt ===

type Result = std::result::Result<u64, Failure>;

/// The breaker of seatbelt. Called inside a runtime.
pub fn seatbelt_breaker(inner: impl Stack) -> impl Client + Clone {
    let context = ResilienceContext::<u64, Result>::new(Clock::new_tokio());
    let breaker = Breaker::layer("breaker", &context)
        .recovery_with(|result, _| recovery(result))
        .rejected_input_error(|_, _| refused());
    ServiceBuilder::new().layer(breaker).service(inner)
}

/// The breaker of seatbelt with one state for each key. Called inside a runtime.
pub fn seatbelt_keyed_breaker(inner: impl Stack, keys: u64) -> impl Client + Clone {
    let context = ResilienceContext::<u64, Result>::new(Clock::new_tokio());
    let breaker = Breaker::layer("breaker", &context)
        .recovery_with(|result, _| recovery(result))
        .rejected_input_error(|_, _| refused())
        .breaker_id(move |n| BreakerId::from(key(*n, keys)));
    ServiceBuilder::new().layer(breaker).service(inner)
}

/// The rate limit of governor with one bucket for each key. It is no service: only its decision is made.
pub fn governor_keyed(runtime: &Arc<Runtime>, keys: u64) -> Runner {
    let limiter = Arc::new(RateLimiter::dashmap(Quota::per_second(NonZeroU32::MAX)));
    spawned(runtime, move |calls| {
        let limiter = Arc::clone(&limiter);
        async move {
            for n in 0..calls {
                let _ = black_box(limiter.check_key(&key(black_box(n), keys)));
            }
        }
    })
}

/// The retry of seatbelt, to which no answer is good enough, with or without its metrics. Called inside a runtime.
pub fn seatbelt_attempts(inner: impl Stack, attempts: u32, counts: bool) -> impl Client + Clone {
    let context = ResilienceContext::<u64, Result>::new(Clock::new_tokio());
    // The instruments keep what they need of the provider.
    let exporter = InMemoryMetricExporter::default();
    let provider = SdkMeterProvider::builder().with_periodic_exporter(exporter).build();
    let context = if counts { context.use_metrics(&provider) } else { context };
    let retry = Retry::layer("retry", &context)
        .clone_input()
        .max_retry_attempts(attempts - 1)
        .base_delay(Duration::ZERO)
        .use_jitter(false)
        .recovery_with(|_, _| RecoveryInfo::retry());
    ServiceBuilder::new().layer(retry).service(inner)
}

/// The hedging of seatbelt. Called inside a runtime.
pub fn seatbelt_hedge(inner: impl Stack) -> impl Client + Clone {
    let context = ResilienceContext::<u64, Result>::new(Clock::new_tokio());
    let hedging = Hedging::layer("hedging", &context)
        .clone_input()
        .recovery_with(|result, _| recovery(result))
        .hedging_delay(LIMIT);
    ServiceBuilder::new().layer(hedging).service(inner)
}

/// The fallback of seatbelt. Called inside a runtime.
pub fn seatbelt_fallback(inner: impl Stack) -> impl Client + Clone {
    let context = ResilienceContext::<u64, Result>::new(Clock::new_tokio());
    let fallback = Fallback::layer("fallback", &context)
        .should_fallback(Result::is_err)
        .fallback(|_, _| Ok(0));
    ServiceBuilder::new().layer(fallback).service(inner)
}

/// The chaos of seatbelt, which never does anything. Called inside a runtime.
pub fn seatbelt_chaos(inner: impl Stack) -> impl Client + Clone {
    let context = ResilienceContext::<u64, Result>::new(Clock::new_tokio());
    let injection =
        Injection::layer("injection", &context).rate(0.0).output_with(|_, _| Err(refused()));
    ServiceBuilder::new().layer(injection).service(inner)
}

/// Retry, breaker and timeout of seatbelt. Called inside a runtime.
pub fn seatbelt_three(inner: impl Stack) -> impl Client + Clone {
    let context = ResilienceContext::<u64, Result>::new(Clock::new_tokio());
    let retry =
        Retry::layer("retry", &context).clone_input().recovery_with(|result, _| recovery(result));
    let breaker = Breaker::layer("breaker", &context)
        .recovery_with(|result, _| recovery(result))
        .rejected_input_error(|_, _| refused());
    let timeout = Timeout::layer("timeout", &context).timeout(LIMIT).timeout_error(|_| refused());
    ServiceBuilder::new().layer(retry).layer(breaker).layer(timeout).service(inner)
}

fn recovery(result: &Result) -> RecoveryInfo {
    if result.is_ok() { RecoveryInfo::never() } else { RecoveryInfo::retry() }
}

fn refused() -> Failure {
    Error::Service(io::Error::from(io::ErrorKind::TimedOut))
}

// === pools ===

/// Round trips through what could stand in the pool's place.
pub fn round_trips(outstanding: u64, workers: usize) -> [Entry; 2] {
    [
        Entry::new("tower-resilience bulkhead + executor", move |rt| {
            let layers = ServiceBuilder::new().layer(bulkhead(workers));
            let pool = layers.layer(ExecutorLayer::current()).service(AtOnce::<230>);
            window(rt, outstanding, ByReady(pool))
        }),
        Entry::new("flume + oneshot", move |rt| window(rt, outstanding, Flume::start(workers))),
    ]
}

#[derive(Clone)]
struct Flume(flume::Sender<(u64, oneshot::Sender<u64>)>);

impl Flume {
    fn start(workers: usize) -> Self {
        let (jobs, queue) = flume::bounded::<(u64, oneshot::Sender<u64>)>(QUEUE);
        for _ in 0..workers {
            let queue = queue.clone();
            tokio::spawn(async move {
                while let Ok((n, answer)) = queue.recv_async().await {
                    let _ = answer.send(black_box(n));
                }
            });
        }
        Self(jobs)
    }
}

impl Caller for Flume {
    async fn call(&mut self, n: u64) {
        let (answer, answered) = oneshot::channel();
        self.0.send_async((n, answer)).await.expect(OPEN);
        black_box(answered.await.expect(OPEN));
    }
}

/// A pipeline: jobs go through one channel to the workers, and through another one to a collector.
pub fn pipeline(runtime: &Arc<Runtime>, workers: usize) -> Runner {
    spawned(runtime, move |jobs| async move {
        let (requests, queue) = flume::bounded(QUEUE);
        let (answers, collected) = flume::bounded(QUEUE);
        for _ in 0..workers {
            let (queue, answers) = (queue.clone(), answers.clone());
            tokio::spawn(async move {
                while let Ok(n) = queue.recv_async().await {
                    answers.send_async(black_box(n)).await.expect(OPEN);
                }
            });
        }
        drop(answers);
        tokio::spawn(async move {
            for n in 0..jobs {
                requests.send_async(n).await.expect(OPEN);
            }
        });
        let mut ended: u64 = 0;
        while let Ok(n) = collected.recv_async().await {
            black_box(n);
            ended += 1;
        }
        assert_eq!(ended, jobs);
    })
}
