//! The ambient priority: how much it matters that the current call is answered when not all can be.
//!
//! A [`PriorityLayer`] gives each call a [`Priority`], and [`scope`] a future. Everything inside can ask for it with
//! [`current`], and a pool carries it to the worker. Like the [deadline](crate::deadline) it is set around each poll, so
//! it ends at `tokio::spawn`, unless [`scope`] or [`carry`](crate::carry()) takes it along.
//!
//! It changes nothing by itself: a limit, a rate limit and a pool look at it where they are told to.

mod layer;

use std::{
    cell::Cell,
    error, fmt,
    pin::Pin,
    str::FromStr,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

pub use layer::{Prioritized, PriorityLayer};

// It belongs to a thread, because a priority is entered around each poll, never across one.
thread_local! {
    static CURRENT: Cell<Priority> = const { Cell::new(Priority::Default) };
}

/// How much it matters that a call is answered.
///
/// `Critical > Default > Sheddable > Background`, as in "Handling Overload" of Google's *Site Reliability Engineering*
/// (2016), where the classes are called criticality.
///
/// # Example
///
/// ```
/// use stockade_core::priority::Priority;
///
/// let read: Priority = "sheddable".parse().unwrap();
/// assert!(read < Priority::Default && read > Priority::Background);
/// assert_eq!(read.to_string(), "sheddable");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// It is done when there is time, and nobody waits: batches, prefetching, reports.
    Background,
    /// It may be left out now and then, and is tried again later: what a page can be shown without.
    Sheddable,
    /// All else: the priority of a call that was given none.
    #[default]
    Default,
    /// It must not fail if anything can be done about it: a payment, a login, a health check.
    Critical,
}

/// A text that names no [`Priority`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownPriority(());

/// The earlier priority is the current one again when this is dropped, also by a panic.
#[derive(Debug)]
#[must_use = "the priority is left when this is dropped"]
pub struct Scope {
    outer: Priority,
}

pin_project! {
    /// A future with a priority of its own; made by [`scope`].
    #[derive(Debug)]
    pub struct Scoped<F> {
        #[pin]
        future: F,
        priority: Priority,
    }
}

/// The priority of the current call; [`Priority::Default`] if it was given none.
#[inline]
pub fn current() -> Priority {
    CURRENT.get()
}

/// Runs `future` with `priority`, whatever is set where it is polled.
///
/// A task that is spawned starts with [`Priority::Default`]. This carries the priority along; to carry the deadline as
/// well use [`carry`](crate::carry()).
///
/// ```
/// use stockade_core::priority::{self, Priority};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let task = tokio::spawn(priority::scope(Priority::Background, async { priority::current() }));
/// assert_eq!(task.await.unwrap(), Priority::Background);
/// assert_eq!(priority::current(), Priority::Default);
/// # }
/// ```
pub const fn scope<F>(priority: Priority, future: F) -> Scoped<F> {
    Scoped { future, priority }
}

// === impl Priority ===

impl Priority {
    /// All of them, the lowest first.
    pub const ALL: [Self; 4] = [Self::Background, Self::Sheddable, Self::Default, Self::Critical];

    /// Its name in headers, labels and events: `critical`, `default`, `sheddable` or `background`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Default => "default",
            Self::Sheddable => "sheddable",
            Self::Background => "background",
        }
    }

    /// Runs `f` with this priority.
    #[inline]
    pub fn enter<R>(self, f: impl FnOnce() -> R) -> R {
        let _scope = self.scope();
        f()
    }

    /// Makes this the current priority until what is returned is dropped.
    #[inline]
    pub fn scope(self) -> Scope {
        Scope { outer: CURRENT.replace(self) }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Reads what [`as_str`](Priority::as_str) writes, in upper or lower case.
impl FromStr for Priority {
    type Err = UnknownPriority;

    fn from_str(text: &str) -> Result<Self, UnknownPriority> {
        let named = |priority: &Self| priority.as_str().eq_ignore_ascii_case(text);
        Self::ALL.into_iter().find(named).ok_or(UnknownPriority(()))
    }
}

// === impl UnknownPriority ===

impl fmt::Display for UnknownPriority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a priority is one of critical, default, sheddable and background")
    }
}

impl error::Error for UnknownPriority {}

// === impl Scope ===

impl Drop for Scope {
    #[inline]
    fn drop(&mut self) {
        CURRENT.set(self.outer);
    }
}

// === impl Scoped ===

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.priority.enter(|| this.future.poll(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn critical_is_above_default_above_sheddable_above_background() {
        use Priority::*;
        assert!(Critical > Default && Default > Sheddable && Sheddable > Background);
        assert_eq!(Priority::default(), Default);
        assert!(Priority::ALL.is_sorted());
    }

    #[test]
    fn each_priority_is_read_as_it_is_written() {
        for priority in Priority::ALL {
            assert_eq!(priority.to_string().parse(), Ok(priority));
            assert_eq!(priority.as_str().to_uppercase().parse(), Ok(priority));
        }
        assert_eq!("urgent".parse::<Priority>(), Err(UnknownPriority(())));
        assert_eq!("".parse::<Priority>(), Err(UnknownPriority(())));
    }

    #[test]
    fn the_innermost_priority_counts_and_the_outer_one_is_there_again_afterwards() {
        let (inner, after) = Priority::Critical.enter(|| {
            let inner = Priority::Background.enter(current);
            (inner, current())
        });
        assert_eq!((inner, after), (Priority::Background, Priority::Critical));
        assert_eq!(current(), Priority::Default);
    }

    #[test]
    fn a_panic_inside_leaves_nothing_behind() {
        let caught = std::panic::catch_unwind(|| {
            Priority::Critical.enter(|| panic!("inside"));
        });
        assert!(caught.is_err());
        assert_eq!(current(), Priority::Default);
    }

    #[tokio::test]
    async fn scope_gives_a_task_its_priority_at_every_poll() {
        let task = tokio::spawn(scope(Priority::Sheddable, async {
            let before = current();
            tokio::task::yield_now().await;
            (before, current())
        }));
        assert_eq!(current(), Priority::Default);
        assert_eq!(task.await.unwrap(), (Priority::Sheddable, Priority::Sheddable));
    }
}
