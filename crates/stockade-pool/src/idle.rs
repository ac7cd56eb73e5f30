//! The timer of an idle worker that the pool could do without.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use stockade_core::deadline::saturating_add;
use tokio::time::{Instant, Sleep, sleep_until};

/// Tells when a worker has been idle for long. To register a timer is costly, so a timer is left alone when the worker
/// gets a job, and moved when it fires: a worker that is busy now and then registers one per idle limit.
#[derive(Default)]
pub(crate) struct Idle {
    /// When the worker will have been idle for long.
    until: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

// === impl Idle ===

impl Idle {
    /// The worker has a job.
    #[inline]
    pub(crate) fn end(&mut self) {
        self.until = None;
    }

    /// Ready when the worker has been idle for `limit`; then the next spell begins.
    pub(crate) fn poll(&mut self, limit: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let until = *self.until.get_or_insert_with(|| saturating_add(Instant::now(), limit));
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= until {
                self.until = None;
                return Poll::Ready(());
            }
            timer.as_mut().reset(until);
        }
    }
}
