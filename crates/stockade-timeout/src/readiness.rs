//! The time that a service takes to get ready, where it counts.

use std::{
    mem,
    task::{Context, Poll, ready},
};

use stockade_core::{LayerError, deadline::Scope};
use tokio::time::Instant;

use crate::{
    shared::{Lease, NO_LIMIT, nanos},
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

    /// The service inside is polled until this is dropped.
    pub(crate) fn scope(&mut self, lease: &Lease) -> Scope<'_> {
        let start = || Stopwatch::new(lease.shared.limit_now(), 0, lease);
        self.stopwatch.get_or_insert_with(start).scope()
    }

    /// The service inside was polled. Ready with the refusal if its time is up.
    pub(crate) fn polled<E: LayerError>(
        &mut self,
        is_ready: bool,
        cx: &mut Context<'_>,
    ) -> Poll<E> {
        match &mut self.stopwatch {
            Some(stopwatch) if !is_ready => {
                self.since.get_or_insert_with(Instant::now);
                let elapsed = ready!(stopwatch.poll(cx));
                *self = Self::default();
                Poll::Ready(elapsed)
            }
            waited => {
                let limit = waited.as_ref().map_or(NO_LIMIT, Stopwatch::limit);
                let spent = match self.since.map(|since| nanos(since.elapsed())) {
                    Some(spent) if spent < limit => spent,
                    // A caller that waited would have been told. This one had given up, and has come again.
                    Some(_) => 0,
                    // It may be polled again before it is called.
                    None => self.spent,
                };
                *self = Self { spent, ..Self::default() };
                Poll::Pending
            }
        }
    }
}
