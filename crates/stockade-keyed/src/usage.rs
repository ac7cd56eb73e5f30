//! Whether a key is in use, and since when it is not.
//!
//! One word says it all: how many calls ever came, how many of them are in flight, and whether the key was dropped.
//! Because each call that comes changes the word for good, dropping a key is one compare-and-swap of the word that was
//! read before the time of the last use was: if it succeeds, no call came in between.

use stockade_core::internal::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// The calls of one key.
#[derive(Debug)]
pub(crate) struct Usage {
    word: AtomicU64,
    /// When the last call ended, in nanoseconds.
    used: AtomicU64,
    refused: AtomicU64,
}

/// What became of an attempt to drop a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    /// It is dropped, and can be used no more.
    Dropped,
    /// It is or was in use, and is not to be looked at as if it were idle since before this time.
    Since(u64),
}

/// The calls in flight, up to 67 million.
const IN_FLIGHT: u64 = DROPPED - 1;
const DROPPED: u64 = 1 << 26;
/// One call that came. The highest bits count them, so that what does not fit is lost, and changes nothing else.
const CAME: u64 = 1 << CAME_SHIFT;
const CAME_SHIFT: u32 = 27;

// === impl Usage ===

impl Usage {
    /// A key that is new `now`.
    pub(crate) fn new(now: u64) -> Self {
        Self { word: AtomicU64::new(0), used: AtomicU64::new(now), refused: AtomicU64::new(0) }
    }

    /// A call comes. `false`: the key was dropped.
    pub(crate) fn enter(&self) -> bool {
        self.word.fetch_add(CAME + 1, Relaxed) & DROPPED == 0
    }

    /// Keeps the key in use for a moment, without a call. Only under the lock under which keys are dropped.
    pub(crate) fn hold(&self) {
        self.word.fetch_add(1, Relaxed);
    }

    /// A call ends, or a moment.
    pub(crate) fn exit(&self, now: u64) {
        self.used.fetch_max(now, Relaxed);
        // Pairs with the load in `drop_idle`, which then sees the time.
        self.word.fetch_sub(1, Release);
    }

    /// A call was refused by a layer of the key's stack.
    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// Drops the key if no call is in flight and none was since `since`, when it was last looked at.
    pub(crate) fn drop_idle(&self, since: u64, now: u64) -> Idle {
        let word = self.word.load(Acquire);
        if word & IN_FLIGHT != 0 {
            return Idle::Since(now);
        }
        let used = self.used.load(Relaxed);
        if used > since {
            return Idle::Since(used);
        }
        match self.word.compare_exchange(word, word | DROPPED, AcqRel, Relaxed) {
            Ok(_) => Idle::Dropped,
            Err(_) => Idle::Since(now),
        }
    }

    pub(crate) fn calls(&self) -> u64 {
        self.word.load(Relaxed) >> CAME_SHIFT
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.word.load(Relaxed) & IN_FLIGHT
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_dropped_once_nothing_is_in_flight_and_it_was_not_used_since() {
        let usage = Usage::new(5);
        assert!(usage.enter());
        assert_eq!(usage.drop_idle(5, 90), Idle::Since(90));
        usage.exit(20);
        assert_eq!(usage.drop_idle(5, 90), Idle::Since(20));
        assert_eq!(usage.drop_idle(20, 90), Idle::Dropped);
        assert!(!usage.enter());
    }

    #[test]
    fn a_key_with_more_calls_than_can_be_counted_stays_in_use() {
        let usage = Usage::new(0);
        usage.word.store(u64::MAX << CAME_SHIFT, Relaxed);
        assert!(usage.enter());
        assert!(usage.enter());
        assert_eq!((usage.calls(), usage.in_flight()), (1, 2));
        assert_eq!(usage.drop_idle(0, 1), Idle::Since(1));
    }

    #[test]
    fn the_last_end_counts_in_whatever_order_ends_are_told() {
        let usage = Usage::new(0);
        usage.enter();
        usage.enter();
        usage.exit(30);
        usage.exit(20);
        assert_eq!(usage.drop_idle(20, 90), Idle::Since(30));
        assert_eq!((usage.calls(), usage.in_flight()), (2, 0));
    }
}
