//! How much is repeated at all. Pure: `now` is passed in.
//!
//! One pool of tokens. A call pays in `ratio` of a token, time pays in `per_second` tokens a second, a
//! repeated attempt takes a whole one. So that a calm hour does not pay for a storm, the pool leaks: in
//! ten seconds it loses what was in it, wherefore it stands, left alone, at ten seconds' worth of what is
//! paid in. The leak, the time and all the calls since the last look are settled in one step when a
//! token is asked for; so paying in reads no clock, and a month without a look costs what a moment does.
//!
//! Tokens are whole numbers of billionths; what is rounded is rounded down.

use stockade_core::config::allow;
use tokio::time::Instant;

/// How many further attempts there may be, as a share of the calls: it keeps retries from making an
/// overload worse.
///
/// Each call pays `ratio` of a token into a pool, and each second `per_second` tokens; each further
/// attempt takes one. Nothing is kept for longer than about ten seconds. The pool starts with ten
/// seconds' worth of `per_second`, and over any time
///
/// > retries <= `ratio` x calls + `per_second` x seconds + `per_second` x 10
///
/// What is configured here is shared by all clones of a layer and of the services it made, unless it is
/// [per-service](crate::RetryLayer::per_service). The default is `Budget::new(0.2, 10.0)`. The idea is that of
/// the retry budget in Twitter's Finagle.
///
/// Each process has a budget of its own: of `per_second` a fleet has as many times more. Where many clients call one
/// service, keep `per_second` times their number well below what that service can spare, or leave it to `ratio`.
///
/// A handle that is called often pays in for 32 calls at a time, or when one of its own calls asks for a
/// token: what others paid in may arrive later, never more than they paid.
///
/// # Example
///
/// ```
/// use stockade_retry::{Budget, RetryLayer};
/// use tower::ServiceBuilder;
///
/// // At most one attempt in ten is a repeated one, and a single one a second is always allowed.
/// let retry = RetryLayer::max_attempts(3).budget(Budget::new(0.1, 1.0));
/// let stack = ServiceBuilder::new().layer(retry);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Budget(Option<Income>);

/// In billionths of a token.
#[derive(Clone, Copy, Debug)]
struct Income {
    per_call: u64,
    per_second: u64,
}

/// What is left, as all who share a budget have it.
#[derive(Debug)]
pub(crate) struct Pool {
    /// `None` before the first look.
    tokens: Option<u64>,
    /// The calls since the last look.
    calls: u64,
    looked: Instant,
}

const TOKEN: u64 = 1_000_000_000;

/// The time in which the pool leaks out, in nanoseconds: ten seconds.
const LEAK: u128 = 10 * SECOND;
const SECOND: u128 = 1_000_000_000;

// === impl Budget ===

impl Budget {
    /// `ratio` of a further attempt per call, and `per_second` of them in any case.
    ///
    /// A client that makes fewer than `1 / ratio` calls in ten seconds lives on `per_second` alone, because
    /// what it pays in leaks away before it makes up a token.
    ///
    /// # Panics
    ///
    /// If `ratio` is not from 0 to 10, or `per_second` not from 0 to 1,000,000.
    #[track_caller]
    pub fn new(ratio: f64, per_second: f64) -> Self {
        let billionths = |tokens: f64| (tokens * TOKEN as f64).round() as u64;
        Self(Some(Income {
            per_call: billionths(allow("Budget::new, ratio", ratio, 0.0..=10.0)),
            per_second: billionths(allow("Budget::new, per_second", per_second, 0.0..=1e6)),
        }))
    }

    /// No budget: only the number of attempts and the deadline bound what is repeated.
    pub const fn unlimited() -> Self {
        Self(None)
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(0.2, 10.0)
    }
}

// === impl Pool ===

impl Pool {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { tokens: None, calls: 0, looked: now }
    }

    /// Pays in for `calls` calls that were made since the last look.
    pub(crate) const fn deposit(&mut self, calls: usize) {
        self.calls = self.calls.saturating_add(calls as u64);
    }

    /// Takes a token for a further attempt, if there is one.
    pub(crate) fn withdraw(&mut self, budget: &Budget, now: Instant) -> bool {
        let Some(income) = &budget.0 else { return true };
        let tokens = self.settle(income, now);
        let left = tokens.checked_sub(TOKEN);
        self.tokens = Some(left.unwrap_or(tokens));
        left.is_some()
    }

    /// What is in the pool by now.
    fn settle(&mut self, income: &Income, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.looked).as_nanos();
        let calls = u128::from(std::mem::take(&mut self.calls)) * u128::from(income.per_call);
        let over = |time: u128| u128::from(income.per_second) * time / SECOND;
        self.looked = self.looked.max(now);
        let tokens = if elapsed < LEAK {
            let before = self.tokens.map_or_else(|| over(LEAK), u128::from);
            before - (before * elapsed).div_ceil(LEAK) + over(elapsed) + calls
        } else {
            // Only the last ten seconds count, and nobody knows better than that the calls came evenly.
            over(LEAK) + share(calls, elapsed)
        };
        u64::try_from(tokens).unwrap_or(u64::MAX)
    }
}

/// The part of `tokens`, paid in over `elapsed`, that falls into the time of the leak.
fn share(tokens: u128, elapsed: u128) -> u128 {
    tokens.saturating_mul(LEAK) / elapsed
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{prop_assert, proptest};

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const DAY: Duration = Duration::from_secs(86_400);

    /// How often a token can be taken at `now`, up to `most`.
    fn drain(pool: &mut Pool, budget: &Budget, now: Instant, most: usize) -> usize {
        (0..most).take_while(|_| pool.withdraw(budget, now)).count()
    }

    #[test]
    fn a_budget_of_point_six_and_of_point_nine_is_just_that() {
        let now = Instant::now();
        for (ratio, of_1000) in [(0.1, 100), (0.2, 200), (0.6, 600), (0.9, 900), (1.0, 1_000)] {
            let (budget, mut pool) = (Budget::new(ratio, 0.0), Pool::new(now));
            let mut taken = 0;
            for _ in 0..1_000 {
                pool.deposit(1);
                taken += usize::from(pool.withdraw(&budget, now));
            }
            assert_eq!(taken, of_1000, "{ratio}");
        }
    }

    #[test]
    fn starts_with_ten_seconds_of_the_floor_rate_and_refills_at_it() {
        let now = Instant::now();
        let (budget, mut pool) = (Budget::default(), Pool::new(now));
        assert_eq!(drain(&mut pool, &budget, now, 1_000), 100);
        assert_eq!(drain(&mut pool, &budget, now + MS * 99, 1_000), 0);
        assert_eq!(drain(&mut pool, &budget, now + MS * 200, 1_000), 1, "a part of it has leaked");
        let mut taken = 0;
        for ms in 201..=10_200 {
            taken += drain(&mut pool, &budget, now + MS * ms, 1_000);
        }
        assert!((99..=100).contains(&taken), "{taken}");
    }

    #[test]
    fn thirty_idle_days_are_worth_ten_seconds_of_the_floor_rate() {
        let now = Instant::now();
        let (budget, mut pool) = (Budget::new(0.5, 10.0), Pool::new(now));
        assert!(pool.withdraw(&budget, now));
        pool.deposit(1_000);
        assert_eq!(drain(&mut pool, &budget, now + DAY * 30, 1_000), 100);
        assert_eq!(drain(&mut pool, &budget, now + DAY * 30_000, 1_000), 100);
    }

    #[test]
    fn a_calm_day_does_not_pay_for_a_storm() {
        let start = Instant::now();
        let (budget, mut pool) = (Budget::new(0.2, 0.0), Pool::new(start));
        // A hundred calls a second for a day, and nobody looks.
        pool.deposit(86_400 * 100);
        assert_eq!(drain(&mut pool, &budget, start + DAY, 1_000_000), 200);
        // The same, and somebody looks now and then.
        let (mut pool, mut now, patient) = (Pool::new(start), start, Budget::new(0.2, 0.0));
        for _ in 0..864_000 {
            now += MS * 100;
            pool.deposit(10);
            pool.tokens = Some(pool.settle(&patient.0.unwrap(), now));
        }
        let left = drain(&mut pool, &patient, now, 1_000_000);
        assert!((199..=201).contains(&left), "{left}");
    }

    #[test]
    fn a_storm_of_questions_does_not_stop_the_floor_rate() {
        let start = Instant::now();
        let (budget, mut pool) = (Budget::new(0.0, 1.0), Pool::new(start));
        assert_eq!(drain(&mut pool, &budget, start, 100), 10);
        let asks = (1..=2_000_000).map(|n| start + Duration::from_nanos(1_000) * n);
        let taken = asks.filter(|now| pool.withdraw(&budget, *now)).count();
        assert_eq!(taken, 1, "in two seconds, of which a tenth leaked");
    }

    #[test]
    fn a_clock_that_goes_back_pays_nothing() {
        let now = Instant::now() + DAY;
        let (budget, mut pool) = (Budget::new(0.0, 1.0), Pool::new(now));
        assert_eq!(drain(&mut pool, &budget, now, 100), 10);
        assert_eq!(drain(&mut pool, &budget, now - DAY / 2, 100), 0);
        assert_eq!(drain(&mut pool, &budget, now, 100), 0);
    }

    #[test]
    fn nothing_overflows() {
        let now = Instant::now();
        let (budget, mut pool) = (Budget::new(10.0, 1e6), Pool::new(now));
        pool.deposit(usize::MAX);
        pool.deposit(usize::MAX);
        assert!(pool.withdraw(&budget, now));
        pool.deposit(usize::MAX);
        assert!(pool.withdraw(&budget, now + MS));
        pool.deposit(usize::MAX);
        assert!(pool.withdraw(&budget, now + DAY * 365 * 100));
    }

    #[test]
    fn without_a_budget_there_is_always_a_token() {
        let now = Instant::now();
        assert_eq!(drain(&mut Pool::new(now), &Budget::unlimited(), now, 10_000), 10_000);
        assert_eq!(drain(&mut Pool::new(now), &Budget::new(0.0, 0.0), now + DAY, 10_000), 0);
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

    proptest! {
        #[test]
        fn what_is_taken_is_within_one_of_the_ratio(
            ratio in 0_u32..=10_000,
            steps in proptest::collection::vec((0_usize..50, 0_usize..9), 1..200),
        ) {
            let now = Instant::now();
            let (budget, mut pool) = (Budget::new(f64::from(ratio) / 1e3, 0.0), Pool::new(now));
            let (mut calls, mut taken) = (0, 0);
            // In thousandths, which are whole numbers.
            let exact = |calls: usize, taken: usize| ratio as usize * calls - 1_000 * taken;
            for (more, most) in steps {
                pool.deposit(more);
                calls += more;
                let now_taken = drain(&mut pool, &budget, now, most);
                taken += now_taken;
                prop_assert!(1_000 * taken <= ratio as usize * calls, "{taken} of {calls}");
                prop_assert!(now_taken == most || exact(calls, taken) < 1_000, "{taken} of {calls}");
            }
        }

        #[test]
        fn retries_stay_within_ratio_floor_and_reserve(
            ratio in 0_u32..=10_000,
            per_second in 0_u32..=1_000,
            steps in proptest::collection::vec((0_u64..20_000_000_000, 0_usize..200, 0_usize..200), 1..60),
        ) {
            let start = Instant::now();
            let budget = Budget::new(f64::from(ratio) / 1e3, f64::from(per_second));
            let (mut pool, mut now) = (Pool::new(start), start);
            let (mut calls, mut taken) = (0, 0);
            for (nanos, more, most) in steps {
                // Half of the steps are short ones, where rounding matters most.
                now += Duration::from_nanos(if nanos % 2 == 0 { nanos } else { nanos % 1_000 });
                pool.deposit(more);
                calls += more;
                taken += drain(&mut pool, &budget, now, most);
                let seconds = (now - start).as_secs_f64() + 10.0;
                let bound = f64::from(ratio) / 1e3 * calls as f64 + f64::from(per_second) * seconds;
                prop_assert!(taken as f64 <= bound + 1e-6, "{taken} of {bound}");
            }
        }
    }
}
