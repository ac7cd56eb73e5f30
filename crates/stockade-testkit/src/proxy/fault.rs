//! What can happen to the bytes of one direction.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// What a [`Proxy`](super::Proxy) does to the bytes of one direction.
///
/// It strikes every connection on which bytes go that way, or as many as [`connections`](Self::connections)
/// says, which each stay struck for as long as the fault is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a fault does nothing until a proxy is told of it"]
pub struct Fault {
    pub(super) kind: Kind,
    connections: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    None,
    Delay(Duration),
    Stall,
    Cut(u64),
    Garble,
    Throttle(u32),
}

/// A fault that was set, with what is left of the connections that it strikes.
#[derive(Clone, Debug)]
pub(super) struct Strike {
    fault: Fault,
    left: Arc<AtomicU64>,
}

// === impl Fault ===

impl Fault {
    /// None: all bytes pass as they come.
    pub const fn none() -> Self {
        Self::new(Kind::None)
    }

    /// Each piece, of up to 16 KiB, passes that much later, and the next one is read only then.
    pub const fn delay(by: Duration) -> Self {
        Self::new(Kind::Delay(by))
    }

    /// Nothing passes until another fault, or none, is set. What comes meanwhile is not lost.
    pub const fn stall() -> Self {
        Self::new(Kind::Stall)
    }

    /// As many bytes pass as said, counted from now on for each connection, and then it is reset both ways.
    pub const fn cut(after: u64) -> Self {
        Self::new(Kind::Cut(after))
    }

    /// Each byte passes with all its bits turned over.
    pub const fn garble() -> Self {
        Self::new(Kind::Garble)
    }

    /// No more bytes a second pass than said, on each connection.
    ///
    /// # Panics
    ///
    /// If it is zero: that is a [`stall`](Self::stall).
    #[track_caller]
    pub const fn throttle(bytes_per_second: u32) -> Self {
        assert!(bytes_per_second > 0, "Fault::throttle: 0 bytes a second, allowed is 1 and above");
        Self::new(Kind::Throttle(bytes_per_second))
    }

    /// Strikes only as many connections, the first on which bytes go that way; the others pass unharmed.
    pub const fn connections(mut self, connections: u64) -> Self {
        self.connections = connections;
        self
    }

    const fn new(kind: Kind) -> Self {
        Self { kind, connections: u64::MAX }
    }
}

// === impl Strike ===

impl Strike {
    pub(super) fn new(fault: Fault) -> Self {
        Self { fault, left: Arc::new(AtomicU64::new(fault.connections)) }
    }

    /// What it does to one more connection.
    pub(super) fn take(&self) -> Kind {
        // Nothing else is published with the count.
        let taken = self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        if taken.is_ok() { self.fault.kind } else { Kind::None }
    }
}

impl Default for Strike {
    fn default() -> Self {
        Self::new(Fault::none())
    }
}
