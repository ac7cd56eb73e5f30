//! The clock of the request path: nanoseconds since it was made.
//!
//! The processor's own counter, read through `quanta`, is about half as dear as the clock of the system,
//! and here the clock is most of what a call costs. The first such clock of a process is calibrated
//! against the system's for up to 200 ms; that is when the first layer is made, never when a call is. There
//! is no thread behind it.
//!
//! A head of the queue sleeps on tokio's clock and decides on this one. Where the two drift apart it
//! may find itself early, and then sleeps again.

use governor::nanos::Nanos;

/// A monotonic clock that starts at zero; a clone has the same zero.
#[cfg(not(feature = "test-util"))]
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    source: quanta::Clock,
    start: u64,
}

/// A monotonic clock that starts at zero, as its clones do, and follows tokio's, also when that is paused.
#[cfg(feature = "test-util")]
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    start: tokio::time::Instant,
}

// === impl Clock ===

#[cfg(not(feature = "test-util"))]
impl Clock {
    pub(crate) fn new() -> Self {
        let source = quanta::Clock::new();
        let start = source.raw();
        Self { source, start }
    }

    #[inline]
    pub(crate) fn now(&self) -> Nanos {
        let now = self.source.raw();
        self.source.delta_as_nanos(self.start, now).into()
    }
}

#[cfg(feature = "test-util")]
impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: tokio::time::Instant::now() }
    }

    pub(crate) fn now(&self) -> Nanos {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX / 2).into()
    }
}
