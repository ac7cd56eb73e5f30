//! What the measured calls carry, and the services at the bottom of every stack, which do nothing.
//!
//! Each stack has a service of its own type, told apart by a number. Otherwise `Timeout<AtOnce>` would be one type in
//! half of the stacks, and the compiler would not inline what so many call; a program has one or two stacks.

use std::{
    fmt::Debug,
    future::{self, Future},
    hint::black_box,
    io, mem,
    pin::Pin,
    task::{Context, Poll},
};

use stockade::Error;
use tower::Service;

/// The error of every service here.
pub type Failure = Error<io::Error>;

/// A request.
pub trait Payload: Clone + Debug + Send + Sync + 'static {
    /// The request with this number.
    fn make(n: u64) -> Self;
    /// Its number.
    fn number(&self) -> u64;
}

/// A request of 1 KiB, which is moved by value.
pub type Large = [u64; 128];

/// The key of a request among so many: all come in an order that no cache foresees. `keys` is no multiple of the factor.
pub(crate) fn key(n: u64, keys: u64) -> u64 {
    n.wrapping_mul(0x9E37_79B9) % keys
}

/// A stack, ours or another's.
pub trait Client<R = u64>:
    Service<R, Response = u64, Error: Debug + Send, Future: Send> + Send + 'static
{
}

/// A stack of ours, or a service for one.
pub trait Stack<R = u64>:
    Service<R, Response = u64, Error = Failure, Future: Send> + Clone + Send + Sync + 'static
{
}

/// Where the services of stacks come from.
pub trait Source<R = u64> {
    /// The service for the stack with this number.
    type Of<const STACK: u8>: Stack<R>;
    /// Returns it.
    fn of<const STACK: u8>(&self) -> Self::Of<STACK>;
}

/// Answers at the first poll.
#[derive(Clone, Copy, Debug)]
pub struct AtOnce<const STACK: u8 = 255>;

/// Answers at the second poll: at the first it wakes its task and is pending.
#[derive(Clone, Copy, Debug)]
pub struct AtSecond<const STACK: u8 = 255>;

/// The answer of [`AtSecond`].
#[derive(Debug)]
pub struct Second {
    answer: u64,
    polled: bool,
}

impl<R, S> Client<R> for S where
    S: Service<R, Response = u64, Error: Debug + Send, Future: Send> + Send + 'static
{
}

impl<R, S> Stack<R> for S where
    S: Service<R, Response = u64, Error = Failure, Future: Send> + Clone + Send + Sync + 'static
{
}

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

// === impl AtOnce ===

impl<R: Payload> Source<R> for AtOnce {
    type Of<const STACK: u8> = AtOnce<STACK>;

    fn of<const STACK: u8>(&self) -> AtOnce<STACK> {
        AtOnce
    }
}

impl<R: Payload, const STACK: u8> Service<R> for AtOnce<STACK> {
    type Response = u64;
    type Error = Failure;
    type Future = future::Ready<Result<u64, Failure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        future::ready(Ok(black_box(&request).number()))
    }
}

// === impl AtSecond ===

impl<R: Payload> Source<R> for AtSecond {
    type Of<const STACK: u8> = AtSecond<STACK>;

    fn of<const STACK: u8>(&self) -> AtSecond<STACK> {
        AtSecond
    }
}

impl<R: Payload, const STACK: u8> Service<R> for AtSecond<STACK> {
    type Response = u64;
    type Error = Failure;
    type Future = Second;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Second {
        Second { answer: black_box(&request).number(), polled: false }
    }
}

impl Future for Second {
    type Output = Result<u64, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if mem::replace(&mut self.polled, true) {
            return Poll::Ready(Ok(self.answer));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
