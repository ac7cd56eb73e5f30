//! What a proxy does to the bytes of one direction.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// What a [`Proxy`](super::Proxy) does to the bytes of one direction.
///
/// It applies to every connection that has bytes in this direction, or only to the first few of them
/// ([`connections`](Self::connections)), for as long as it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a fault does nothing until it is set on a proxy"]
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

/// A fault that is set, with the number of connections that it may still apply to.
#[derive(Clone, Debug)]
pub(super) struct Strike {
    fault: Fault,
    left: Arc<AtomicU64>,
}

// === impl Fault ===

impl Fault {
    /// No fault: all bytes pass as they come.
    pub const fn none() -> Self {
        Self::new(Kind::None)
    }

    /// Each piece, of up to 16 KiB, is held back for as long as `by`. The next one is read only then.
    pub const fn delay(by: Duration) -> Self {
        Self::new(Kind::Delay(by))
    }

    /// Nothing passes until another fault, or none, is set. The bytes that come in between are not lost.
    pub const fn stall() -> Self {
        Self::new(Kind::Stall)
    }

    /// `after` more bytes pass on each connection, and then it is reset in both directions.
    pub const fn cut(after: u64) -> Self {
        Self::new(Kind::Cut(after))
    }

    /// Each byte passes with all its bits flipped.
    pub const fn garble() -> Self {
        Self::new(Kind::Garble)
    }

    /// At most `bytes_per_second` pass on each connection.
    ///
    /// # Panics
    ///
    /// If it is zero; use [`stall`](Self::stall) for that.
    #[track_caller]
    pub const fn throttle(bytes_per_second: u32) -> Self {
        assert!(bytes_per_second > 0, "Fault::throttle: 0 bytes a second, allowed is 1 and above");
        Self::new(Kind::Throttle(bytes_per_second))
    }

    /// Applies only to the first `connections` that have bytes in this direction.
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

    /// What happens on one more connection.
    pub(super) fn take(&self) -> Kind {
        // Relaxed: the count alone decides.
        let taken = self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        if taken.is_ok() { self.fault.kind } else { Kind::None }
    }
}

impl Default for Strike {
    fn default() -> Self {
        Self::new(Fault::none())
    }
}
