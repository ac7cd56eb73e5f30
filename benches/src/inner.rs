//! The services at the bottom of every stack: they do nothing, in two ways.

use std::{
    future::{self, Future},
    hint::black_box,
    io,
    pin::Pin,
    sync::OnceLock,
    task::{Context, Poll},
};

use stockade::Error;
use tokio::time::Instant;
use tower::Service;

/// The error of every stack here, ours and others.
pub type Failure = Error<io::Error>;

/// What a stack can be built on.
pub trait Inner:
    Service<u64, Response = u64, Error = Failure, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<S> Inner for S where
    S: Service<u64, Response = u64, Error = Failure, Future: Send> + Clone + Send + Sync + 'static
{
}

/// Answers at the first poll.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ready;

/// Answers at the second poll: at the first it wakes its task and is pending.
#[derive(Clone, Copy, Debug, Default)]
pub struct PendingOnce;

/// Keeps its processor busy for about ten microseconds, and then answers at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Busy;

/// The answer of [`PendingOnce`].
#[derive(Debug)]
pub struct Second {
    answer: u64,
    polled: bool,
}

// === impl Ready ===

impl Service<u64> for Ready {
    type Response = u64;
    type Error = Failure;
    type Future = future::Ready<Result<u64, Failure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        future::ready(Ok(request))
    }
}

// === impl Busy ===

impl Busy {
    /// Does the work.
    pub fn work(request: u64) -> u64 {
        static TURNS: OnceLock<u64> = OnceLock::new();
        let turns = *TURNS.get_or_init(|| {
            const TRY: u64 = 100_000;
            // The best of a few, so that whoever else is busy here does not count.
            let took = (0..20).map(|_| {
                let start = Instant::now();
                spin(TRY, request);
                start.elapsed()
            });
            let took = took.min().map_or(1.0, |took| took.as_nanos() as f64);
            (TRY as f64 * 10_000.0 / took) as u64
        });
        spin(turns, request)
    }
}

fn spin(turns: u64, seed: u64) -> u64 {
    (0..turns).fold(seed, |at, _| black_box(at.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

impl Service<u64> for Busy {
    type Response = u64;
    type Error = Failure;
    type Future = future::Ready<Result<u64, Failure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        future::ready(Ok(Self::work(request)))
    }
}

// === impl PendingOnce ===

impl Service<u64> for PendingOnce {
    type Response = u64;
    type Error = Failure;
    type Future = Second;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Second {
        Second { answer: request, polled: false }
    }
}

impl Future for Second {
    type Output = Result<u64, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if std::mem::replace(&mut self.polled, true) {
            return Poll::Ready(Ok(self.answer));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
