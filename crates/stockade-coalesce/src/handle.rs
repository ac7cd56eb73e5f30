//! How many calls are in flight, and how many joined another one.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

/// Shows what the services of one [`CoalesceLayer`](crate::CoalesceLayer) share. Cheap to clone.
#[derive(Clone)]
pub struct CoalesceHandle(Arc<Counts>);

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) in_flight: AtomicUsize,
    pub(crate) joined: AtomicU64,
}

// === impl CoalesceHandle ===

impl CoalesceHandle {
    pub(crate) const fn new(counts: Arc<Counts>) -> Self {
        Self(counts)
    }

    /// How many keys have a call in flight.
    pub fn in_flight(&self) -> usize {
        self.0.in_flight.load(Relaxed)
    }

    /// How many calls joined one that was in flight, and so did not reach the service.
    pub fn joined(&self) -> u64 {
        self.0.joined.load(Relaxed)
    }
}

impl fmt::Debug for CoalesceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoalesceHandle")
            .field("in_flight", &self.in_flight())
            .field("joined", &self.joined())
            .finish()
    }
}
