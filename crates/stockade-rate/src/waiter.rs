//! The wait of one call, in its response future or in `poll_ready`, wherever the bucket is.

use std::{
    num::NonZeroU32,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use stockade_core::{
    Reason, Rejected,
    internal::{self, CallWaiter},
};

use crate::{
    backend::{Backend, Permit},
    shared::Shared,
};

/// The wait of one call for its tokens.
///
/// It takes its place in the queue when it is first polled, and gives it back when it is dropped.
#[derive(Debug)]
pub struct Waiter<L: Backend = Shared> {
    limiter: Arc<L>,
    cost: NonZeroU32,
    /// Whether the bound of the queue, the longest wait and the deadline hold.
    bounded: bool,
    /// None before it is polled, and once it is served or refused.
    place: Option<L::Place>,
}

// === impl Waiter ===

impl<L: Backend> Waiter<L> {
    /// That of a call.
    pub const fn new(limiter: Arc<L>, cost: NonZeroU32) -> Self {
        Self { limiter, cost, bounded: true, place: None }
    }

    /// That of an instance which becomes ready, and is not refused.
    pub(crate) const fn unbounded(limiter: Arc<L>) -> Self {
        Self { limiter, cost: NonZeroU32::MIN, bounded: false, place: None }
    }
}

impl<L: Backend> internal::Waiter for Waiter<L> {
    type Permit = Permit<L>;

    fn poll_admit(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Permit, Rejected>> {
        let Self { limiter, cost, bounded, place } = self.get_mut();
        let served = ready!(L::poll_served(limiter, *cost, *bounded, place, cx));
        *place = None;
        Poll::Ready(served.map(|()| Permit::new(Arc::clone(limiter), *cost)))
    }
}

impl<L: Backend> CallWaiter for Waiter<L> {
    type Refuser = L::Refuser;

    fn start(permit: &mut Self::Permit) {
        permit.spend();
    }

    fn expired(&self) -> Rejected {
        self.limiter.refuse(Reason::Expired)
    }
}

impl<L: Backend> Drop for Waiter<L> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            L::leave(&self.limiter, place, self.cost);
        }
    }
}
