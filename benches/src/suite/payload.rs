//! What the measured calls carry, and the services that answer them: at once, or at the second poll.

use std::{
    fmt::Debug,
    future,
    task::{Context, Poll},
};

use tower::Service;

use crate::inner::{Failure, Second};

/// A request.
pub trait Payload: Clone + Debug + Send + Sync + 'static {
    /// The request of this number.
    fn make(n: u64) -> Self;
    /// Its number.
    fn number(&self) -> u64;
}

/// A request of 1 KiB, which is moved by value.
pub type Large = [u64; 128];

/// What a driver can call.
pub trait Stack<R>:
    Service<R, Response = u64, Error = Failure, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<R, S> Stack<R> for S where
    S: Service<R, Response = u64, Error = Failure, Future: Send> + Clone + Send + Sync + 'static
{
}

/// Answers at the first poll.
#[derive(Clone, Copy, Debug)]
pub struct AtOnce;

/// Answers at the second poll: at the first it wakes its task and is pending.
#[derive(Clone, Copy, Debug)]
pub struct AtSecond;

// === impl Payload ===

impl Payload for u64 {
    fn make(n: u64) -> Self {
        n
    }

    fn number(&self) -> u64 {
        *self
    }
}

impl Payload for Large {
    fn make(n: u64) -> Self {
        [n; 128]
    }

    fn number(&self) -> u64 {
        self[0]
    }
}

// === impl Service ===

impl<R: Payload> Service<R> for AtOnce {
    type Response = u64;
    type Error = Failure;
    type Future = future::Ready<Result<u64, Failure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        future::ready(Ok(std::hint::black_box(&request).number()))
    }
}

impl<R: Payload> Service<R> for AtSecond {
    type Response = u64;
    type Error = Failure;
    type Future = Second;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Second {
        crate::inner::PendingOnce.call(std::hint::black_box(&request).number())
    }
}
