//! The ambient deadline: the instant by which the current call must have ended.
//!
//! A timeout layer [enters](Deadline::enter) its deadline around the inner `call` and around each poll of what is
//! inside. Every layer inside can ask for it with [`current`], and a pool carries it to the worker. So no layer
//! sleeps, queues or starts work that cannot end in time.
//!
//! A deadline that counts from now is fixed only when it is first needed: when a layer asks for it, or at the first
//! pending poll. A call that is answered at once reads no clock for it. When one deadline is fixed, all that are
//! entered at that time are fixed by the same look at the clock.

use std::{
    cell::Cell,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;

use tokio::time::Instant;

// All that is entered is kept as the earliest of those that are fixed and the shortest of those that are not. What was
// there before a deadline was entered stands in its `Scope`, on the stack. It belongs to a thread, because a deadline is
// entered around each poll, never across one.
thread_local! {
    static AMBIENT: Ambient = const { Ambient::none() };
}

struct Ambient {
    /// The shortest limit that counts from when it is first needed, in nanoseconds, or [`NO_LIMIT`].
    limit: Cell<u64>,
    /// The earliest instant that is fixed.
    at: Cell<Option<Instant>>,
    /// When the limits were fixed, of which there is none left then.
    fixed: Cell<Option<Instant>>,
}

/// Longer than any limit.
const NO_LIMIT: u64 = u64::MAX;

// === impl Ambient ===

impl Ambient {
    const fn none() -> Self {
        Self { limit: Cell::new(NO_LIMIT), at: Cell::new(None), fixed: Cell::new(None) }
    }

    #[inline]
    fn is_set(&self) -> bool {
        self.limit.get() != NO_LIMIT || self.at.get().is_some()
    }

    /// Fixes what counts from `now`.
    #[inline(never)]
    fn fix(&self, now: Instant) {
        let end = add(now, self.limit.replace(NO_LIMIT));
        self.at.set(Some(self.at.get().map_or(end, |at| at.min(end))));
        self.fixed.set(Some(now));
    }

    /// Fixes all that is entered, and returns the earliest.
    #[inline(never)]
    fn earliest(&self) -> Option<Instant> {
        if self.limit.get() != NO_LIMIT {
            self.fix(Instant::now());
        }
        self.at.get()
    }
}

/// The instant by which the current call must have ended, if there is one.
///
/// Fixes a deadline that counts from now. Without a deadline it reads no clock.
#[inline]
pub fn current() -> Option<Instant> {
    AMBIENT.with(|ambient| if ambient.is_set() { ambient.earliest() } else { None })
}

/// Whether there is a deadline. Fixes nothing, and reads no clock.
#[inline]
pub fn is_set() -> bool {
    AMBIENT.with(Ambient::is_set)
}

/// Whether `instant` is too late: at the deadline or after it. Without a deadline nothing is too late, and no
/// clock is read.
#[inline]
pub fn is_too_late(instant: Instant) -> bool {
    current().is_some_and(|deadline| deadline <= instant)
}

/// Whether the deadline has passed; without one no clock is read.
#[inline]
pub fn has_passed() -> bool {
    current().is_some_and(|deadline| deadline <= Instant::now())
}

/// `instant + duration`, or an instant some thirty years away where that does not fit.
#[inline]
pub fn saturating_add(instant: Instant, duration: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 86_400);
    // No panic is possible: what may panic where a call is made keeps the future that was made in memory.
    instant.checked_add(duration).or_else(|| instant.checked_add(FAR)).unwrap_or(instant)
}

/// A deadline of one call, kept by the layer that sets it.
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
    /// So many nanoseconds from when it is first needed; all ones are [`NONE`](Self::NONE).
    After(u64),
    /// Is fixed at this instant.
    At(Instant),
}

pin_project! {
    /// A future with a deadline of its own, or with none; made by [`scope`] and [`shared`].
    #[derive(Debug)]
    pub struct Scoped<F> {
        #[pin]
        future: F,
        deadline: Option<Instant>,
        hides: bool,
    }
}

/// Runs `future` under `deadline`, or under the one that is set where it is polled if that is earlier.
///
/// The deadline is set around each poll of a call, so **it ends at `tokio::spawn`**: a task that is spawned has none,
/// however little time the call has that spawned it. This carries it along; [`carry`](crate::carry()) does so for the
/// priority too.
///
/// ```
/// use std::time::Duration;
/// use stockade_core::deadline::{self, Deadline};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let mut call = Deadline::after(Duration::from_secs(1));
/// let (bare, carried) = call.enter(|| {
///     let bare = tokio::spawn(async { deadline::current() });
///     let carried = deadline::scope(deadline::current(), async { deadline::current() });
///     (bare, tokio::spawn(carried))
/// });
/// assert_eq!(bare.await.unwrap(), None);
/// assert_eq!(carried.await.unwrap(), call.fixed());
/// # }
/// ```
pub const fn scope<F>(deadline: Option<Instant>, future: F) -> Scoped<F> {
    Scoped { future, deadline, hides: false }
}

/// Runs `future` under no deadline, whatever is set where it is polled.
///
/// For work that several callers wait for, such as a `futures::future::Shared`. It must not end because the caller
/// that happens to poll it has little time. Each caller still waits under its own deadline.
pub const fn shared<F>(future: F) -> Scoped<F> {
    Scoped { future, deadline: None, hides: true }
}

/// Runs `f` under no deadline, whatever is set where it runs: [`shared`] for what is no future.
pub fn hidden<R>(f: impl FnOnce() -> R) -> R {
    let mut none = Deadline::NONE;
    // It keeps what is entered outside, and puts it back.
    let _scope = none.scope();
    AMBIENT.with(|ambient| {
        ambient.limit.set(NO_LIMIT);
        ambient.at.set(None);
    });
    f()
}

// === impl Scoped ===

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let poll = || match *this.deadline {
            Some(at) => Deadline::At(at).enter(|| this.future.poll(cx)),
            None => this.future.poll(cx),
        };
        if *this.hides { hidden(poll) } else { poll() }
    }
}

// === impl Deadline ===

impl Deadline {
    /// None: to enter it changes nothing.
    pub const NONE: Self = Self::After(NO_LIMIT);

    /// A deadline that counts from when it is first needed. A limit above 584 years is as good as that.
    #[inline]
    pub const fn after(limit: Duration) -> Self {
        let nanos = limit.as_nanos();
        Self::After(if nanos < NO_LIMIT as u128 { nanos as u64 } else { NO_LIMIT - 1 })
    }

    /// Runs `f` under this deadline, or under an outer one if that is earlier.
    #[inline]
    pub fn enter<R>(&mut self, f: impl FnOnce() -> R) -> R {
        let _scope = self.scope();
        f()
    }

    /// Enters this deadline until what is returned is dropped.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn scope(&mut self) -> Scope<'_> {
        AMBIENT.with(|ambient| {
            let (limit, at) = (ambient.limit.get(), ambient.at.get());
            let fixed = ambient.fixed.take();
            match *self {
                Self::After(own) => ambient.limit.set(limit.min(own)),
                Self::At(own) => ambient.at.set(Some(at.map_or(own, |at| at.min(own)))),
            }
            Scope { deadline: self, limit, at, fixed }
        })
    }

    /// The instant, which is fixed now if it was not.
    #[inline]
    pub fn fix(&mut self) -> Instant {
        let at = match *self {
            Self::At(at) => at,
            Self::After(limit) => add(Instant::now(), limit),
        };
        *self = Self::At(at);
        at
    }

    /// The instant, if it is fixed.
    pub const fn fixed(&self) -> Option<Instant> {
        match *self {
            Self::At(at) => Some(at),
            Self::After(_) => None,
        }
    }
}

/// Leaves a deadline when it is dropped, also by a panic: what is entered outside is the ambient one again. Both may have
/// been fixed inside.
#[derive(Debug)]
#[must_use = "the deadline is left when this is dropped"]
pub struct Scope<'a> {
    deadline: &'a mut Deadline,
    limit: u64,
    at: Option<Instant>,
    fixed: Option<Instant>,
}

impl Drop for Scope<'_> {
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn drop(&mut self) {
        AMBIENT.with(|ambient| {
            ambient.limit.set(self.limit);
            ambient.at.set(self.at);
            let Some(now) = ambient.fixed.replace(self.fixed) else { return };
            if let Deadline::After(limit) = *self.deadline
                && limit != NO_LIMIT
            {
                *self.deadline = Deadline::At(add(now, limit));
            }
            if self.limit != NO_LIMIT {
                ambient.fix(now);
            }
        });
    }
}

#[inline(never)]
fn add(since: Instant, nanos: u64) -> Instant {
    saturating_add(since, Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    #[tokio::test(start_paused = true)]
    async fn a_fixed_deadline_between_two_limits_goes_when_it_is_left() {
        let start = Instant::now();
        let (mut outer, mut inner) = (Deadline::after(SECOND * 5), Deadline::after(SECOND * 3));
        let (between, after) = outer.enter(|| {
            let seen = Deadline::At(start + SECOND).enter(|| inner.enter(current));
            (seen, current())
        });
        assert_eq!(between, Some(start + SECOND));
        assert_eq!(after, Some(start + SECOND * 5));
        assert_eq!(outer.fixed(), Some(start + SECOND * 5));
        assert_eq!(inner.fixed(), Some(start + SECOND * 3));
        assert!(!is_set());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_fixed_later_inside_moves_nothing_outside() {
        let start = Instant::now();
        let mut outer = Deadline::after(SECOND * 5);
        let fixed_at = |outer: &mut Deadline, between: Option<Instant>| {
            let (mut first, mut second) =
                (Deadline::after(SECOND * 2), Deadline::after(SECOND * 2));
            outer.enter(|| {
                let mut inside = || {
                    first.enter(current);
                    // A poll that takes long; the clock is moved without a turn of the runtime.
                    tokio_test::task::spawn(tokio::time::advance(SECOND)).poll().is_ready();
                    second.enter(current);
                };
                match between {
                    Some(at) => Deadline::At(at).enter(inside),
                    None => inside(),
                }
            });
            outer.fixed()
        };
        assert_eq!(fixed_at(&mut outer, None), Some(start + SECOND * 5));
        let (mut outer, start) = (Deadline::after(SECOND * 5), Instant::now());
        assert_eq!(fixed_at(&mut outer, Some(start + SECOND)), Some(start + SECOND * 5));
        assert!(!is_set());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Enter(Deadline),
        EnterAt(u64),
        Leave,
        Ask,
        Pass(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (1..20_u64).prop_map(|n| Step::Enter(Deadline::after(SECOND * n as u32))),
            1 => (1..20_u64).prop_map(Step::EnterAt),
            3 => Just(Step::Leave),
            2 => Just(Step::Ask),
            1 => (1..4_u64).prop_map(Step::Pass),
        ];
        prop::collection::vec(step, 0..60)
    }

    /// Plays the steps up to where what is entered is left, beside a list of all that is entered.
    fn play(steps: &mut impl Iterator<Item = Step>, entered: &mut Vec<Deadline>) {
        while let Some(step) = steps.next() {
            let now = Instant::now();
            let mut deadline = match step {
                Step::Enter(deadline) => deadline,
                Step::EnterAt(after) => Deadline::At(now + Duration::from_secs(after)),
                Step::Leave if entered.is_empty() => continue,
                Step::Leave => return,
                Step::Ask => {
                    assert_eq!(is_set(), !entered.is_empty());
                    let all = entered.iter_mut().map(Deadline::fix);
                    assert_eq!(current(), all.min());
                    continue;
                }
                Step::Pass(time) => {
                    let time = Duration::from_secs(time);
                    tokio_test::task::spawn(tokio::time::advance(time)).poll().is_ready();
                    continue;
                }
            };
            entered.push(deadline);
            deadline.enter(|| play(steps, entered));
            assert_eq!(Some(deadline), entered.pop());
        }
    }

    proptest! {
        #[test]
        fn behaves_like_a_list_of_all_that_is_entered(steps in steps()) {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_time().start_paused(true).build().unwrap();
            let _inside = runtime.enter();
            play(&mut steps.into_iter(), &mut Vec::new());
            prop_assert!(!is_set());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn shared_work_sees_no_deadline_of_the_caller_that_polls_it() {
        let mut caller = Deadline::after(SECOND);
        let mut work = tokio_test::task::spawn(shared(async {
            let outside = current();
            let own = scope(Some(Instant::now() + SECOND * 3), async { current() }).await;
            (outside, own)
        }));
        let start = Instant::now();
        let polled = caller.enter(|| work.poll());
        assert_eq!(polled, Poll::Ready((None, Some(start + SECOND * 3))));
        assert_eq!(caller.fixed(), None, "nothing inside has asked for it");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_hidden_is_there_again_afterwards() {
        let now = Instant::now();
        let [mut outer, mut inner, mut own] = [1, 2, 3].map(|n| Deadline::after(SECOND * n));
        let mut inside = || (hidden(|| (is_set(), own.enter(current))), current());
        let (seen, after) = outer.enter(|| inner.enter(&mut inside));
        assert_eq!(seen, (false, Some(now + SECOND * 3)));
        assert_eq!(after, Some(now + SECOND));
        assert_eq!(outer.fixed(), Some(now + SECOND));
        assert_eq!(inner.fixed(), Some(now + SECOND * 2));
        assert!(!is_set());
    }

    #[tokio::test(start_paused = true)]
    async fn scope_carries_a_deadline_into_a_task() {
        let mut call = Deadline::after(SECOND);
        let start = Instant::now();
        let task = call.enter(|| tokio::spawn(scope(current(), async { current() })));
        assert_eq!(task.await.unwrap(), Some(start + SECOND));
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
