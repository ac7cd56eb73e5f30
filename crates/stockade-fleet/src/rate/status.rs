//! The state of a rate limit that its handle reads, for all of its buckets together.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use stockade_core::internal::{lock, sync::Mutex};
use tokio::sync::watch;

use crate::{Mode, RedisError};

/// What a rate limit knows at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Who decided last.
    pub mode: Mode,
    /// Why this node decided alone last, if it ever did.
    pub fault: Option<RedisError>,
    /// The calls that wait for a token or an answer.
    pub waiting: usize,
    /// How often the Redis was asked, ever: the round trips.
    pub asked: u64,
    /// How many tokens this node has given alone, ever.
    pub alone: u64,
}

#[derive(Debug)]
pub(crate) struct Status {
    name: Option<&'static str>,
    mode: watch::Sender<Mode>,
    fault: Mutex<Option<RedisError>>,
    // Counters that pair with nothing.
    waiting: AtomicUsize,
    asked: AtomicU64,
    alone: AtomicU64,
}

// === impl Status ===

impl Status {
    pub(crate) fn new(name: Option<&'static str>) -> Self {
        Self {
            name,
            mode: watch::Sender::new(Mode::Shared),
            fault: Mutex::default(),
            waiting: AtomicUsize::new(0),
            asked: AtomicU64::new(0),
            alone: AtomicU64::new(0),
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            mode: *self.mode.borrow(),
            fault: lock(&self.fault).clone(),
            waiting: self.waiting.load(Relaxed),
            asked: self.asked.load(Relaxed),
            alone: self.alone.load(Relaxed),
        }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Mode> {
        self.mode.subscribe()
    }

    pub(crate) fn asks(&self) {
        self.asked.fetch_add(1, Relaxed);
    }

    pub(crate) fn gave_alone(&self, tokens: u64) {
        self.alone.fetch_add(tokens, Relaxed);
    }

    pub(crate) fn enters(&self) {
        self.waiting.fetch_add(1, Relaxed);
    }

    pub(crate) fn leaves(&self, calls: usize) {
        self.waiting.fetch_sub(calls, Relaxed);
    }

    /// The Redis has decided.
    pub(crate) fn shared(&self, place: &str) {
        if self.turn(Mode::Shared) {
            self.tell(Mode::Shared, place, None);
        }
    }

    /// It could not be asked.
    pub(crate) fn alone(&self, error: &RedisError) {
        *lock(&self.fault) = Some(error.clone());
        if self.turn(Mode::Alone) {
            self.tell(Mode::Alone, error.place(), Some(error));
        }
    }

    fn turn(&self, mode: Mode) -> bool {
        // Read first, because a write wakes nobody but takes the lock of all readers.
        *self.mode.borrow() != mode
            && self.mode.send_if_modified(|old| std::mem::replace(old, mode) != mode)
    }

    #[cfg(feature = "tracing")]
    fn tell(&self, mode: Mode, place: &str, error: Option<&RedisError>) {
        tracing::warn!(
            target: "stockade",
            layer = "rate",
            name = self.name,
            redis = place,
            mode = ?mode,
            error = error.map(tracing::field::display),
            "the rate limit has changed who decides"
        );
    }

    #[cfg(not(feature = "tracing"))]
    fn tell(&self, _: Mode, _: &str, _: Option<&RedisError>) {
        let _ = self.name;
    }
}
