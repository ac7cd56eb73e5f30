//! What stands elsewhere: tower-resilience in the place of layers, channels and rayon in the place of the pool. Each is set up
//! as its documentation does, and none of them ever limits, retries or opens.

use std::{hint::black_box, sync::Arc, time::Duration};

use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use tokio::{runtime::Runtime, sync::oneshot, time::Instant};
use tower::ServiceBuilder;
use tower_resilience_bulkhead::BulkheadLayer;
use tower_resilience_circuitbreaker::CircuitBreakerLayer;
use tower_resilience_executor::ExecutorLayer;
use tower_resilience_ratelimiter::RateLimiterLayer;
use tower_resilience_retry::RetryLayer;
use tower_resilience_timelimiter::TimeLimiterLayer;

use crate::{
    drive::{ByReady, Caller, clone_each, one_handle, window},
    inner::{Failure, Inner, Ready},
    measure::Runner,
    stacks::Client,
    suite::{payload::Stack, pools::spin, turns::Entry},
};

const MAX: usize = 64;
const LIMIT: Duration = Duration::from_secs(10);
const QUEUE: usize = 1_024;
const VALID: &str = "the configuration is valid";
const OPEN: &str = "the channel is open";

// === layers ===

/// An entry for each group of layers, in their order.
pub fn layers<I: Inner + Stack<u64> + Copy>(service: I) -> [Entry; 7] {
    const NAME: &str = "tower-resilience";
    [
        Entry::new(NAME, move |rt| {
            one_handle(rt, ServiceBuilder::new().layer(bulkhead(MAX)).service(service))
        }),
        Entry::new(NAME, move |rt| {
            one_handle(rt, ServiceBuilder::new().layer(rate_limiter()).service(service))
        }),
        Entry::new(NAME, move |rt| {
            one_handle(rt, ServiceBuilder::new().layer(time_limiter()).service(service))
        }),
        Entry::new(NAME, move |rt| {
            let retry = RetryLayer::<u64, u64, Failure>::builder().max_attempts(3).build();
            one_handle(rt, ServiceBuilder::new().layer(retry).service(service))
        }),
        Entry::new(NAME, move |rt| one_handle(rt, breaker(service))),
        Entry::new(NAME, move |rt| one_handle(rt, five(service))),
        Entry::new(NAME, move |rt| clone_each(rt, five(service))),
    ]
}

/// All five of tower-resilience, in our order.
pub fn five<I: Inner + Stack<u64>>(service: I) -> impl Client + Clone {
    let retry = RetryLayer::builder().max_attempts(3).build();
    ServiceBuilder::new()
        .layer(retry)
        .layer(circuit_breaker())
        .layer(rate_limiter())
        .layer(bulkhead(MAX))
        .layer(time_limiter())
        .service(service)
}

/// The breaker of tower-resilience.
pub fn breaker<I: Inner + Stack<u64>>(service: I) -> impl Client + Clone {
    ServiceBuilder::new().layer(circuit_breaker()).service(service)
}

fn bulkhead(max: usize) -> BulkheadLayer {
    BulkheadLayer::builder().max_concurrent_calls(max).build().expect(VALID)
}

fn rate_limiter() -> RateLimiterLayer {
    let builder = RateLimiterLayer::builder().limit_for_period(1_000_000_000);
    builder.refresh_period(Duration::from_secs(1)).build().expect(VALID)
}

fn time_limiter() -> TimeLimiterLayer<tower_resilience_timelimiter::FixedTimeout> {
    TimeLimiterLayer::builder().timeout_duration(LIMIT).build()
}

fn circuit_breaker() -> CircuitBreakerLayer {
    CircuitBreakerLayer::builder().build().expect(VALID)
}

// === pools ===

/// What could stand in the pool's place for round trips.
pub fn round_trips(outstanding: u64, workers: usize) -> [Entry; 3] {
    [
        Entry::new("tower-resilience bulkhead + executor", move |rt| {
            let layers = ServiceBuilder::new().layer(bulkhead(workers));
            let pool = layers.layer(ExecutorLayer::current()).service(Ready);
            window(rt, outstanding, ByReady(pool))
        }),
        Entry::new("flume + oneshot", move |rt| window(rt, outstanding, Flume::start(workers))),
        Entry::new("async-channel + oneshot", move |rt| {
            window(rt, outstanding, Channel::start(workers))
        }),
    ]
}

type Job = (u64, oneshot::Sender<u64>);

#[derive(Clone)]
struct Flume(flume::Sender<Job>);

impl Flume {
    fn start(workers: usize) -> Self {
        let (jobs, queue) = flume::bounded::<Job>(QUEUE);
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

#[derive(Clone)]
struct Channel(async_channel::Sender<Job>);

impl Channel {
    fn start(workers: usize) -> Self {
        let (jobs, queue) = async_channel::bounded::<Job>(QUEUE);
        for _ in 0..workers {
            let queue = queue.clone();
            tokio::spawn(async move {
                while let Ok((n, answer)) = queue.recv().await {
                    let _ = answer.send(black_box(n));
                }
            });
        }
        Self(jobs)
    }
}

impl Caller for Channel {
    async fn call(&mut self, n: u64) {
        let (answer, answered) = oneshot::channel();
        self.0.send((n, answer)).await.expect(OPEN);
        black_box(answered.await.expect(OPEN));
    }
}

/// What could stand in the pool's place for many jobs and one collector.
pub fn runs(workers: usize) -> impl Iterator<Item = Entry> {
    let flume = Entry::new("flume both ways", move |rt| {
        run(rt, move |jobs| async move {
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
    });
    let channel = Entry::new("async-channel both ways", move |rt| {
        run(rt, move |jobs| async move {
            let (requests, queue) = async_channel::bounded(QUEUE);
            let (answers, collected) = async_channel::bounded(QUEUE);
            for _ in 0..workers {
                let (queue, answers) = (queue.clone(), answers.clone());
                tokio::spawn(async move {
                    while let Ok(n) = queue.recv().await {
                        answers.send(black_box(n)).await.expect(OPEN);
                    }
                });
            }
            drop(answers);
            tokio::spawn(async move {
                for n in 0..jobs {
                    requests.send(n).await.expect(OPEN);
                }
            });
            let mut ended: u64 = 0;
            while let Ok(n) = collected.recv().await {
                black_box(n);
                ended += 1;
            }
            assert_eq!(ended, jobs);
        })
    });
    [flume, channel].into_iter()
}

fn run<F: Future<Output = ()> + Send + 'static>(
    rt: &Arc<Runtime>,
    collect: impl Fn(u64) -> F + 'static,
) -> Runner {
    let rt = Arc::clone(rt);
    Box::new(move |jobs| {
        let collect = collect(jobs);
        let driver = rt.spawn(async move {
            let start = Instant::now();
            collect.await;
            start.elapsed()
        });
        rt.block_on(driver).expect("a driver does not panic")
    })
}

/// A rayon pool that computes.
pub fn rayon(threads: usize, spins: u64) -> Entry {
    Entry::new("rayon", move |_| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect(VALID);
        Box::new(move |jobs| {
            pool.install(|| {
                let start = Instant::now();
                let all = (0..jobs as usize).into_par_iter().with_max_len(1);
                all.for_each(|n| {
                    black_box(spin(spins).max(n as u64));
                });
                start.elapsed()
            })
        })
    })
}
