//! How many calls are in flight, how many joined another one, and the switch.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

/// Shows what the services of one [`CoalesceLayer`](crate::CoalesceLayer) share, and switches it off. Cheap to clone.
#[derive(Clone)]
pub struct CoalesceHandle(pub(crate) Arc<Shared>);

stockade_core::switch!(CoalesceHandle);

/// What all services of a layer share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) enabled: AtomicBool,
    pub(crate) in_flight: AtomicUsize,
    pub(crate) joined: AtomicU64,
}

// === impl CoalesceHandle ===

impl CoalesceHandle {
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

// === impl Shared ===

impl Shared {
    pub(crate) fn new() -> Self {
        let (in_flight, joined) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self { enabled: AtomicBool::new(true), in_flight, joined }
    }
}
