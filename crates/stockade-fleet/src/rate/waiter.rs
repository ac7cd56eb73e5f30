//! The wait of one call.

use std::{
    num::NonZeroU32,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use stockade_core::{
    Reason, Rejected, deadline,
    internal::{self, CallWaiter, Key},
};
use stockade_rate::backend::Permit;
use tokio::sync::oneshot;

use super::limiter::{Answered, Entry, Limiter};

/// The wait of one call for its tokens.
///
/// It takes its place in the queue when it is first polled, and gives it back when it is dropped.
#[derive(Debug)]
pub struct Waiter {
    limiter: Arc<Limiter>,
    cost: NonZeroU32,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Outside,
    Queued(Key, oneshot::Receiver<Answered>),
    Done,
}

// === impl Waiter ===

impl Waiter {
    pub(crate) const fn new(limiter: Arc<Limiter>, cost: NonZeroU32) -> Self {
        Self { limiter, cost, place: Place::Outside }
    }

    fn poll_answered(&mut self, cx: &mut Context<'_>) -> Poll<Answered> {
        loop {
            match &mut self.place {
                Place::Outside => match self.limiter.enter(self.cost, deadline::current()) {
                    Entry::Passed => return Poll::Ready(Ok(())),
                    Entry::Refused(rejected) => return Poll::Ready(Err(rejected)),
                    Entry::Waits(key, told) => self.place = Place::Queued(key, told),
                },
                Place::Queued(_, told) => match ready!(Pin::new(told).poll(cx)) {
                    Ok(answered) => return Poll::Ready(answered),
                    // The task that asked for it has ended with its runtime.
                    Err(_) => self.place = Place::Outside,
                },
                Place::Done => panic!("it is not polled again once it is ready"),
            }
        }
    }
}

impl internal::Waiter for Waiter {
    type Permit = Permit<Limiter>;

    fn poll_admit(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Permit, Rejected>> {
        let answered = ready!(self.poll_answered(cx));
        self.place = Place::Done;
        Poll::Ready(answered.map(|()| Permit::new(Arc::clone(&self.limiter), self.cost)))
    }
}

impl CallWaiter for Waiter {
    type Refuser = Limiter;

    fn start(permit: &mut Self::Permit) {
        permit.spend();
    }

    fn expired(&self) -> Rejected {
        self.limiter.refuse(Reason::Expired)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Place::Queued(key, told) = &mut self.place {
            self.limiter.leave(*key);
            if let Ok(Ok(())) = told.try_recv() {
                self.limiter.return_tokens(self.cost);
            }
        }
    }
}
