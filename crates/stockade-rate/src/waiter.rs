//! The wait of one call, in its response future or in `poll_ready`.

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
use tokio::runtime::Handle;

use crate::{
    backend::Permit,
    limiter::Common,
    shared::{Place, Shared},
};

/// The wait of one call for its tokens.
///
/// It takes its place in the queue when it is first polled, and gives it back when it is dropped.
#[derive(Debug)]
pub struct Waiter {
    shared: Arc<Shared>,
    cost: NonZeroU32,
    /// Whether the bound of the queue, the longest wait and the deadline hold.
    bounded: bool,
    place: Place,
}

// === impl Waiter ===

impl Waiter {
    pub(crate) const fn new(shared: Arc<Shared>, cost: NonZeroU32, bounded: bool) -> Self {
        Self { shared, cost, bounded, place: Place::Outside }
    }

    fn poll_served(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejected>> {
        let Self { shared, cost, bounded, place } = self;
        let now = shared.common().now();
        // The waker is cloned before the lock, because that may run foreign code.
        let from = (Handle::try_current().ok(), cx.waker().clone());
        match *place {
            Place::Outside => shared.enter(now, *cost, *bounded, from, place),
            Place::Queued(key) => shared.turn(now, key, from),
            Place::Done => panic!("it is not polled again once it is ready"),
        }
    }
}

impl internal::Waiter for Waiter {
    type Permit = Permit<Shared>;

    fn poll_admit(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Permit, Rejected>> {
        let served = ready!(self.poll_served(cx));
        self.place = Place::Done;
        Poll::Ready(served.map(|()| Permit::new(Arc::clone(&self.shared), self.cost)))
    }
}

impl CallWaiter for Waiter {
    type Refuser = Common;

    fn start(permit: &mut Self::Permit) {
        permit.spend();
    }

    fn expired(&self) -> Rejected {
        self.shared.common().refuse(Reason::Expired)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Place::Queued(key) = self.place {
            self.shared.leave(self.shared.common().now(), key, self.cost);
        }
    }
}
