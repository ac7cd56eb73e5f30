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

/// Counts what is reported until its [end](Self::end), or until it is dropped, as by a panic.
#[derive(Debug)]
#[must_use = "what is reported counts until this is dropped"]
pub struct Counting {
    counts: bool,
    /// The sum of the counter outside.
    outer: Option<Duration>,
}

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
        let mut counting = Counting::begin(true);
        let result = f();
        self.0 = self.0.saturating_add(counting.end().unwrap_or_default());
        result
    }

    /// The sum so far.
    pub const fn waited(self) -> Duration {
        self.0
    }
}

// === impl Counting ===

impl Counting {
    /// Begins to count if `counts`: a layer measures only where it is configured to.
    #[inline]
    pub fn begin(counts: bool) -> Self {
        let outer = if counts { begin() } else { None };
        Self { counts, outer }
    }

    /// What was reported until now, which is the end; `None` if it did not count.
    #[inline]
    pub fn end(&mut self) -> Option<Duration> {
        if std::mem::take(&mut self.counts) { Some(end(self.outer)) } else { None }
    }
}

impl Drop for Counting {
    #[inline]
    fn drop(&mut self) {
        self.end();
    }
}

#[inline(never)]
fn begin() -> Option<Duration> {
    WAITED.replace(Some(Duration::ZERO))
}

/// Goes on with the sum of the counter outside. Returns that of the one inside.
#[inline(never)]
fn end(outer: Option<Duration>) -> Duration {
    let waited = WAITED.get().unwrap_or_default();
    WAITED.set(outer.map(|outer| outer.saturating_add(waited)));
    waited
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
        let mut counting = Counting::begin(false);
        record(MS);
        assert_eq!(counting.end(), None);
        counter.enter(|| drop(wait));
        assert_eq!(counter.waited(), Duration::from_nanos(1));
    }
}
