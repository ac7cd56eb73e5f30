//! The token bucket, with the time passed in.
//!
//! Every decision is `governor`'s, which implements the generic cell rate algorithm (ITU-T I.371). The whole bucket is
//! one word: the *theoretical arrival time*, the instant at which the bucket will be full again. A call passes if that
//! instant is at most `burst - 1` periods ahead, and moves it by one period per token. Nothing runs while nobody calls.
//!
//! A governor limiter reads its own clock. Here one is put together for each decision, over the word that stays and
//! with a clock that returns the instant it was given. So this room is pure, and a late decision can be dated back.
//!
//! Instants count from zero, when the bucket is full. They stay far below the 584 years that fit, because no bucket
//! may take longer than [`MAX_FILL`] to fill up.

use std::{cell::Cell, num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter, clock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{NotKeyed, StateStore},
};
use stockade_core::config::MAX_DURATION;
use stockade_core::internal::sync::atomic::{AtomicU64, Ordering};

/// The longest time in which an empty bucket may fill up: twenty years.
pub(crate) const MAX_FILL: Duration = MAX_DURATION.saturating_mul(2);

/// A bucket of tokens, full at first.
#[derive(Debug)]
pub(crate) struct Bucket {
    quota: Quota,
    full_at: FullAt,
}

/// What the word of a closed bucket says: it will be full in 544 years, so nobody gets a token. The rest
/// of the 584 years is room for the arithmetic.
const CLOSED: u64 = u64::MAX - 2 * MAX_FILL.as_secs() * 1_000_000_000;

/// A number of tokens at an instant: so many nanoseconds, of which each token has taken so many to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Level {
    at: Nanos,
    part: Nanos,
    of: Nanos,
}

/// The theoretical arrival time, in nanoseconds. Zero needs no special meaning: a bucket that was full at
/// zero is full ever since.
#[derive(Debug, Default)]
struct FullAt(AtomicU64);

/// A clock that stands still, at zero for the limiter to start with.
#[derive(Default)]
struct Standing(Cell<Nanos>);

/// Governor's limiter, without the features that would choose its clock and its store.
type Governor<'a> = RateLimiter<NotKeyed, &'a FullAt, Standing, NoOpMiddleware<Nanos>>;

// === impl Bucket ===

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(quota: Quota) -> Self {
        Self::full_at(quota, Nanos::default())
    }

    /// A bucket that will be full at this instant.
    pub(crate) fn full_at(quota: Quota, at: Nanos) -> Self {
        Self { quota, full_at: FullAt(AtomicU64::new(at.into())) }
    }

    /// The instant at which it will be full.
    pub(crate) fn word(&self) -> Nanos {
        self.full_at.load()
    }

    /// Takes so many tokens, all or none, or says when there will be as many. It never holds more than its burst.
    #[inline]
    pub(crate) fn take(&self, now: Nanos, cost: NonZeroU32) -> Result<(), Nanos> {
        self.take_of(self.quota, now, cost)
    }

    /// The same for one who may take so many tokens more than the bucket holds. They are owed: they come before the next
    /// one.
    pub(crate) fn take_deep(&self, now: Nanos, cost: NonZeroU32, deep: u32) -> Result<(), Nanos> {
        self.take_of(self.deeper(deep), now, cost)
    }

    #[inline]
    fn take_of(&self, quota: Quota, now: Nanos, cost: NonZeroU32) -> Result<(), Nanos> {
        let limiter = Governor::new(quota, &self.full_at, Standing::default());
        limiter.clock().0.set(now);
        let decided = if cost == NonZeroU32::MIN {
            limiter.check()
        } else if cost > quota.burst_size() {
            // Asked first, because governor multiplies before it compares.
            return Err(u64::MAX.into());
        } else {
            match limiter.check_n(cost) {
                Ok(decided) => decided,
                Err(_) => return Err(u64::MAX.into()),
            }
        };
        decided.map_err(|not| not.earliest_possible())
    }

    /// Takes the tokens that a call has waited for, or says when they will be there.
    ///
    /// A call that waits is woken late, by the resolution of the timer at least. So the decision is dated back to the
    /// instant at which the tokens were there, by one period at most: over a time `w` at most `burst + w / period + 1`
    /// tokens are taken. The 1 is for that lateness. One who may goes as [deep](Self::take_deep).
    pub(crate) fn take_due(&self, now: Nanos, cost: NonZeroU32, deep: u32) -> Result<(), Nanos> {
        loop {
            let due = self.due(now, cost.get().into(), deep);
            let at = due.max(now.saturating_sub(self.period())).min(now);
            match self.take_deep(at, cost, deep) {
                // A call that passed without the lock was faster, and there is one more token.
                Err(earliest) if earliest <= now => {}
                decided => return decided,
            }
        }
    }

    /// When the last of so many tokens will be there, if each is taken as soon as it can be. It may be in the past. (More
    /// tokens than the bucket holds are only asked for when it has been empty.) For one who may go so `deep`.
    pub(crate) fn due(&self, now: Nanos, tokens: u64, deep: u32) -> Nanos {
        // Counted from an empty bucket, which is one filling later, so that nothing is below zero. Tokens that have been
        // due for longer than the bucket takes to fill up are gone.
        let first = (self.full_at.load() + self.period()).max(now);
        let further = self.time_of(tokens.saturating_sub(1));
        let fill = self.fill() + Nanos::from(self.time_of(deep.into()));
        Nanos::from(first.as_u64().saturating_add(further)).saturating_sub(fill)
    }

    /// The number of tokens.
    pub(crate) fn available(&self, now: Nanos) -> u32 {
        u32::try_from(self.level(now) / self.period()).unwrap_or(u32::MAX)
    }

    /// Takes away the tokens that would come before the instant `until`. Then there is one token.
    pub(crate) fn penalize(&self, until: Nanos) {
        let full_at = until + self.fill().saturating_sub(self.period());
        self.full_at.0.fetch_max(full_at.into(), Ordering::Relaxed);
    }

    /// Puts tokens back that were not used. Those that do not fit are gone.
    pub(crate) fn give_back(&self, tokens: u64) {
        let time = self.time_of(tokens);
        self.full_at.update(|full_at| full_at.saturating_sub(time));
    }

    /// Takes so many tokens, even if they are not there. Those that are missing are owed: they come before the next one.
    pub(crate) fn charge(&self, now: Nanos, tokens: u64) {
        let (time, now) = (self.time_of(tokens), now.as_u64());
        let most = now.saturating_add(Nanos::from(MAX_FILL).as_u64());
        self.full_at.update(|full_at| full_at.max(now).saturating_add(time).min(most.max(full_at)));
    }

    /// Says how full the bucket is, and closes it: it gives no token any more. A decision that is under way finds that
    /// the word has changed, and is made again.
    pub(crate) fn close(&self, now: Nanos) -> Level {
        let full_at = Nanos::from(self.full_at.0.swap(CLOSED, Ordering::Relaxed));
        // Later than now after a penalty, or if another thread had read a later time.
        let empty_at = full_at.saturating_sub(self.fill());
        let at = now.max(empty_at);
        let part = self.fill().saturating_sub(full_at.saturating_sub(at));
        Level { at, part, of: self.period() }
    }

    /// Opens a closed bucket, or a new one, with as many tokens. Those that do not fit are gone.
    pub(crate) fn open(&self, level: Level) {
        let part = u128::from(level.part.as_u64()) * u128::from(self.period().as_u64());
        // Rounded down, so that the promised rate is never exceeded.
        let part = part / u128::from(level.of.as_u64());
        let part = u64::try_from(part).unwrap_or(u64::MAX).into();
        let full_at = level.at + self.fill().saturating_sub(part);
        self.full_at.0.store(full_at.into(), Ordering::Relaxed);
    }

    pub(crate) fn quota(&self) -> Quota {
        self.quota
    }

    /// The number of tokens that fit.
    pub(crate) fn burst(&self) -> NonZeroU32 {
        self.quota.burst_size()
    }

    /// The quota of one who may take so many tokens more.
    fn deeper(&self, deep: u32) -> Quota {
        self.quota.allow_burst(self.burst().saturating_add(deep))
    }

    /// The tokens, parts of them too, in the time they took to come.
    fn level(&self, now: Nanos) -> Nanos {
        self.fill().saturating_sub(self.full_at.load().saturating_sub(now))
    }

    /// The time in which one token comes.
    fn period(&self) -> Nanos {
        self.quota.replenish_interval().into()
    }

    /// The time in which so many tokens come, in nanoseconds.
    fn time_of(&self, tokens: u64) -> u64 {
        self.period().as_u64().saturating_mul(tokens)
    }

    /// The time in which an empty bucket fills up.
    fn fill(&self) -> Nanos {
        self.quota.burst_size_replenished_in().into()
    }
}

/// The time in which one of `n` tokens in the time `per` comes, rounded up, so that the promised rate is never exceeded.
pub(crate) fn period(n: u32, per: Duration) -> Duration {
    let period = per.as_nanos().div_ceil(u128::from(n));
    Duration::from_nanos(u64::try_from(period).unwrap_or(u64::MAX))
}

/// A quota of `burst` tokens, and one more every `period`.
pub(crate) fn quota(period: Duration, burst: NonZeroU32) -> Quota {
    Quota::with_period(period).expect("a period is at least 1 ns").allow_burst(burst)
}

// === impl FullAt ===

impl FullAt {
    fn load(&self) -> Nanos {
        // Relaxed here and below: the word is all there is, it publishes nothing else.
        self.0.load(Ordering::Relaxed).into()
    }

    /// Moves it from `old` to `new`, unless it is no longer at `old`.
    #[inline]
    fn moves(&self, old: Nanos, new: Nanos) -> bool {
        let (old, new) = (old.as_u64(), new.as_u64());
        self.0.compare_exchange_weak(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn update(&self, new: impl Fn(u64) -> u64) {
        // It never fails, because the closure never does.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| Some(new(old)));
    }
}

impl StateStore for &FullAt {
    type Key = NotKeyed;

    #[inline]
    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut old = self.load();
        loop {
            let (outcome, new) = decide(Some(old))?;
            if self.moves(old, new) {
                return Ok(outcome);
            }
            old = self.load();
        }
    }
}

// === impl Standing ===

impl clock::Clock for Standing {
    type Instant = Nanos;

    #[inline]
    fn now(&self) -> Nanos {
        self.0.get()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bucket(period: u64, burst: u32) -> Bucket {
        let burst = NonZeroU32::new(burst).unwrap();
        Bucket::new(quota(Duration::from_nanos(period), burst))
    }

    fn nanos(n: u64) -> Nanos {
        n.into()
    }

    const ONE: NonZeroU32 = NonZeroU32::MIN;

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_one_token_a_period() {
        for start in [0, 1, 99, 100, 1_000_000] {
            let bucket = bucket(100, 3);
            assert_eq!(bucket.available(nanos(start)), 3);
            for left in [2, 1, 0] {
                assert_eq!(bucket.take(nanos(start), ONE), Ok(()));
                assert_eq!(bucket.available(nanos(start)), left);
            }
            for n in 1..10 {
                let due = nanos(start + 100 * n);
                assert_eq!(bucket.take(nanos(start + 100 * n - 1), ONE), Err(due));
                assert_eq!(bucket.take(due, ONE), Ok(()));
            }
        }
    }

    #[test]
    fn the_largest_bucket_does_not_overflow_after_five_hundred_years() {
        let year = 365 * 86_400 * 1_000_000_000_u64;
        let ten_years = u64::try_from(MAX_DURATION.as_nanos()).unwrap();
        for (period, burst) in [(ten_years, 2), (ten_years, 1), (1, u32::MAX)] {
            let bucket = bucket(period, burst);
            let now = nanos(500 * year);
            for _ in 0..burst.min(2) {
                assert_eq!(bucket.take(now, ONE), Ok(()));
            }
            assert_eq!(bucket.available(now), burst - burst.min(2));
            assert!(bucket.due(now, u64::MAX, 0) > now);
            let due = bucket.due(now, 1, 0).max(now);
            assert_eq!(bucket.take_due(due, ONE, 0), Ok(()));
        }
    }

    #[test]
    fn a_late_decision_is_dated_back_by_one_period_at_most() {
        let bucket = bucket(100, 1);
        assert_eq!(bucket.take(nanos(1_000), ONE), Ok(()));
        assert_eq!(bucket.take_due(nanos(1_099), ONE, 0), Err(nanos(1_100)));
        assert_eq!(bucket.take_due(nanos(1_130), ONE, 0), Ok(()));
        assert_eq!(bucket.due(nanos(1_130), 1, 0), nanos(1_200), "as if it had been taken in time");
        assert_eq!(bucket.take_due(nanos(1_900), ONE, 0), Ok(()));
        assert_eq!(bucket.take_due(nanos(1_900), ONE, 0), Ok(()), "the one more");
        assert_eq!(bucket.take_due(nanos(1_900), ONE, 0), Err(nanos(2_000)));
    }

    #[test]
    fn threads_take_each_token_once() {
        let bucket = bucket(100, 40_000);
        let taken = std::thread::scope(|scope| {
            let take_all = || (0..).take_while(|_| bucket.take(nanos(7), ONE).is_ok()).count();
            let threads = [(); 4].map(|()| scope.spawn(take_all));
            threads.map(|thread| thread.join().unwrap()).iter().sum::<usize>()
        });
        assert_eq!(taken, 40_000);
    }

    /// A bucket as one would draw it: a level that is topped up, and below zero after a penalty.
    struct Model {
        period: i128,
        full: i128,
        level: i128,
        now: u64,
    }

    impl Model {
        fn at(&mut self, now: u64) {
            self.level = self.full.min(self.level + i128::from(now - self.now));
            self.now = now;
        }

        fn take(&mut self, now: u64, cost: u32) -> Result<(), Nanos> {
            self.at(now);
            let price = self.period * i128::from(cost);
            match price - self.level {
                _ if price > self.full => Err(nanos(u64::MAX)),
                ..=0 => {
                    self.level -= price;
                    Ok(())
                }
                missing => Err(nanos(now + u64::try_from(missing).unwrap())),
            }
        }

        fn penalize(&mut self, now: u64, pause: u64) {
            self.at(now);
            self.level = self.level.min(self.period - i128::from(pause));
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Take(u32),
        Penalize(u64),
        SetRate(u64, u32),
    }

    fn gap() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), 0..10_u64, 0..1_000_u64, Just(100_000)]
    }

    fn steps(with_rates: u32) -> impl Strategy<Value = Vec<(u64, Step)>> {
        let step = prop_oneof![
            20 => Just(Step::Take(1)),
            10 => (1..9_u32).prop_map(Step::Take),
            2 => (0..5_000_u64).prop_map(Step::Penalize),
            with_rates => (1..300_u64, 1..20_u32).prop_map(|(p, b)| Step::SetRate(p, b)),
        ];
        prop::collection::vec((gap(), step), 1..300)
    }

    fn cost(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).unwrap()
    }

    proptest! {
        #[test]
        fn decides_like_a_level_that_is_topped_up(
            period in 1..300_u64, burst in 1..20_u32, steps in steps(0),
        ) {
            let bucket = bucket(period, burst);
            let full = i128::from(period) * i128::from(burst);
            let mut model = Model { period: period.into(), full, level: full, now: 0 };
            let mut now = 0;
            for (gap, step) in steps {
                now += gap;
                match step {
                    Step::Take(n) => {
                        let due = bucket.due(nanos(now), n.into(), 0);
                        let decided = bucket.take(nanos(now), cost(n));
                        prop_assert_eq!(decided, model.take(now, n));
                        match decided {
                            Ok(()) => prop_assert!(due <= nanos(now)),
                            Err(earliest) if n <= burst => prop_assert_eq!(due, earliest),
                            Err(_) => {}
                        }
                    }
                    Step::Penalize(pause) => {
                        bucket.penalize(nanos(now + pause));
                        model.penalize(now, pause);
                    }
                    Step::SetRate(..) => {}
                }
                let tokens = u128::try_from(model.level.max(0) / model.period).unwrap();
                prop_assert_eq!(u128::from(bucket.available(nanos(now))), tokens);
            }
        }

        #[test]
        fn over_any_time_no_more_pass_than_promised_and_one_if_decisions_are_late(
            n in 1..20_u32, per in 20..2_000_u64, burst in 1..20_u32, steps in steps(0), late: bool,
        ) {
            let bucket = bucket(per.div_ceil(n.into()), burst);
            let mut now = 0;
            let mut passed = Vec::new();
            for (gap, step) in steps {
                now += gap;
                match step {
                    Step::Take(n) if n <= burst => {
                        let decided = if late {
                            bucket.take_due(nanos(now), cost(n), 0)
                        } else {
                            bucket.take(nanos(now), cost(n))
                        };
                        if decided.is_ok() {
                            passed.push((now, u64::from(n)));
                        }
                    }
                    Step::Penalize(pause) => bucket.penalize(nanos(now + pause)),
                    Step::Take(_) | Step::SetRate(..) => {}
                }
            }
            for (i, (from, _)) in passed.iter().enumerate() {
                let mut count = 0;
                for (to, tokens) in &passed[i..] {
                    count += tokens;
                    // In whole numbers: count <= burst + rate * time (+ 1).
                    let allowed = u64::from(burst) + u64::from(late);
                    prop_assert!(count * per <= allowed * per + (to - from) * u64::from(n));
                }
            }
        }

        #[test]
        fn while_the_rate_changes_no_more_pass_than_each_rate_gives_and_the_larger_burst(
            steps in steps(3), late: bool,
        ) {
            let mut bucket = bucket(100, 5);
            let (mut now, mut not_before) = (0, 0);
            // When, the tokens, and what has come until then: one per `period` of each rate.
            let mut passed: Vec<(u64, f64)> = Vec::new();
            let (mut come, mut largest) = (0.0, 5);
            for (gap, step) in steps {
                now += gap;
                come += gap as f64 / bucket.period().as_u64() as f64;
                match step {
                    Step::Take(n) if n <= bucket.burst().get() => {
                        let decided = if late {
                            bucket.take_due(nanos(now), cost(n), 0)
                        } else {
                            bucket.take(nanos(now), cost(n))
                        };
                        if decided.is_ok() {
                            prop_assert!(now >= not_before, "none during a penalty");
                            passed.push((n.into(), come));
                        }
                    }
                    Step::Take(_) => {}
                    Step::Penalize(pause) => {
                        not_before = not_before.max(now + pause);
                        bucket.penalize(nanos(now + pause));
                    }
                    Step::SetRate(period, burst) => {
                        let level = bucket.close(nanos(now));
                        prop_assert!(bucket.take(nanos(now), ONE).is_err(), "a closed one gives none");
                        bucket = self::bucket(period, burst);
                        bucket.open(level);
                        if not_before > now {
                            bucket.penalize(nanos(not_before));
                        }
                        largest = largest.max(burst);
                    }
                }
            }
            for (i, (_, from)) in passed.iter().enumerate() {
                let mut count = 0;
                for (tokens, to) in &passed[i..] {
                    count += tokens;
                    let allowed = f64::from(largest) + (to - from) + f64::from(u8::from(late));
                    prop_assert!(count as f64 <= allowed + 1e-6, "{count} of {allowed}");
                }
            }
        }

        #[test]
        fn a_predicted_wait_is_the_wait(
            period in 1..300_u64, burst in 1..20_u32, costs in prop::collection::vec(1..20_u32, 1..30),
            idle in 0..9_000_u64,
        ) {
            let bucket = bucket(period, burst);
            while bucket.take(nanos(0), ONE).is_ok() {}
            let now = nanos(idle);
            let costs: Vec<u32> = costs.into_iter().map(|n| n.min(burst)).collect();
            let sum: u32 = costs.iter().sum();
            let predicted = bucket.due(now, sum.into(), 0).max(now);
            let mut at = now;
            for n in costs {
                // Each takes its tokens as soon as they are there.
                while let Err(due) = bucket.take_due(at, cost(n), 0) {
                    at = due;
                }
            }
            prop_assert_eq!(at, predicted);
        }
    }
}
