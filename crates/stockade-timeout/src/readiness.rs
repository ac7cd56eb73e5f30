//! The time that a service takes to get ready, where it counts.

use std::{
    mem,
    task::{Context, Poll, ready},
};

use stockade_core::LayerError;
use tokio::time::Instant;

use crate::{
    shared::{Lease, nanos},
    stopwatch::Stopwatch,
};

/// The wait of one instance of a service to be ready.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    /// Since the service inside was first polled, until it is ready.
    stopwatch: Option<Stopwatch>,
    /// When it was first pending.
    since: Option<Instant>,
    /// How many nanoseconds it took to get ready. They are subtracted from the limit of the next call.
    spent: u64,
}

// === impl Readiness ===

impl Readiness {
    /// That of a new service, if it `counts`.
    pub(crate) fn counted(counts: bool) -> Option<Box<Self>> {
        counts.then(Box::default)
    }

    /// What readiness has taken of the time of the call that begins now.
    pub(crate) fn take_spent(&mut self) -> u64 {
        mem::take(&mut self.spent)
    }

    /// Polls the service inside. Ready with the refusal if its time is up.
    #[cold]
    #[inline(never)]
    pub(crate) fn poll<E: LayerError>(
        &mut self,
        lease: &Lease,
        cx: &mut Context<'_>,
        poll_ready: &mut dyn FnMut(&mut Context<'_>) -> Poll<Result<(), E>>,
    ) -> Poll<Result<(), E>> {
        let start = || Stopwatch::new(lease.limit_now(), 0, lease);
        let stopwatch = self.stopwatch.get_or_insert_with(start);
        let scope = stopwatch.scope();
        let polled = poll_ready(cx);
        drop(scope);
        if polled.is_ready() {
            let spent = match self.since.map(|since| nanos(since.elapsed())) {
                Some(spent) if spent < stopwatch.limit() => spent,
                // A caller that waited would have been told. This one had given up, and has come again.
                Some(_) => 0,
                // It may be polled again before it is called.
                None => self.spent,
            };
            *self = Self { spent, ..Self::default() };
            return polled;
        }
        self.since.get_or_insert_with(Instant::now);
        let elapsed = ready!(stopwatch.poll(cx));
        *self = Self::default();
        Poll::Ready(Err(elapsed))
    }
}
