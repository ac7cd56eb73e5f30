//! How long the call at hand has waited for a permit or a token of a layer inside.
//!
//! A layer that measures the service, such as a breaker with a limit for slow calls, must not count the
//! queues of its own stack. It enters a [`Counter`] around each poll of what is inside; a layer that lets a
//! call wait reports how long. Where nobody counts, a wait costs nothing.

use std::{cell::Cell, time::Duration};

use tokio::time::Instant;

thread_local! {
    /// What was reported since the innermost counter was entered; `None` where nobody counts.
    static WAITED: Cell<Option<Duration>> = const { Cell::new(None) };
}

/// What a wait is reported as at least, so that one that took no time can be told from none.
const SHORTEST: Duration = Duration::from_nanos(1);

/// Reports that the call at hand has waited for `wait`.
pub fn record(wait: Duration) {
    WAITED.set(WAITED.get().map(|waited| waited.saturating_add(wait)));
}

/// Whether somebody counts the waits of the call at hand.
pub fn is_counted() -> bool {
    WAITED.get().is_some()
}

/// Sums up the waits of one call.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use stockade_core::waits::{self, Counter};
///
/// let mut counter = Counter::default();
/// counter.enter(|| waits::record(Duration::from_millis(7)));
/// assert_eq!(counter.waited(), Duration::from_millis(7));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter(Duration);

/// A wait that is reported when it is dropped, for as long as it took, or as the shortest one where nobody
/// counted when it began.
///
/// So a counter that is entered only while a call is dropped still learns whether the call was waiting.
#[derive(Debug)]
pub struct Wait(Option<Instant>);

// === impl Counter ===

impl Counter {
    /// Runs `f`, and adds what is reported meanwhile. A counter outside hears of it too.
    #[inline]
    pub fn enter<R>(&mut self, f: impl FnOnce() -> R) -> R {
        self.enter_if(true, f)
    }

    /// Runs `f`, and counts only if `counts`: for a layer that measures only where it is configured to.
    #[inline(always)]
    pub fn enter_if<R>(&mut self, counts: bool, f: impl FnOnce() -> R) -> R {
        let scope =
            counts.then(|| Scope { outer: WAITED.replace(Some(Duration::ZERO)), counter: self });
        let result = f();
        drop(scope);
        result
    }

    /// The sum so far.
    pub const fn waited(self) -> Duration {
        self.0
    }
}

/// Puts the outer sum back, also when `f` panics.
struct Scope<'a> {
    outer: Option<Duration>,
    counter: &'a mut Counter,
}

impl Drop for Scope<'_> {
    #[inline]
    fn drop(&mut self) {
        let waited = WAITED.get().unwrap_or_default();
        self.counter.0 = self.counter.0.saturating_add(waited);
        WAITED.set(self.outer.map(|outer| outer.saturating_add(waited)));
    }
}

// === impl Wait ===

impl Wait {
    /// A wait that begins now. Where nobody counts no clock is read.
    pub fn start() -> Self {
        Self(WAITED.get().map(|_| Instant::now()))
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let waited = self.0.map_or(Duration::ZERO, |since| since.elapsed());
        record(waited.max(SHORTEST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_wait_reaches_every_counter_around_it_and_none_beside_it() {
        let (mut outer, mut inner, mut beside) =
            (Counter::default(), Counter::default(), Counter::default());
        outer.enter(|| {
            record(MS);
            inner.enter(|| record(MS * 2));
            beside.enter(|| ());
        });
        record(MS * 4);
        assert_eq!([outer, inner, beside].map(Counter::waited), [MS * 3, MS * 2, Duration::ZERO]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_reported_when_it_is_dropped() {
        let mut counter = Counter::default();
        assert!(!is_counted() && counter.enter(is_counted));
        let wait = counter.enter(Wait::start);
        tokio::time::advance(MS * 5).await;
        counter.enter(|| drop(wait));
        assert_eq!(counter.waited(), MS * 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_began_where_nobody_counted_is_reported_as_the_shortest() {
        let mut counter = Counter::default();
        let wait = Wait::start();
        tokio::time::advance(MS * 5).await;
        counter.enter_if(false, || record(MS));
        assert_eq!(counter.waited(), Duration::ZERO);
        counter.enter(|| drop(wait));
        assert_eq!(counter.waited(), Duration::from_nanos(1));
    }
}
