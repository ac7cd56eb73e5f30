//! What the clones of a service share, and each one's tally of the calls it owes to the budget.
//!
//! Each call pays into the budget, and a counter that all callers move would be the largest cost of the
//! layer. So each long-lived handle keeps a tally of its own, next to a reference count of its own: `own` is
//! written by that handle alone, with a plain store, since it is called through `&mut`. A clone that has been
//! called only a few times is a guest of the handle it came from: it adds to `guests`, whose cache line its
//! reference count has fetched anyway. What both add up to is told to the budget in batches, and before a call
//! of the handle or of its guests asks for a token. `told` moves under the lock of the state only; so nothing is
//! told twice.

use std::{ops::Deref, sync::Arc};

use stockade_core::internal::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::time::Instant;

use crate::{
    budget::Budget,
    handle::{Ledger, State},
};

/// A handle to what is shared, as a service keeps it; every call takes a [`Lease`].
pub(crate) struct Shared<T> {
    lease: Lease<T>,
    /// Above zero: how many calls there are yet until those that were made are told, the one that tells them included.
    /// Else it is a guest's, and counts its calls downwards. So a call has one question.
    left: i32,
}

/// Keeps what is shared alive for one call.
pub(crate) struct Lease<T>(Arc<Own<T>>);

struct Own<T> {
    common: Arc<T>,
    tally: Tally,
}

struct Tally {
    state: Arc<State>,
    own: AtomicUsize,
    guests: AtomicUsize,
    told: AtomicUsize,
}

/// The call at which a handle stops being a guest.
const SETTLED: i32 = 4;

/// How many calls are told at once.
const BATCH: i32 = 32;

// === impl Shared ===

impl<T> Shared<T> {
    pub(crate) fn new(common: T, state: Arc<State>) -> Self {
        Self { lease: Lease::new(Arc::new(common), state), left: 0 }
    }

    /// A lease for one call, which is counted.
    #[inline]
    pub(crate) fn lease(&mut self) -> Lease<T> {
        let left = self.left - 1;
        self.left = left;
        if left > 0 {
            self.lease.0.tally.count_own();
        } else if left < 0 && left > -SETTLED {
            self.lease.0.tally.count_guest();
        } else {
            self.turn();
        }
        Lease(Arc::clone(&self.lease.0))
    }

    /// A handle tells what it has counted, or begins to.
    #[cold]
    #[inline(never)]
    fn turn(&mut self) {
        let tells = self.left == 0;
        if !tells {
            let Own { common, tally } = &*self.lease.0;
            self.lease = Lease::new(Arc::clone(common), Arc::clone(&tally.state));
        }
        let tally = &self.lease.0.tally;
        tally.count_own();
        self.left = BATCH - i32::from(!tells);
        if tells {
            tally.settle();
        }
    }

    pub(crate) fn state(&self) -> &Arc<State> {
        self.lease.state()
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self { lease: Lease(Arc::clone(&self.lease.0)), left: 0 }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.lease
    }
}

// === impl Lease ===

impl<T> Lease<T> {
    fn new(common: Arc<T>, state: Arc<State>) -> Self {
        let [own, guests, told] = [0; 3].map(AtomicUsize::new);
        Self(Arc::new(Own { common, tally: Tally { state, own, guests, told } }))
    }

    pub(crate) fn state(&self) -> &Arc<State> {
        &self.0.tally.state
    }

    /// Takes a token for a further attempt, if the budget has one.
    pub(crate) fn retry(&self, budget: &Budget, now: Instant) -> bool {
        self.state().with(|ledger| {
            self.0.tally.tell(ledger);
            ledger.retry(budget, now)
        })
    }
}

impl<T> Deref for Lease<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0.common
    }
}

// === impl Tally ===

impl Tally {
    /// Called by the one handle that owns the tally, through `&mut`: so there is one writer.
    #[inline]
    fn count_own(&self) {
        self.own.store(self.own.load(Relaxed).wrapping_add(1), Relaxed);
    }

    #[inline]
    fn count_guest(&self) {
        const LAST: usize = BATCH as usize - 1;
        if self.guests.fetch_add(1, Relaxed) % BATCH as usize == LAST {
            self.settle();
        }
    }

    #[cold]
    fn settle(&self) {
        self.state.with(|ledger| self.tell(ledger));
    }

    /// Tells the budget what it was not told yet. The lock orders the loads: each one sees at least what
    /// the one before it saw.
    fn tell(&self, ledger: &mut Ledger) {
        let calls = self.own.load(Relaxed).wrapping_add(self.guests.load(Relaxed));
        let told = self.told.load(Relaxed);
        self.told.store(calls, Relaxed);
        ledger.pool.deposit(calls.wrapping_sub(told));
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state that never leaks, because it is looked at as if no time passed.
    fn still() -> (Arc<State>, Instant) {
        let now = Instant::now();
        (Arc::new(State::new()), now)
    }

    fn tokens((state, now): &(Arc<State>, Instant)) -> usize {
        let budget = Budget::new(1.0, 0.0);
        state.with(|ledger| (0..).take_while(|_| ledger.retry(&budget, *now)).count())
    }

    #[test]
    fn what_others_paid_in_arrives_in_batches_and_when_they_are_dropped() {
        let still = still();
        let mut handle = Shared::new((), Arc::clone(&still.0));
        for _ in 0..34 {
            handle.lease();
        }
        // As a guest of the first tally, which ended when the handle got its own.
        assert_eq!(tokens(&still), 3);
        handle.lease();
        assert_eq!(tokens(&still), 32);
        let lease = handle.lease();
        drop(handle);
        assert_eq!(tokens(&still), 0);
        drop(lease);
        assert_eq!(tokens(&still), 1);
    }

    #[test]
    fn a_call_can_spend_at_once_what_its_handle_and_the_guests_paid_in() {
        let (state, now) = still();
        let mut handle = Shared::new((), state);
        let lease = (0..20).map(|_| handle.lease()).last().unwrap();
        for mut guest in std::iter::repeat_n(handle, 2) {
            guest.lease();
        }
        let budget = Budget::new(1.0, 0.0);
        assert_eq!((0..).take_while(|_| lease.retry(&budget, now)).count(), 22);
    }

    #[test]
    fn calls_from_many_threads_are_all_told_and_none_twice() {
        let still = still();
        let mut common = Shared::new((), Arc::clone(&still.0));
        for _ in 0..10 {
            common.lease();
        }
        let (budget, now) = (Budget::new(1.0, 0.0), still.1);
        let spent: usize = std::thread::scope(|scope| {
            let work = |n: usize, mut handle: Shared<()>| {
                let mut spent = 0;
                for call in 0..1_000 {
                    let lease = if n < 2 { handle.lease() } else { handle.clone().lease() };
                    spent += usize::from(call % 7 == n && lease.retry(&budget, now));
                }
                spent
            };
            let threads: Vec<_> = (0..4)
                .map(|n| {
                    let handle = common.clone();
                    scope.spawn(move || work(n, handle))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        drop(common);
        assert!(spent > 0);
        assert_eq!(spent + tokens(&still), 4_010);
    }
}
