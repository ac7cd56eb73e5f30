//! What a rate limit is to its service: the same for a bucket in this process and for one elsewhere.
//!
//! Hidden, and free to change: `stockade-fleet` implements it for a bucket in Redis.

use std::{fmt, num::NonZeroU32, sync::Arc};

use stockade_core::internal::{CallWaiter, Refusal};

pub use crate::{shared::Shared, waiter::Waiter as LocalWaiter};

/// A bucket of tokens, and the queue of the calls that wait for them.
pub trait Backend: Sized {
    /// The wait of one call.
    type Waiter: CallWaiter<Permit = Permit<Self>>;
    /// Reads its state, and changes it at run time.
    type Handle;

    /// What one is made from.
    type Plan;

    /// A full bucket, with nobody waiting.
    fn build(plan: &Self::Plan) -> Self;

    /// A handle to it.
    fn handle(this: &Arc<Self>) -> Self::Handle;

    /// A call comes that costs so many tokens.
    fn admit(this: &Arc<Self>, cost: NonZeroU32) -> Admission<Self::Waiter>;

    /// Takes tokens back that were not used.
    fn give_back(this: &Arc<Self>, cost: NonZeroU32);
}

/// What becomes of a call.
#[derive(Debug)]
pub enum Admission<W: CallWaiter> {
    /// It has its tokens.
    Pass,
    /// It waits for them.
    Wait(W),
    /// It is refused.
    Refuse(Refusal<W::Refuser>),
}

/// Tokens that were taken. They go back when this is dropped, unless they are [spent](Self::spend).
pub struct Permit<L: Backend> {
    limiter: Option<Arc<L>>,
    cost: NonZeroU32,
}

// === impl Permit ===

impl<L: Backend> Permit<L> {
    /// So many tokens that were taken.
    pub const fn new(limiter: Arc<L>, cost: NonZeroU32) -> Self {
        Self { limiter: Some(limiter), cost }
    }

    /// The call is sent: its tokens are gone.
    pub fn spend(&mut self) {
        self.limiter = None;
    }
}

impl<L: Backend> Drop for Permit<L> {
    fn drop(&mut self) {
        if let Some(limiter) = &self.limiter {
            L::give_back(limiter, self.cost);
        }
    }
}

impl<L: Backend> fmt::Debug for Permit<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("cost", &self.cost).finish_non_exhaustive()
    }
}
