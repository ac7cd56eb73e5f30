//! The wait of one call inside its response future.

use std::{
    num::NonZeroU32,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use stockade_core::{Rejected, deadline, internal::Key};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::gate::{Gate, Turn, Verdict};

pin_project! {
    /// The wait of one call. It is a part of every response future, and so kept small.
    #[derive(Debug)]
    pub(crate) struct Waiter {
        place: Place,
        // Only the head sleeps.
        #[pin]
        sleep: Option<Sleep>,
    }
}

#[derive(Debug)]
struct Place {
    gate: Arc<Gate>,
    at: At,
}

#[derive(Clone, Copy, Debug)]
enum At {
    /// Before the queue, which it enters at the first poll.
    Door { cost: NonZeroU32 },
    /// In the queue. As the head it had been told to look so often when it last did.
    Queue { key: Key, told: u32 },
}

// === impl Waiter ===

impl Waiter {
    pub(crate) fn new(gate: Arc<Gate>, cost: NonZeroU32) -> Self {
        Self { place: Place { gate, at: At::Door { cost } }, sleep: None }
    }

    /// Ready when the call has its tokens, or is refused after all.
    pub(crate) fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Rejected>> {
        let mut this = self.project();
        let Place { gate, at } = this.place;
        if let At::Door { cost } = *at {
            match gate.enter(gate.now(), cost, cx.waker()) {
                Verdict::Pass => return Poll::Ready(Ok(())),
                Verdict::Refuse(rejected) => return Poll::Ready(Err(rejected)),
                Verdict::Wait(key) => *at = At::Queue { key, told: 0 },
            }
        }
        let At::Queue { key, told } = at else { return Poll::Pending };
        loop {
            if let Some(sleep) = this.sleep.as_mut().as_pin_mut()
                && sleep.poll(cx).is_pending()
                && gate.told() == *told
            {
                return Poll::Pending;
            }
            let due = match gate.turn(*key, cx.waker(), || gate.now()) {
                Turn::Behind => return Poll::Pending,
                Turn::Served => return Poll::Ready(Ok(())),
                Turn::Refused(rejected) => return Poll::Ready(Err(rejected)),
                Turn::Due(after, so_far) => {
                    *told = so_far;
                    deadline::saturating_add(Instant::now(), after)
                }
            };
            match this.sleep.as_mut().as_pin_mut() {
                Some(sleep) => sleep.reset(due),
                None => this.sleep.set(Some(sleep_until(due))),
            }
        }
    }
}

// === impl Place ===

impl Drop for Place {
    fn drop(&mut self) {
        if let At::Queue { key, .. } = self.at {
            self.gate.remove(key);
        }
    }
}
