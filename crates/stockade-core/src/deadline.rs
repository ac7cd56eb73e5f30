//! The ambient deadline: the instant by which the call at hand must have ended.
//!
//! A timeout layer [enters](Deadline::enter) its deadline around the inner `call` and around each poll of
//! what is inside; [`current`] tells every layer inside, and a pool carries it across to the worker. So
//! no layer sleeps, queues or starts work that cannot end in time.
//!
//! A deadline that counts from now is fixed only when somebody first needs it: a layer that asks, or the
//! first pending poll. A call that is answered at once reads no clock for it. All deadlines that are
//! entered when one of them is fixed are fixed at the same instant.

use std::{cell::Cell, time::Duration};

use tokio::time::Instant;

/// What is ambient: thread-local, because it is set around each poll, never across one.
#[derive(Clone, Copy)]
struct Ambient {
    /// The earliest of the deadlines that are fixed.
    at: Option<Instant>,
    /// The shortest of the limits that are not fixed yet.
    limit: Option<Duration>,
    /// When a limit was fixed within the innermost scope.
    fixed: Option<Instant>,
}

thread_local! {
    static AMBIENT: Cell<Ambient> =
        const { Cell::new(Ambient { at: None, limit: None, fixed: None }) };
}

/// The instant by which the call at hand must have ended, if there is one.
///
/// The first question fixes a deadline that counts from now; without any deadline no clock is read.
#[inline]
pub fn current() -> Option<Instant> {
    let ambient = AMBIENT.get();
    match ambient.limit {
        None => ambient.at,
        Some(_) => {
            let fixed = ambient.fix(Instant::now());
            AMBIENT.set(fixed);
            fixed.at
        }
    }
}

/// Whether there is a deadline at all. Fixes nothing and reads no clock.
#[inline]
pub fn is_set() -> bool {
    let ambient = AMBIENT.get();
    ambient.at.is_some() || ambient.limit.is_some()
}

/// Whether what ends at `instant` would end after the deadline.
#[inline]
pub fn is_before(instant: Instant) -> bool {
    is_set() && current().is_some_and(|deadline| deadline < instant)
}

/// Whether the deadline has passed; without one no clock is read.
#[inline]
pub fn has_passed() -> bool {
    is_set() && current().is_some_and(|deadline| deadline <= Instant::now())
}

/// `instant + duration`, or an instant some thirty years away where that does not fit.
#[inline]
pub fn saturating_add(instant: Instant, duration: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 86_400);
    instant.checked_add(duration).unwrap_or_else(|| instant + FAR)
}

/// A deadline of one call, as the layer that sets it keeps it.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use stockade_core::deadline::{self, Deadline};
///
/// let mut call = Deadline::after(Duration::from_secs(1));
/// let inside = call.enter(|| deadline::current());
/// assert_eq!(inside, call.fixed());
/// assert_eq!(deadline::current(), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// Counts from when it is first needed.
    After(Duration),
    /// Is fixed.
    At(Instant),
}

// === impl Deadline ===

impl Deadline {
    /// A deadline that counts from when somebody first needs it.
    pub const fn after(limit: Duration) -> Self {
        Self::After(limit)
    }

    /// Runs `f` under this deadline, or under an outer one where that is earlier.
    #[inline]
    pub fn enter<R>(&mut self, f: impl FnOnce() -> R) -> R {
        let outer = AMBIENT.get();
        AMBIENT.set(outer.narrow(*self));
        let scope = Scope { outer, deadline: self };
        let result = f();
        drop(scope);
        result
    }

    /// The instant, which is fixed now if it was not.
    #[inline]
    pub fn fix(&mut self) -> Instant {
        match *self {
            Self::At(at) => at,
            Self::After(limit) => {
                let at = saturating_add(Instant::now(), limit);
                *self = Self::At(at);
                at
            }
        }
    }

    /// The instant, if it is fixed.
    pub const fn fixed(&self) -> Option<Instant> {
        match *self {
            Self::At(at) => Some(at),
            Self::After(_) => None,
        }
    }
}

// === impl Ambient ===

impl Ambient {
    #[inline]
    fn narrow(self, deadline: Deadline) -> Self {
        let (mut at, mut limit) = (self.at, self.limit);
        match deadline {
            Deadline::At(own) => at = Some(at.map_or(own, |outer| outer.min(own))),
            Deadline::After(own) => limit = Some(limit.map_or(own, |outer| outer.min(own))),
        }
        Self { at, limit, fixed: None }
    }

    fn fix(self, now: Instant) -> Self {
        let Some(limit) = self.limit else { return self };
        let own = saturating_add(now, limit);
        let at = self.at.map_or(own, |at| at.min(own));
        Self { at: Some(at), limit: None, fixed: Some(now) }
    }
}

/// Puts the outer deadline back, also when `f` panics, and takes along what was fixed inside.
struct Scope<'a> {
    outer: Ambient,
    deadline: &'a mut Deadline,
}

impl Drop for Scope<'_> {
    #[inline]
    fn drop(&mut self) {
        match AMBIENT.replace(self.outer).fixed {
            None => {}
            Some(now) => {
                if let Deadline::After(limit) = *self.deadline {
                    *self.deadline = Deadline::At(saturating_add(now, limit));
                }
                AMBIENT.set(self.outer.fix(now));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn nobody_asks_and_nothing_is_fixed() {
        let mut call = Deadline::after(SECOND);
        assert!(call.enter(is_set));
        assert!(!is_set());
        assert_eq!(call.fixed(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_wins_whatever_the_order() {
        let now = Instant::now();
        for limits in [[1, 2], [2, 1]] {
            let [mut outer, mut inner] = limits.map(|n| Deadline::after(SECOND * n));
            let seen = outer.enter(|| inner.enter(current));
            assert_eq!(seen, Some(now + SECOND));
            assert_eq!(outer.fixed(), Some(now + SECOND * limits[0]));
            assert_eq!(inner.fixed(), Some(now + SECOND * limits[1]));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_stays_where_it_was_fixed() {
        let start = Instant::now();
        let mut outer = Deadline::after(SECOND);
        outer.enter(current);
        tokio::time::advance(SECOND / 2).await;
        let mut inner = Deadline::after(SECOND);
        let seen = outer.enter(|| inner.enter(current));
        assert_eq!(seen, Some(start + SECOND));
        assert_eq!(inner.fixed(), Some(start + SECOND * 3 / 2));
        assert_eq!(outer.enter(current), Some(start + SECOND));
    }

    #[test]
    fn a_panic_inside_leaves_nothing_behind() {
        let caught = std::panic::catch_unwind(|| {
            Deadline::after(SECOND).enter(|| panic!("inside"));
        });
        assert!(caught.is_err());
        assert!(!is_set());
    }

    #[test]
    fn an_endless_limit_saturates() {
        let mut call = Deadline::after(Duration::MAX);
        assert!(call.fix() > Instant::now() + SECOND * 86_400);
    }
}
