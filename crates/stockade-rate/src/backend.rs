//! What a rate limit is to its service: the same for a bucket in this process and for one elsewhere.
//!
//! Hidden, and free to change: `stockade-fleet` implements it for a bucket in Redis.

use std::{
    fmt,
    num::NonZeroU32,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use stockade_core::{
    Reason, Rejected,
    internal::{Refusal, Refuser},
};

pub use crate::waiter::Waiter;

/// A bucket of tokens, and the queue of the calls that wait for them.
pub trait Backend: Sized {
    /// A place in the queue.
    type Place: fmt::Debug + Unpin;
    /// Tells refusals.
    type Refuser: Refuser;
    /// Reads its state, and changes it at run time.
    type Handle;
    /// What one is made from.
    type Plan;

    /// A full bucket, with nobody waiting.
    fn build(plan: &Self::Plan) -> Self;

    /// A handle to it.
    fn handle(this: &Arc<Self>) -> Self::Handle;

    /// A call comes that costs so many tokens.
    fn admit(this: &Arc<Self>, cost: NonZeroU32) -> Admission<Self>;

    /// Ready when a call that waits has its tokens, or is refused. It gets its `place` first; only where it is `bounded`
    /// it may be refused.
    fn poll_served(
        this: &Arc<Self>,
        cost: NonZeroU32,
        bounded: bool,
        place: &mut Option<Self::Place>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Rejected>>;

    /// A call in the queue is dropped. If it had been served, its tokens go back.
    fn leave(this: &Arc<Self>, place: Self::Place, cost: NonZeroU32);

    /// Takes tokens back that were not used.
    fn give_back(this: &Arc<Self>, cost: NonZeroU32);

    /// A refusal, which is counted.
    fn refuse(&self, reason: Reason) -> Rejected;
}

/// What becomes of a call.
#[derive(Debug)]
pub enum Admission<L: Backend> {
    /// It has its tokens.
    Pass,
    /// It waits for them.
    Wait(Waiter<L>),
    /// It is refused.
    Refuse(Refusal<L::Refuser>),
}

/// How many calls may wait, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The length of the queue.
    pub queue: usize,
    /// The longest wait.
    pub max_wait: Option<Duration>,
}

/// Tokens that were taken. They go back when this is dropped, unless they are [spent](Self::spend).
pub struct Permit<L: Backend> {
    limiter: Option<Arc<L>>,
    cost: NonZeroU32,
}

// === impl Bounds ===

impl Bounds {
    /// Whether a call may wait for so long behind so many `waiting`, with what is `left` to its deadline. If not, why, and
    /// after what time it could come; `place` says when there will be one in the queue.
    pub fn judge(
        self,
        waiting: usize,
        wait: Duration,
        left: Option<Duration>,
        place: impl FnOnce() -> Duration,
    ) -> Result<(), (Reason, Duration)> {
        let too_long = self.max_wait.map_or(Duration::ZERO, |max| wait.saturating_sub(max));
        if self.queue == 0 {
            return Err((Reason::RateLimited, wait));
        }
        if waiting >= self.queue {
            return Err((Reason::QueueFull, place().max(too_long)));
        }
        if too_long > Duration::ZERO {
            return Err((Reason::WaitExceeded, too_long));
        }
        match left.and_then(|left| wait.checked_sub(left)) {
            // What is due at the deadline is late, so it has to come earlier by more than the difference.
            Some(late) => Err((Reason::Expired, late + Duration::from_nanos(1))),
            None => Ok(()),
        }
    }
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

stockade_core::shown!(Permit<L: Backend>: cost);
