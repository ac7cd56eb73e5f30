//! How often the current call has been tried. A retry layer records its attempts, and a pool's worker reads them.
//!
//! The count is ambient, like the [deadline](crate::deadline): a [`Counter`] is entered around each poll of a call,
//! and counts what is [recorded](record) anywhere inside. A call that is never retried costs nothing here.

use std::cell::Cell;

thread_local! {
    static REPEATS: Cell<u32> = const { Cell::new(0) };
}

/// Records that the current call is tried once more.
pub fn record() {
    REPEATS.set(REPEATS.get().saturating_add(1));
}

/// Counts the attempts of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter(u32);

impl Counter {
    /// Runs `f`, and counts what is recorded in it.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn enter<R>(&mut self, f: impl FnOnce() -> R) -> R {
        let scope = Scope { outer: REPEATS.replace(0), counter: self };
        let result = f();
        drop(scope);
        result
    }

    /// The number of attempts so far, the first one included.
    pub const fn attempts(self) -> u32 {
        self.0.saturating_add(1)
    }
}

/// Puts the outer count back, even if `f` panics.
struct Scope<'a> {
    outer: u32,
    counter: &'a mut Counter,
}

impl Drop for Scope<'_> {
    #[inline]
    fn drop(&mut self) {
        self.counter.0 = self.counter.0.saturating_add(REPEATS.replace(self.outer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_only_what_happens_inside() {
        let (mut outer, mut inner) = (Counter::default(), Counter::default());
        outer.enter(|| {
            record();
            inner.enter(|| {
                record();
                record();
            });
            record();
        });
        record();
        assert_eq!(outer.attempts(), 3);
        assert_eq!(inner.attempts(), 3);
        assert_eq!(Counter::default().attempts(), 1);
    }
}
