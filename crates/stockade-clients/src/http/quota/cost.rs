//! What a call is charged, and what it has cost.

use std::fmt;

use stockade_rate::RateHandle;

/// What a call is charged: [`NoCost`], or [`Settled`]. It is public so that bounds can name it.
pub trait Estimate<Req> {
    /// What the rate limit has charged for this request.
    #[doc(hidden)]
    fn estimate(&self, request: &Req) -> u32;
}

/// What a call has cost: [`NoCost`], or [`Settled`]. It is public so that bounds can name it.
pub trait Settle<T> {
    /// Corrects what the call was charged.
    #[doc(hidden)]
    fn settle(&self, estimate: u32, answer: &T);
}

/// A call costs what it was charged.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCost;

/// A call costs what its answer says; made by [`QuotaLayer::settle`](super::QuotaLayer::settle).
#[derive(Clone)]
pub struct Settled<E, A> {
    pub(super) rate: RateHandle,
    pub(super) estimate: E,
    pub(super) actual: A,
}

// === impl NoCost ===

impl<Req> Estimate<Req> for NoCost {
    fn estimate(&self, _: &Req) -> u32 {
        0
    }
}

impl<T> Settle<T> for NoCost {
    fn settle(&self, _: u32, _: &T) {}
}

// === impl Settled ===

impl<Req, E: Fn(&Req) -> u32, A> Estimate<Req> for Settled<E, A> {
    fn estimate(&self, request: &Req) -> u32 {
        (self.estimate)(request)
    }
}

impl<T, E, A: Fn(&T) -> Option<u32>> Settle<T> for Settled<E, A> {
    fn settle(&self, estimate: u32, answer: &T) {
        if let Some(actual) = (self.actual)(answer) {
            self.rate.settle(i64::from(actual) - i64::from(estimate));
        }
    }
}

impl<E, A> fmt::Debug for Settled<E, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settled").field("rate", &self.rate).finish_non_exhaustive()
    }
}
