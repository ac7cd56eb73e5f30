//! The ambient deadline: the instant by which the call at hand must have ended.
//!
//! A timeout layer [enters](Deadline::enter) its deadline around the inner `call` and around each poll of
//! what is inside; [`current`] tells every layer inside, and a pool carries it across to the worker. So
//! no layer sleeps, queues or starts work that cannot end in time.
//!
//! A deadline that counts from now is fixed only when somebody first needs it: a layer that asks, or the
//! first pending poll. A call that is answered at once reads no clock for it. All deadlines that are
//! entered when one of them is fixed are fixed at the same instant.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;

use tokio::time::Instant;

// What is ambient is thread-local, because it is set around each poll, never across one. On the path of a call
// that nobody asks about, only `LIMIT` is written: once going in and once coming out.
thread_local! {
    /// The shortest of the limits that are not fixed yet, in nanoseconds.
    static LIMIT: Cell<u64> = const { Cell::new(NONE) };
    /// The earliest of the deadlines that were fixed when they were entered.
    static AT: Cell<Option<Instant>> = const { Cell::new(None) };
    /// What was fixed meanwhile.
    static FIXED: Cell<Option<Fixed>> = const { Cell::new(None) };
    /// What was fixed before that, for each time that limits were fixed whose scopes have not all been left.
    static BEFORE: RefCell<Vec<Option<Fixed>>> = const { RefCell::new(Vec::new()) };
}

/// Limits that were entered, and then fixed.
#[derive(Clone, Copy)]
struct Fixed {
    since: Instant,
    /// The earliest, of those before too.
    at: Instant,
}

/// No limit. A real one is below.
const NONE: u64 = u64::MAX;

/// The instant by which the call at hand must have ended, if there is one.
///
/// The first question fixes a deadline that counts from now; without any deadline no clock is read.
#[inline]
pub fn current() -> Option<Instant> {
    if LIMIT.get() != NONE {
        fix();
    }
    let fixed = FIXED.get().map(|fixed| fixed.at);
    fixed.map_or(AT.get(), |fixed| Some(earliest(AT.get(), fixed)))
}

/// Fixes the limits that are entered, as of now.
#[cold]
fn fix() {
    let since = Instant::now();
    let before = FIXED.get();
    let at = earliest(before.map(|before| before.at), add(since, LIMIT.replace(NONE)));
    with_before(|all| all.push(before));
    FIXED.set(Some(Fixed { since, at }));
}

/// Where a thread ends there is nothing before any more.
fn with_before<R>(f: impl FnOnce(&mut Vec<Option<Fixed>>) -> R) -> Option<R> {
    BEFORE.try_with(|all| f(&mut all.borrow_mut())).ok()
}

fn add(since: Instant, limit: u64) -> Instant {
    saturating_add(since, Duration::from_nanos(limit))
}

fn earliest(one: Option<Instant>, other: Instant) -> Instant {
    one.map_or(other, |one| one.min(other))
}

/// Whether there is a deadline at all. Fixes nothing and reads no clock.
#[inline]
pub fn is_set() -> bool {
    LIMIT.get() != NONE || AT.get().is_some() || FIXED.get().is_some()
}

/// Whether `instant` is too late: at the deadline or after it. Without a deadline nothing is too late, and no
/// clock is read.
#[inline]
pub fn is_too_late(instant: Instant) -> bool {
    is_set() && current().is_some_and(|deadline| deadline <= instant)
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
    After(Nanos),
    /// Is fixed.
    At(Instant),
}

/// How long a call may take, to the nanosecond and up to 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanos(u64);

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
/// A task that is spawned has no ambient deadline. This carries it along:
///
/// ```
/// use stockade_core::deadline;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let task = tokio::spawn(deadline::scope(deadline::current(), async { deadline::current() }));
/// assert_eq!(task.await.unwrap(), None);
/// # }
/// ```
pub const fn scope<F>(deadline: Option<Instant>, future: F) -> Scoped<F> {
    Scoped { future, deadline, hides: false }
}

/// Runs `future` under no deadline, whatever is set where it is polled.
///
/// For work that several callers wait for, such as a `futures::future::Shared`: it must not end because the
/// caller that happens to poll it has little time. Each caller still waits under its own deadline.
pub const fn shared<F>(future: F) -> Scoped<F> {
    Scoped { future, deadline: None, hides: true }
}

/// Runs `f` under no deadline, whatever is set where it runs: [`shared`] for what is no future.
pub fn hidden<R>(f: impl FnOnce() -> R) -> R {
    let _hidden = Hidden::enter();
    f()
}

// === impl Scoped ===

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _hidden = this.hides.then(Hidden::enter);
        match *this.deadline {
            Some(at) => Deadline::At(at).enter(|| this.future.poll(cx)),
            None => this.future.poll(cx),
        }
    }
}

/// What is ambient outside, put back when this is dropped.
struct Hidden {
    limit: u64,
    at: Option<Instant>,
    fixed: Option<Fixed>,
}

impl Hidden {
    fn enter() -> Self {
        Self { limit: LIMIT.replace(NONE), at: AT.take(), fixed: FIXED.take() }
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        LIMIT.set(self.limit);
        AT.set(self.at);
        FIXED.set(self.fixed);
    }
}

// === impl Deadline ===

impl Deadline {
    /// A deadline that counts from when somebody first needs it.
    #[inline]
    pub const fn after(limit: Duration) -> Self {
        Self::After(Nanos::new(limit))
    }

    /// Runs `f` under this deadline, or under an outer one where that is earlier.
    #[inline(always)]
    pub fn enter<R>(&mut self, f: impl FnOnce() -> R) -> R {
        match *self {
            Self::After(Nanos(limit)) => {
                let outer = LIMIT.get();
                let inner = limit.min(outer);
                LIMIT.set(inner);
                let _scope = AfterScope { deadline: self, limit, inner, outer };
                f()
            }
            Self::At(own) => {
                let at = AT.get();
                let _scope = AtScope(at);
                AT.set(Some(earliest(at, own)));
                f()
            }
        }
    }

    /// The instant, which is fixed now if it was not.
    #[inline]
    pub fn fix(&mut self) -> Instant {
        match *self {
            Self::At(at) => at,
            Self::After(Nanos(limit)) => {
                let at = add(Instant::now(), limit);
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

// === impl Nanos ===

impl Nanos {
    /// No time.
    pub const ZERO: Self = Self(0);

    /// The limit; what is longer than 584 years is as long as that.
    #[inline]
    pub const fn new(limit: Duration) -> Self {
        let nanos = limit.as_nanos();
        Self(if nanos < NONE as u128 { nanos as u64 } else { NONE - 1 })
    }

    /// The limit of so many nanoseconds.
    #[inline]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(if nanos < NONE { nanos } else { NONE - 1 })
    }

    /// The limit in nanoseconds.
    #[inline]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The limit less `spent`, or zero.
    #[inline]
    #[must_use]
    pub const fn saturating_sub(self, spent: Self) -> Self {
        Self(self.0.saturating_sub(spent.0))
    }

    /// The limit as a duration.
    pub const fn get(self) -> Duration {
        Duration::from_nanos(self.0)
    }
}

// === the scopes, which put back what was ambient, also when `f` panics ===

struct AfterScope<'a> {
    deadline: &'a mut Deadline,
    limit: u64,
    inner: u64,
    outer: u64,
}

struct AtScope(Option<Instant>);

impl Drop for AfterScope<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if LIMIT.replace(self.outer) != self.inner {
            self.fixed();
        }
    }
}

impl AfterScope<'_> {
    /// Somebody inside has asked.
    #[cold]
    fn fixed(&mut self) {
        let Some(Fixed { since, .. }) = FIXED.get() else { return };
        *self.deadline = Deadline::At(add(since, self.limit));
        if self.outer == NONE {
            // It is the outermost of those that were fixed together.
            FIXED.set(with_before(Vec::pop).flatten().flatten());
            return;
        }
        let before = with_before(|all| all.last().copied()).flatten().flatten();
        let at = earliest(before.map(|before| before.at), add(since, self.outer));
        LIMIT.set(NONE);
        FIXED.set(Some(Fixed { since, at }));
    }
}

impl Drop for AtScope {
    #[inline]
    fn drop(&mut self) {
        AT.set(self.0);
    }
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
            prop_assert!(BEFORE.with_borrow(Vec::is_empty));
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
