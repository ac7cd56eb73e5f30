//! What is pending only because its task has used up its cooperative budget.

use std::{
    mem,
    task::{Context, Poll},
};

use tokio::task::coop;

/// Gives what is inside one more turn once its time is up, if its task had no cooperative budget left before it was
/// polled: it may be ready, and only look pending.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LastTurn {
    starved: bool,
    taken: bool,
}

// === impl LastTurn ===

impl LastTurn {
    /// What is inside is polled after this.
    pub(crate) fn begins(&mut self) {
        self.starved = !coop::has_budget_remaining();
    }

    /// What is inside was pending, and its time is up. Pending if it has one more turn, to which the task is woken.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.starved && !mem::replace(&mut self.taken, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}
