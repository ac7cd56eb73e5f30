//! The service that a load is sent to: it runs so many calls at once, the others wait their turn, and it is not
//! always well.

use std::{
    collections::HashMap,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use stockade::Error;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, sleep_until},
};
use tower::Service;

use crate::{
    arrivals::Times,
    service::{Failure, Source},
};

/// The calls that the service runs at once.
pub const PLACES: usize = 32;

/// How the service is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Health {
    /// It answers in its usual time.
    Well,
    /// This part of the calls fails, in a tenth of its usual time.
    Failing(f64),
    /// Nothing ends before this time.
    Stalled(Duration),
    /// It takes so many times as long.
    Slow(f64),
}

/// A service whose clones are one.
#[derive(Clone, Debug)]
pub struct Server(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    places: Semaphore,
    times: Times,
    health: fn(Duration) -> Health,
    start: Instant,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    attempts: HashMap<u64, u32>,
    /// When each attempt came.
    arrived: Vec<Duration>,
}

const NO_PANIC: &str = "nothing panics under this lock";

// === impl Server ===

impl Server {
    /// Its time starts now; `health` is told how long ago that was.
    pub fn new(times: Times, health: fn(Duration) -> Health) -> Self {
        Self(Arc::new(Shared {
            places: Semaphore::new(PLACES),
            times,
            health,
            start: Instant::now(),
            seen: Mutex::default(),
        }))
    }

    /// When each attempt came, in order.
    pub fn attempts(&self) -> Vec<Duration> {
        self.0.seen.lock().expect(NO_PANIC).arrived.clone()
    }

    /// How many calls a second it can answer.
    pub fn capacity(mean: Duration) -> f64 {
        PLACES as f64 / mean.as_secs_f64()
    }
}

impl Shared {
    fn arrive(&self, request: u64) -> u32 {
        let mut seen = self.seen.lock().expect(NO_PANIC);
        seen.arrived.push(self.start.elapsed());
        let attempt = seen.attempts.entry(request).or_default();
        *attempt += 1;
        *attempt
    }

    async fn answer(&self, request: u64) -> Result<u64, Failure> {
        let attempt = self.arrive(request);
        let _place = self.places.acquire().await.expect("it is never closed");
        let time = self.times.of(request, attempt);
        match (self.health)(self.start.elapsed()) {
            Health::Well => sleep(time).await,
            Health::Slow(factor) => sleep(time.mul_f64(factor)).await,
            Health::Stalled(until) => {
                sleep_until(self.start + until).await;
                sleep(time).await;
            }
            Health::Failing(part) => {
                let seed = self.times.seed ^ request << 8 ^ u64::from(attempt);
                if fastrand::Rng::with_seed(seed).f64() < part {
                    sleep(time / 10).await;
                    return Err(Error::Service(io::Error::from(io::ErrorKind::ConnectionReset)));
                }
                sleep(time).await;
            }
        }
        Ok(request)
    }
}

impl Source for Server {
    type Of<const STACK: u8> = Self;

    fn of<const STACK: u8>(&self) -> Self {
        self.clone()
    }
}

impl Service<u64> for Server {
    type Response = u64;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<u64, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { shared.answer(request).await })
    }
}
