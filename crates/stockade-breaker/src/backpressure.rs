//! Waiting in `poll_ready` until calls may pass again.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use stockade_core::{Rejected, internal};
use tokio::{
    sync::futures::Notified,
    time::{Sleep, sleep},
};

use crate::shared::Lease;

pin_project! {
    /// Waits until calls may pass: for the time after which the breaker is no longer open or a probe is overdue,
    /// and for a transition or the end of a probe. Many can wait, and none of them polls.
    pub struct Waiter {
        lease: Arc<Lease>,
        #[pin]
        changed: Notified<'static>,
        #[pin]
        timer: Option<Sleep>,
    }
}

// === impl Waiter ===

impl Waiter {
    pub(crate) fn new(lease: Arc<Lease>) -> Self {
        Self { changed: lease.shared().changed(), lease, timer: None }
    }
}

impl internal::Waiter for Waiter {
    type Permit = ();

    fn poll_admit(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Rejected>> {
        let mut this = self.project();
        loop {
            // Before the look at the breaker, so that no change is missed.
            while this.changed.as_mut().poll(cx).is_ready() {
                this.changed.set(this.lease.shared().changed());
            }
            let after = match this.lease.shared().reserve(true) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(after) => after,
            };
            this.timer.set(after.map(sleep));
            let Some(timer) = this.timer.as_mut().as_pin_mut() else { return Poll::Pending };
            if timer.poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}
