//! A place in flight, and the wait for one.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use stockade_core::{
    Reason, Rejected,
    internal::{self, CallWaiter, Key, Timer},
};
use tokio::time::Instant;

use crate::{semaphore::Semaphore, shared::Shared};

/// A place in flight. Dropping it gives the place to the next call that waits.
///
/// A call holds one until its service has answered. [`LimitHandle::acquire`](crate::LimitHandle::acquire) gets one by
/// hand, and [`LimitLayer::hold`](crate::LimitLayer::hold) keeps that of a call for longer. It does not keep the
/// service or the limit alive.
#[derive(Debug)]
#[must_use = "dropping a permit gives it back"]
pub struct Permit(Option<&'static Semaphore>);

/// A wait for a permit. Dropping it gives up the place in the queue, or passes the permit on.
#[derive(Debug)]
pub struct Waiter {
    shared: Arc<Shared>,
    place: Place,
    until: Option<Instant>,
    timer: Option<Timer>,
    /// That of an instance that is polled ready. It never refuses: once the limit is closed it ends without a permit,
    /// and the call is refused.
    reserves: bool,
}

#[derive(Debug)]
pub(crate) enum Place {
    /// Owed to the semaphore: a `give_up`.
    Queued(Key),
    /// Owed to the semaphore: a `leave`.
    Entered,
    /// It has become a permit, or the limit was closed from the start.
    Left,
}

// === impl Permit ===

impl Permit {
    /// For a call that is not limited.
    pub(crate) const NONE: Self = Self(None);

    #[inline]
    pub(crate) fn try_new(semaphore: &'static Semaphore) -> Option<Self> {
        semaphore.try_enter().then(|| Self(Some(semaphore)))
    }

    /// The same for a call of this class.
    pub(crate) fn try_new_as(semaphore: &'static Semaphore, class: u64) -> Option<Self> {
        semaphore.try_enter_as(class).then(|| Self(Some(semaphore)))
    }

    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        if let Some(semaphore) = self.0 {
            semaphore.leave();
        }
    }
}

// === impl Waiter ===

impl Waiter {
    pub(crate) fn new(shared: &Arc<Shared>, place: Place, until: Option<Instant>) -> Self {
        Self { shared: Arc::clone(shared), place, until, timer: None, reserves: false }
    }

    /// Reserves a permit before there is a request, and so without a key. The bound of the queue and the longest wait do not
    /// hold for it; `shared` may be closed.
    pub(crate) fn reserving(shared: &Arc<Shared>) -> Self {
        let closed = |_| Self::new(shared, Place::Left, None);
        let mut waiter = shared.enter(u32::MAX, None, None).unwrap_or_else(closed);
        waiter.reserves = true;
        waiter
    }

    /// An instance does not end because it gave way: it is the last again. Dropping the waiter before gives up its place.
    fn rejoin(&mut self, cx: &mut Context<'_>) -> Poll<Result<Permit, Reason>> {
        *self = Self::reserving(&self.shared);
        self.poll(cx)
    }

    /// Ready with a permit, or with the reason of a refusal that is not counted yet.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Permit, Reason>> {
        let semaphore = self.shared.semaphore;
        match self.place {
            Place::Entered => {}
            Place::Left => return Poll::Ready(Err(Reason::PoolClosed)),
            Place::Queued(key) => match semaphore.poll_turn(key, cx.waker()) {
                Poll::Ready(Err(Reason::Shed)) if self.reserves => return self.rejoin(cx),
                Poll::Ready(turn) => turn?,
                Poll::Pending => {
                    let Some(until) = self.until else { return Poll::Pending };
                    let timer = self.timer.get_or_insert_with(|| Timer::register(until, cx));
                    ready!(timer.poll(cx));
                    return Poll::Ready(Err(Reason::WaitExceeded));
                }
            },
        }
        self.place = Place::Left;
        self.timer = None;
        Poll::Ready(Ok(Permit(Some(semaphore))))
    }
}

impl internal::Waiter for Waiter {
    type Permit = Permit;

    fn poll_admit(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Permit, Rejected>> {
        let this = self.get_mut();
        Poll::Ready(match ready!(this.poll(cx)) {
            Err(_) if this.reserves => Ok(Permit::NONE),
            result => result.map_err(|reason| this.shared.refuse(reason)),
        })
    }
}

impl CallWaiter for Waiter {
    type Refuser = Shared;

    fn expired(&self) -> Rejected {
        self.shared.refuse(Reason::Expired)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        match self.place {
            Place::Queued(key) => self.shared.semaphore.give_up(key),
            Place::Entered => self.shared.semaphore.leave(),
            Place::Left => {}
        }
    }
}
