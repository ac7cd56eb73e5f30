//! The limit of each attempt, which a call keeps from when it began.
//!
//! The attempt timeout is inside retry, so it comes to a call again with each attempt. It has to find the limit that held
//! when the call began; so the future of the call puts it where the timeout looks, whenever it is polled.

use std::{cell::Cell, time::Duration};

use stockade_timeout::{PerRequest, TimeoutHandle};

thread_local! {
    static KEPT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// The limit that a call keeps, in nanoseconds, if there is an attempt timeout.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kept(Option<u64>);

/// As long as it is there, the attempt timeout finds the limit.
#[derive(Debug)]
pub(crate) struct Scope {
    outer: Option<u64>,
}

/// What the attempt timeout is told.
#[derive(Clone, Copy, Debug)]
pub struct KeptLimit;

// === impl Kept ===

impl Kept {
    /// That of a call that begins now.
    pub(crate) fn now(attempt_timeout: Option<&TimeoutHandle>) -> Self {
        let nanos = |limit: Duration| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        Self(attempt_timeout.map(|handle| nanos(handle.limit())))
    }

    pub(crate) fn scope(self) -> Scope {
        Scope { outer: KEPT.replace(self.0) }
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        KEPT.set(self.outer);
    }
}

// === impl KeptLimit ===

impl<Req> PerRequest<Req> for KeptLimit {
    fn limit(&self, _: &Req) -> Option<Duration> {
        KEPT.get().map(Duration::from_nanos)
    }

    fn within(&self, _: &Req, of_layer: u64) -> u64 {
        KEPT.get().unwrap_or(of_layer)
    }
}
