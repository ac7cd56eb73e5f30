//! When calls begin, for a fraction of what the clock costs.
//!
//! A call that is pending for the first time has a deadline from then on, and to look at the clock for it would cost
//! more than all the rest. The processor's own counter, read through `quanta`, is less than half as dear, but it
//! drifts and says nothing of tokio's clock. So it is only asked how long ago the clock was looked at: while that is
//! less than a [`WINDOW`], a call begins at the end of the window at the latest, and is given that. So a
//! deadline may come up to a ninth of a millisecond late, never early.
//!
//! The counter has to be calibrated first, for up to 210 ms. No call waits for that, nor does a program which makes
//! few: a thread does it when calls come [fast](BUSY), and ends. Until then, and where the processor has no counter
//! to be trusted, each call looks at the clock. So it does where tokio's clock is paused, or was: that shows
//! when the clock is looked at, for it then says another time than the system's. With the feature `test-util` the
//! counter is never used.

use std::{
    cell::Cell,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use tokio::time::Instant;

/// The processor's counter.
#[derive(Debug)]
struct Counter {
    clock: quanta::Clock,
    /// How far it counts within a [`WINDOW`].
    window: u64,
}

/// An instant until which all calls have begun that begin while the counter is in a window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Where the window begins.
    counted: u64,
    pub(crate) end: Instant,
}

static COUNTER: OnceLock<Counter> = OnceLock::new();

/// How long a look at the clock is good for.
const WINDOW: Duration = Duration::from_micros(100);

/// What the counter may have drifted in a window, and be apart from one processor to another.
const DRIFT: Duration = Duration::from_micros(12);

/// How long the counter is watched for how fast it counts.
const SAMPLE: Duration = Duration::from_millis(10);

/// So many looks at the clock by one thread in so much time, and the counter is calibrated.
const BUSY: (u32, Duration) = (1_024, Duration::from_millis(50));

/// The looks at the clock by a thread, since one of them.
#[derive(Clone, Copy, Debug, Default)]
struct Looks {
    count: u32,
    since: Option<Instant>,
}

thread_local! {
    static LOOKS: Cell<Looks> = const { Cell::new(Looks { count: 0, since: None }) };
}

// === impl Window ===

impl Window {
    /// Looks at the clock. What begins from now on, while [`holds`](Self::holds), has begun by the end of the window;
    /// there is none if the counter cannot be used.
    #[expect(clippy::disallowed_methods, reason = "to see whether tokio's clock is the system's")]
    pub(crate) fn open() -> (Instant, Option<Self>) {
        let Some(counter) = COUNTER.get() else {
            let now = Instant::now();
            if !cfg!(feature = "test-util") {
                calibrate_when_busy(now);
            }
            return (now, None);
        };
        // In this order: the window begins before the clock is looked at, and so it ends earlier.
        let counted = counter.clock.raw();
        let before = std::time::Instant::now();
        let now = Instant::now();
        let paused = now.into_std() < before || now.into_std() > std::time::Instant::now();
        let window = Self { counted, end: now + WINDOW + DRIFT };
        (now, (!paused).then_some(window))
    }

    /// Whether what begins now begins in the window.
    #[inline]
    pub(crate) fn holds(&self) -> bool {
        COUNTER.get().is_some_and(|it| it.clock.raw().wrapping_sub(self.counted) < it.window)
    }
}

impl Looks {
    /// One more. Tells whether they come so fast that a counter would pay.
    fn add(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let (most, within) = BUSY;
        self.count += 1;
        if self.count < most {
            return false;
        }
        *self = Self::default();
        now.saturating_duration_since(since) < within
    }
}

#[cold]
fn calibrate_when_busy(now: Instant) {
    static STARTED: AtomicBool = AtomicBool::new(false);
    let mut looks = LOOKS.get();
    let busy = looks.add(now);
    LOOKS.set(looks);
    if busy && !STARTED.swap(true, Relaxed) {
        // Should there be no thread to be had, then there is no counter either.
        let _ = thread::Builder::new().name("stockade-clock".to_owned()).spawn(calibrate);
    }
}

#[expect(clippy::disallowed_methods, reason = "tokio's clock may be paused")]
pub(crate) fn calibrate() {
    let clock = quanta::Clock::new();
    // The clock only tells the length of what was counted, so many counts are taken, and divided.
    const MANY: u64 = 1 << 30;
    let told = per_window(MANY, Duration::from_nanos(clock.delta_as_nanos(0, MANY)));
    // It is wrong if its thread lost the processor between two looks that belong together. Here, counts are only missed
    // by that, and windows that are too short are not wrong.
    let start = std::time::Instant::now();
    let first = clock.raw();
    thread::sleep(SAMPLE);
    let counted = clock.raw().saturating_sub(first);
    let seen = per_window(counted, start.elapsed());
    let _ = COUNTER.set(Counter { clock, window: told.min(seen) });
}

/// How far that counts in a window which counts so far in `took`.
fn per_window(counted: u64, took: Duration) -> u64 {
    let window = u128::from(counted) * WINDOW.as_nanos() / took.as_nanos().max(1);
    u64::try_from(window).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_in_a_window_begins_before_it_ends() {
        calibrate();
        let mut held = 0_u32;
        for _ in 0..500 {
            let Some(window) = Window::open().1 else { continue };
            assert!(window.end <= Instant::now() + WINDOW + DRIFT);
            loop {
                let now = Instant::now();
                if !window.holds() {
                    break;
                }
                assert!(now <= window.end, "{:?} too early", now - window.end);
                held += 1;
            }
        }
        assert!(held > 500);
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_clock_has_no_windows() {
        calibrate();
        for _ in 0..10 {
            let before = Instant::now();
            let (now, window) = Window::open();
            assert!(now == before && window.is_none());
            tokio::time::advance(Duration::from_millis(7)).await;
        }
        tokio::time::resume();
        assert!(Window::open().1.is_none(), "it is not the system's any more");
    }

    #[test]
    fn a_counter_pays_when_calls_come_fast_and_only_then() {
        let start = Instant::now();
        let busy = |apart: Duration| {
            let mut looks = Looks::default();
            (0..3 * BUSY.0).any(|n| looks.add(start + apart * n))
        };
        assert!(busy(Duration::ZERO) && busy(Duration::from_micros(40)));
        assert!(!busy(Duration::from_micros(60)) && !busy(Duration::from_millis(7)));
    }
}
