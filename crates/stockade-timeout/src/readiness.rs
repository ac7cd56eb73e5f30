//! The time that a service takes to get ready, where it counts.

use std::{
    mem,
    task::{Context, Poll, ready},
};

use stockade_core::{LayerError, deadline::Deadline};
use tokio::time::Instant;

use crate::{
    shared::{Shared, nanos},
    stopwatch::Stopwatch,
};

/// The wait of one instance of a service to be ready.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    /// While the service inside is not ready: its limit, and since when.
    waiting: Option<(Stopwatch, Instant)>,
    /// How many nanoseconds it took to get ready. They are subtracted from the limit of the next call.
    spent: u64,
}

// === impl Readiness ===

impl Readiness {
    /// What readiness has taken of the time of the call that begins now.
    #[inline]
    pub(crate) fn take_spent(&mut self) -> u64 {
        mem::take(&mut self.spent)
    }

    /// Polls the service inside with `poll_ready`, for at most as long as the limit.
    // Kept apart: most timeouts do not count readiness, and pass only the check for that.
    #[inline(never)]
    pub(crate) fn poll<E: LayerError>(
        &mut self,
        shared: &Shared,
        cx: &mut Context<'_>,
        poll_ready: impl FnOnce(&mut Context<'_>) -> Poll<Result<(), E>>,
    ) -> Poll<Result<(), E>> {
        let Some(limit) = shared.limit_now() else { return poll_ready(cx) };
        let (mut stopwatch, since) = match self.waiting.take() {
            Some((stopwatch, since)) => (stopwatch, Some(since)),
            None => (Stopwatch::new(Deadline::After(limit), limit, shared.name), None),
        };
        let starved = stopwatch.is_starved();
        if let Poll::Ready(ready) = stopwatch.deadline.enter(|| poll_ready(cx)) {
            // It may be polled again before it is called.
            if let Some(since) = since {
                self.spent = nanos(since.elapsed());
            }
            return Poll::Ready(ready);
        }
        let polled = stopwatch.poll(starved, cx);
        if polled.is_pending() {
            self.waiting = Some((stopwatch, since.unwrap_or_else(Instant::now)));
        }
        Poll::Ready(Err(ready!(polled).into_error()))
    }
}
