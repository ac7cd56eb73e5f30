//! How many extra attempts there may be.
//!
//! Two stocks of tokens. Calls pay `ratio` of a token each into the first one, which leaks: in ten seconds it
//! loses what was in it, so a calm hour does not pay for a storm. Time pays `per_second` tokens a second into the
//! second one, which does not leak but has a bound: so a floor of one token an hour still pays out every hour. An
//! extra attempt takes one token, from both stocks together and from the leaking one first.
//!
//! Everything since the last look is settled in one step when a token is asked for. So paying in reads no clock,
//! and a month without a look costs the same as a moment. Tokens are whole billionths, rounded down.

use std::{fmt, ops::RangeInclusive, sync::Arc};

use tokio::time::Instant;

use crate::{
    config::{ConfigError, check, checked},
    internal::{
        lock,
        paid::new_id,
        sync::{
            Mutex,
            atomic::{AtomicU64, Ordering::Relaxed},
        },
    },
};

/// How many extra attempts there may be, as a share of the calls. It keeps retries and hedges from making an
/// overload worse.
///
/// Each call pays `ratio` of a token in, and each second `per_second` tokens; each extra attempt takes one. What
/// calls paid in leaks away within about ten seconds. What time paid in is kept up to ten seconds' worth, and at
/// least up to one token, which is also what a budget starts with. So
///
/// > extra attempts <= `ratio` x calls + `per_second` x seconds + the larger of 1 and `per_second` x 10
///
/// and any `per_second` above zero pays out in the long run. The default is `Budget::new(0.2, 10.0)`. The idea is
/// that of the retry budget in Twitter's Finagle.
///
/// A budget is a cheap handle: its clones share the tokens. Give a clone to each of several layers to let them
/// share one budget. A call that goes through several of them pays once, in the outermost one; but once in each where
/// one of them runs in another task, as behind a pool or a `tower::buffer`.
///
/// In a file (feature `serde`) it is `"unlimited"`, or a table with `ratio` and `per_second`, of which what is left out is
/// as in the default. Each one that is read is a budget of its own.
///
/// # Which budget to write
///
/// - **A server's client**, with calls all day: the default. When the service fails, it sees at most a fifth more
///   calls than without retries, and ten a second.
/// - **A batch**, for instance 1,000 jobs through a pool while the service restarts: with the default about 300 of
///   them are retried, and the others fail at once as over budget. If each job should have its attempts, write
///   `Budget::unlimited()` and let a circuit breaker and a concurrency limit protect the service; with
///   `Budget::new(1.0, 10.0)` each job may be repeated once on average.
/// - **Many processes** that call one service: each has a budget of its own, so keep `per_second` times their number
///   well below what the service can spare, or set it to zero and leave it to `ratio`. With a `ratio` alone, a client
///   that makes fewer than `1 / ratio` calls in ten seconds never has a whole token.
///
/// # Example
///
/// ```
/// use stockade_core::Budget;
/// use tokio::time::Instant;
///
/// // One extra attempt for ten calls.
/// let budget = Budget::new(0.1, 0.0);
/// budget.deposit(10);
/// assert!(budget.withdraw(Instant::now()));
/// assert!(!budget.clone().withdraw(Instant::now()));
/// ```
#[derive(Clone)]
pub struct Budget(Option<Arc<Shared>>);

struct Shared {
    id: u64,
    income: Income,
    /// The calls since a token was asked for. Beside the lock, because every call pays in, and few ask.
    calls: AtomicU64,
    pool: Mutex<Pool>,
}

/// What is paid in, in billionths of a token.
#[derive(Clone, Copy, Debug)]
struct Income {
    per_call: u64,
    per_second: u64,
}

/// What there is, in billionths of a token.
#[derive(Debug)]
struct Pool {
    /// From calls. It leaks.
    paid: u128,
    /// From time. It has a bound.
    floor: u128,
    /// The calls since the last look.
    calls: u64,
    looked: Instant,
}

pub(crate) const RATIO: RangeInclusive<f64> = 0.0..=10.0;
pub(crate) const PER_SECOND: RangeInclusive<f64> = 0.0..=1e6;

const TOKEN: u128 = 1_000_000_000;

/// The time in which what calls paid in leaks away, in nanoseconds: ten seconds.
const LEAK: u128 = 10 * SECOND;
const SECOND: u128 = 1_000_000_000;

// === impl Budget ===

impl Budget {
    /// `ratio` of an extra attempt for each call, and `per_second` extra attempts a second whatever is called.
    ///
    /// With `Budget::new(0.0, 0.0)` there are none.
    ///
    /// # Panics
    ///
    /// If `ratio` is not from 0 to 10, or `per_second` not from 0 to 1,000,000.
    #[track_caller]
    pub fn new(ratio: f64, per_second: f64) -> Self {
        checked(Self::try_new(ratio, per_second))
    }

    /// The same as [`new`](Self::new), with an error instead of a panic.
    ///
    /// # Errors
    ///
    /// If `ratio` is not from 0 to 10, or `per_second` not from 0 to 1,000,000.
    pub fn try_new(ratio: f64, per_second: f64) -> Result<Self, ConfigError> {
        let income = Income {
            per_call: billionths(check("Budget::new, ratio", ratio, RATIO)?),
            per_second: billionths(check("Budget::new, per_second", per_second, PER_SECOND)?),
        };
        Ok(Self::of(income))
    }

    /// No budget: every extra attempt is allowed.
    pub const fn unlimited() -> Self {
        Self(None)
    }

    fn of(income: Income) -> Self {
        let pool = Mutex::new(Pool::new(&income, Instant::now()));
        Self(Some(Arc::new(Shared { id: new_id(), income, calls: AtomicU64::new(0), pool })))
    }

    /// Tells it from all others; 0 if it is unlimited.
    pub(crate) fn id(&self) -> u64 {
        self.0.as_ref().map_or(0, |shared| shared.id)
    }

    /// A budget with the same rates that shares nothing with this one.
    #[must_use]
    pub fn fresh(&self) -> Self {
        self.0.as_ref().map_or(Self(None), |shared| Self::of(shared.income))
    }

    /// Pays in for `calls` calls. It reads no clock.
    ///
    /// Call it as the calls are made, or now and then for many of them: what is paid in late counts as paid in
    /// evenly since the last [`withdraw`](Self::withdraw).
    pub fn deposit(&self, calls: u64) {
        if let Some(shared) = &self.0 {
            shared.calls.fetch_add(calls, Relaxed);
        }
    }

    /// Takes a token for an extra attempt. False if there is none.
    pub fn withdraw(&self, now: Instant) -> bool {
        let Some(shared) = &self.0 else { return true };
        let mut pool = lock(&shared.pool);
        pool.deposit(shared.calls.swap(0, Relaxed));
        pool.withdraw(&shared.income, now)
    }

    /// Gives a token back whose extra attempt was not made after all.
    pub fn give_back(&self) {
        if let Some(shared) = &self.0 {
            lock(&shared.pool).give_back(&shared.income);
        }
    }

    /// The part of an extra attempt that each call pays for. `None`: there is no limit.
    pub fn ratio(&self) -> Option<f64> {
        self.0.as_ref().map(|shared| shared.income.per_call as f64 / TOKEN as f64)
    }

    /// The extra attempts a second that are allowed whatever is called. `None`: there is no limit.
    pub fn per_second(&self) -> Option<f64> {
        self.0.as_ref().map(|shared| shared.income.per_second as f64 / TOKEN as f64)
    }
}

/// `Budget::new(0.2, 10.0)`.
impl Default for Budget {
    fn default() -> Self {
        Self::new(0.2, 10.0)
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(ratio) = self.ratio() else { return f.write_str("Budget::unlimited()") };
        f.debug_struct("Budget")
            .field("ratio", &ratio)
            .field("per_second", &self.per_second())
            .finish()
    }
}

/// Rounded, but never to nothing.
fn billionths(tokens: f64) -> u64 {
    let rounded = (tokens * TOKEN as f64).round() as u64;
    if tokens > 0.0 { rounded.max(1) } else { 0 }
}

// === impl Income ===

impl Income {
    fn over(&self, nanos: u128) -> u128 {
        u128::from(self.per_second) * nanos / SECOND
    }

    /// What the floor starts with.
    fn start(&self) -> u128 {
        if self.per_second == 0 { 0 } else { self.over(LEAK).max(TOKEN) }
    }

    /// The most that is kept of the floor. For a slow one that is half a token more than a whole one: without it,
    /// what comes in while a token waits for its call would be lost.
    fn bound(&self) -> u128 {
        if self.per_second == 0 { 0 } else { self.over(LEAK).max(TOKEN * 3 / 2) }
    }
}

// === impl Pool ===

impl Pool {
    fn new(income: &Income, now: Instant) -> Self {
        Self { paid: 0, floor: income.start(), calls: 0, looked: now }
    }

    const fn deposit(&mut self, calls: u64) {
        self.calls = self.calls.saturating_add(calls);
    }

    fn withdraw(&mut self, income: &Income, now: Instant) -> bool {
        self.settle(income, now);
        let Some(left) = (self.paid + self.floor).checked_sub(TOKEN) else { return false };
        self.paid = self.paid.saturating_sub(TOKEN);
        self.floor = left - self.paid;
        true
    }

    /// Into the stock that does not leak, within its bound; what calls paid in keeps the rest.
    fn give_back(&mut self, income: &Income) {
        let room = income.bound().saturating_sub(self.floor).min(TOKEN);
        self.floor += room;
        self.paid = (self.paid + TOKEN - room).min(MOST);
    }

    /// Brings both stocks up to `now`. A clock that goes back changes nothing.
    fn settle(&mut self, income: &Income, now: Instant) {
        let elapsed = now.saturating_duration_since(self.looked).as_nanos();
        self.looked = self.looked.max(now);
        self.floor = (self.floor + income.over(elapsed)).min(income.bound());
        let calls = u128::from(std::mem::take(&mut self.calls)) * u128::from(income.per_call);
        self.paid = if elapsed < LEAK {
            self.paid - (self.paid * elapsed).div_ceil(LEAK) + calls
        } else {
            // Only the last ten seconds count. When the calls came is not known: take it that they came evenly.
            calls.saturating_mul(LEAK) / elapsed
        }
        .min(MOST);
    }
}

/// So much that sums and products of a few of them fit: more than a process can ever spend.
const MOST: u128 = u64::MAX as u128;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{prop_assert, proptest};

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const DAY: Duration = Duration::from_secs(86_400);

    /// A pool that is told the time.
    struct At {
        income: Income,
        pool: Pool,
    }

    impl At {
        fn new(ratio: f64, per_second: f64, now: Instant) -> Self {
            let budget = Budget::new(ratio, per_second);
            let income = budget.0.unwrap().income;
            Self { income, pool: Pool::new(&income, now) }
        }

        fn withdraw(&mut self, now: Instant) -> bool {
            self.pool.withdraw(&self.income, now)
        }

        /// How often a token can be taken at `now`, up to `most`.
        fn drain(&mut self, now: Instant, most: usize) -> usize {
            (0..most).take_while(|_| self.withdraw(now)).count()
        }
    }

    #[test]
    fn a_token_that_is_given_back_can_be_taken_again() {
        for budget in [Budget::new(0.0, 1e-9), Budget::new(0.5, 0.0), Budget::new(0.2, 10.0)] {
            let now = Instant::now();
            budget.deposit(2);
            let taken = (0..1_000).take_while(|_| budget.withdraw(now)).count();
            budget.give_back();
            assert!(budget.withdraw(now), "{budget:?} after {taken}");
            assert!(!budget.withdraw(now), "{budget:?}");
        }
    }

    #[test]
    fn a_budget_of_point_six_and_of_point_nine_is_just_that() {
        let now = Instant::now();
        for (ratio, of_1000) in [(0.1, 100), (0.2, 200), (0.6, 600), (0.9, 900), (1.0, 1_000)] {
            let mut budget = At::new(ratio, 0.0, now);
            let mut taken = 0;
            for _ in 0..1_000 {
                budget.pool.deposit(1);
                taken += usize::from(budget.withdraw(now));
            }
            assert_eq!(taken, of_1000, "{ratio}");
        }
    }

    #[test]
    fn starts_with_ten_seconds_of_the_floor_rate_and_refills_at_it() {
        let now = Instant::now();
        let mut budget = At::new(0.2, 10.0, now);
        assert_eq!(budget.drain(now, 1_000), 100);
        assert_eq!(budget.drain(now + MS * 99, 1_000), 0);
        assert_eq!(budget.drain(now + MS * 200, 1_000), 2, "nothing of it leaks");
        let mut taken = 0;
        for ms in 201..=10_200 {
            taken += budget.drain(now + MS * ms, 1_000);
        }
        assert!((99..=100).contains(&taken), "{taken}");
    }

    #[test]
    fn thirty_idle_days_are_worth_ten_seconds_of_the_floor_rate() {
        let now = Instant::now();
        let mut budget = At::new(0.5, 10.0, now);
        assert!(budget.withdraw(now));
        budget.pool.deposit(1_000);
        assert_eq!(budget.drain(now + DAY * 30, 1_000), 100);
        assert_eq!(budget.drain(now + DAY * 30_000, 1_000), 100);
    }

    #[test]
    fn thirty_idle_days_are_worth_at_least_one_token() {
        let now = Instant::now();
        for per_second in [1e-10, 1e-9, 0.001, 0.05, 0.1] {
            let mut budget = At::new(0.0, per_second, now);
            assert_eq!(budget.drain(now, 1_000), 1, "{per_second}");
            let worth = budget.drain(now + DAY * 30, 1_000);
            assert_eq!(worth, usize::from(per_second > 1e-6), "{per_second}");
        }
    }

    #[test]
    fn any_floor_rate_pays_out_in_the_long_run() {
        let now = Instant::now();
        // One failing call every ten seconds, for 10,000 seconds.
        let mut budget = At::new(0.2, 0.05, now);
        let mut taken = 0;
        for n in 0..1_000 {
            budget.pool.deposit(1);
            taken += usize::from(budget.withdraw(now + MS * 10_000 * n));
        }
        assert!((550..=700).contains(&taken), "{taken}");
        // One an hour, asked for every minute of a month.
        let mut budget = At::new(0.0, 1.0 / 3_600.0, now);
        let taken = (0..30 * 24 * 60).filter(|n| budget.withdraw(now + MS * 60_000 * *n)).count();
        assert!((719..=721).contains(&taken), "{taken}");
    }

    #[test]
    fn a_calm_day_does_not_pay_for_a_storm() {
        let start = Instant::now();
        let mut budget = At::new(0.2, 0.0, start);
        // A hundred calls a second for a day, and nobody looks.
        budget.pool.deposit(86_400 * 100);
        assert_eq!(budget.drain(start + DAY, 1_000_000), 200);
        // The same, and somebody looks now and then.
        let (mut budget, mut now) = (At::new(0.2, 0.0, start), start);
        for _ in 0..864_000 {
            now += MS * 100;
            budget.pool.deposit(10);
            budget.pool.settle(&budget.income, now);
        }
        let left = budget.drain(now, 1_000_000);
        assert!((199..=201).contains(&left), "{left}");
    }

    #[test]
    fn a_storm_of_questions_does_not_stop_the_floor_rate() {
        let start = Instant::now();
        let mut budget = At::new(0.0, 1.0, start);
        assert_eq!(budget.drain(start, 100), 10);
        let asks = (1..=2_000_000).map(|n| start + Duration::from_nanos(1_000) * n);
        let taken = asks.filter(|now| budget.withdraw(*now)).count();
        assert_eq!(taken, 2, "in two seconds");
    }

    #[test]
    fn a_clock_that_goes_back_pays_nothing() {
        let now = Instant::now() + DAY;
        let mut budget = At::new(0.0, 1.0, now);
        assert_eq!(budget.drain(now, 100), 10);
        assert_eq!(budget.drain(now - DAY / 2, 100), 0);
        assert_eq!(budget.drain(now, 100), 0);
    }

    #[test]
    fn nothing_overflows() {
        let now = Instant::now();
        let mut budget = At::new(10.0, 1e6, now);
        for later in [Duration::ZERO, MS, MS * 9_999, DAY * 365 * 100] {
            budget.pool.deposit(u64::MAX);
            budget.pool.deposit(u64::MAX);
            assert!(budget.withdraw(now + later));
        }
    }

    #[test]
    fn without_a_budget_there_is_always_a_token_and_with_none_never() {
        let now = Instant::now();
        let unlimited = Budget::unlimited();
        assert!((0..10_000).all(|_| unlimited.withdraw(now)));
        assert_eq!((unlimited.ratio(), unlimited.per_second()), (None, None));
        assert!(!Budget::new(0.0, 0.0).withdraw(now + DAY));
    }

    #[test]
    fn clones_share_the_tokens_and_a_fresh_one_has_its_own() {
        let now = Instant::now();
        let budget = Budget::new(0.5, 0.0);
        budget.clone().deposit(2);
        let fresh = budget.fresh();
        assert_eq!((fresh.ratio(), fresh.per_second()), (Some(0.5), Some(0.0)));
        assert!(!fresh.withdraw(now));
        assert!(budget.withdraw(now));
        assert!(!budget.clone().withdraw(now));
    }

    #[test]
    fn the_same_check_is_there_as_an_error() {
        let error = Budget::try_new(1e9, 1.0).unwrap_err();
        assert_eq!((error.setting(), error.allowed()), ("Budget::new, ratio", "from 0.0 to 10.0"));
        assert!(Budget::try_new(0.1, 1e9).is_err());
    }

    #[test]
    #[should_panic(
        expected = "Budget::new, ratio: NaN is not allowed, it has to be from 0.0 to 10.0"
    )]
    fn a_ratio_that_is_no_number_is_wrong() {
        Budget::new(f64::NAN, 1.0);
    }

    #[test]
    #[should_panic(expected = "Budget::new, ratio: 10.5 is not allowed")]
    fn a_ratio_above_ten_is_wrong() {
        Budget::new(10.5, 1.0);
    }

    #[test]
    #[should_panic(expected = "Budget::new, ratio: -0.1 is not allowed")]
    fn a_negative_ratio_is_wrong() {
        Budget::new(-0.1, 1.0);
    }

    #[test]
    #[should_panic(expected = "Budget::new, per_second: -1.0 is not allowed")]
    fn a_negative_floor_rate_is_wrong() {
        Budget::new(0.1, -1.0);
    }

    #[test]
    #[should_panic(
        expected = "Budget::new, per_second: 1000000000.0 is not allowed, it has to be from 0.0 to 1000000.0"
    )]
    fn a_floor_rate_of_a_billion_is_wrong() {
        Budget::new(0.1, 1e9);
    }

    proptest! {
        #[test]
        fn what_is_taken_is_within_one_of_the_ratio(
            ratio in 0_u32..=10_000,
            steps in proptest::collection::vec((0_u64..50, 0_usize..9), 1..200),
        ) {
            let now = Instant::now();
            let mut budget = At::new(f64::from(ratio) / 1e3, 0.0, now);
            let (mut calls, mut taken) = (0, 0);
            // In thousandths, which are whole numbers.
            let exact = |calls: u64, taken: usize| u64::from(ratio) * calls - 1_000 * taken as u64;
            for (more, most) in steps {
                budget.pool.deposit(more);
                calls += more;
                let now_taken = budget.drain(now, most);
                taken += now_taken;
                prop_assert!(1_000 * taken as u64 <= u64::from(ratio) * calls, "{taken} of {calls}");
                prop_assert!(now_taken == most || exact(calls, taken) < 1_000, "{taken} of {calls}");
            }
        }

        #[test]
        fn extra_attempts_stay_within_ratio_floor_and_reserve(
            ratio in 0_u32..=10_000,
            per_second in 0_u32..=1_000,
            slow: bool,
            steps in proptest::collection::vec((0_u64..20_000_000_000, 0_u64..200, 0_usize..200), 1..60),
        ) {
            let start = Instant::now();
            let per_second = f64::from(per_second) / if slow { 10_000.0 } else { 1.0 };
            let mut budget = At::new(f64::from(ratio) / 1e3, per_second, start);
            let (mut calls, mut taken, mut now) = (0, 0, start);
            let reserve = if per_second == 0.0 { 0.0 } else { (per_second * 10.0).max(1.0) };
            for (nanos, more, most) in steps {
                // Half of the steps are short ones, where rounding matters most.
                now += Duration::from_nanos(if nanos % 2 == 0 { nanos } else { nanos % 1_000 });
                budget.pool.deposit(more);
                calls += more;
                taken += budget.drain(now, most);
                let seconds = (now - start).as_secs_f64();
                let bound = f64::from(ratio) / 1e3 * calls as f64 + per_second * seconds + reserve;
                prop_assert!(taken as f64 <= bound + 1e-6, "{taken} of {bound}");
            }
        }
    }
}
