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
    scale: Scale,
}

/// A monotonic clock that starts at zero, as its clones do, and follows tokio's, also when that is paused.
#[cfg(feature = "test-util")]
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    start: tokio::time::Instant,
}

/// How many nanoseconds 2 to the [`SHIFT`] ticks of a source are.
#[cfg(any(test, not(feature = "test-util")))]
#[derive(Clone, Copy, Debug)]
struct Scale(u64);

/// So many bits that the scale is off by less than a nanosecond in three minutes, and never too large.
#[cfg(any(test, not(feature = "test-util")))]
const SHIFT: u32 = 40;

// === impl Clock ===

#[cfg(not(feature = "test-util"))]
impl Clock {
    pub(crate) fn new() -> Self {
        let source = quanta::Clock::new();
        let (start, scale) = (source.raw(), Scale::of(&source));
        Self { source, start, scale }
    }

    #[inline]
    pub(crate) fn now(&self) -> Nanos {
        // A source may be a little behind on another core.
        self.scale.nanos(self.source.raw().saturating_sub(self.start)).into()
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

// === impl Scale ===

#[cfg(any(test, not(feature = "test-util")))]
impl Scale {
    fn of(source: &quanta::Clock) -> Self {
        Self(source.delta_as_nanos(0, 1 << SHIFT))
    }

    /// As `delta_as_nanos` does it, but the number of bits is known when this is compiled, and what kind of source it
    /// is was asked before.
    #[inline]
    fn nanos(self, ticks: u64) -> u64 {
        ((u128::from(ticks) * u128::from(self.0)) >> SHIFT) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_as_long_as_their_source_says() {
        let source = quanta::Clock::new();
        let scale = Scale::of(&source);
        for ticks in [0, 1, 1_000, 1 << 32, 1 << 45, 1 << 56] {
            let (exact, scaled) = (source.delta_as_nanos(0, ticks), scale.nanos(ticks));
            assert!(exact.abs_diff(scaled) <= 1 + exact / 100_000_000_000, "{exact} {scaled}");
        }
    }
}
