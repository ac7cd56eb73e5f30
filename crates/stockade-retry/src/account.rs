//! How calls pay into the budget, and keep alive what they share.
//!
//! Two writes that all threads share would cost more than all else that the layer does for a call: counting a
//! reference, and counting the call. So a clone of the service that is called more than a few times opens an account
//! of its own: an `Arc` with a counter beside it, which this clone alone writes, with a plain store. Clones that are
//! called once or twice, as by `clone().oneshot(..)`, are guests of the clone they came from, and allocate nothing.
//!
//! A call that a layer outside has paid for, into the same budget, is not charged.
//!
//! An account pays for its calls when one of them asks for a token, after 32 calls, and when it is dropped.

use std::sync::Arc;

use stockade_core::internal::{
    Paid, is_paid, pay,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tokio::time::Instant;

use crate::{Config, shared::Shared};

/// The account that a service uses.
pub(crate) struct Member<S, P> {
    origin: Arc<Origin<S, P>>,
    /// The calls so far, up to those after which it has an account of its own.
    calls: u8,
}

/// What a call keeps alive.
pub(crate) struct Origin<S, P> {
    /// Further attempts clone it. It is never called, so it is never ready. In a mutex because it need not be
    /// `Sync`; only the user's `Clone` runs under that.
    instance: Mutex<S>,
    pub(crate) policy: Arc<P>,
    pub(crate) account: Account,
}

pub(crate) struct Account {
    pub(crate) shared: Arc<Shared>,
    /// What held when it was opened: calls keep it to their end.
    pub(crate) config: Arc<Config>,
    budget_id: u64,
    version: u32,
    /// The calls of the clone that opened it, which is the only one to write here.
    own: AtomicU64,
    /// The calls of its guests.
    guests: AtomicU64,
    /// How many calls of both were paid for.
    paid: AtomicU64,
}

/// The call at which a clone opens an account of its own.
const SETTLED: u8 = 4;

/// How many calls an account pays for at once.
const BATCH: u64 = 32;

// === impl Member ===

impl<S, P> Member<S, P> {
    pub(crate) fn new(instance: S, policy: Arc<P>, account: Account) -> Self {
        let origin = Origin { instance: Mutex::new(instance), policy, account };
        Self { origin: Arc::new(origin), calls: 0 }
    }

    /// Charges its account for one call, which keeps it alive.
    #[inline]
    pub(crate) fn charge(&mut self) -> Arc<Origin<S, P>>
    where
        S: Clone,
    {
        if self.calls < SETTLED || self.origin.account.is_outdated() {
            self.settle();
        } else {
            self.origin.account.charge_own();
        }
        Arc::clone(&self.origin)
    }

    pub(crate) fn origin(&self) -> &Origin<S, P> {
        &self.origin
    }

    /// Charges the account of another one, or opens one if it is time for that.
    #[cold]
    fn settle(&mut self)
    where
        S: Clone,
    {
        let origin = &*self.origin;
        if let Some(own) = origin.account.charge_guest_or_open(&mut self.calls) {
            *self = Self::new(origin.instance(), Arc::clone(&origin.policy), own);
            self.calls = SETTLED;
        }
    }
}

impl<S, P> Clone for Member<S, P> {
    fn clone(&self) -> Self {
        Self { origin: Arc::clone(&self.origin), calls: 0 }
    }
}

// === impl Origin ===

impl<S, P> Origin<S, P> {
    /// An instance of the service for a further attempt.
    pub(crate) fn instance(&self) -> S
    where
        S: Clone,
    {
        // Not by `lock`, of which each stack would have a copy.
        match self.instance.lock() {
            Ok(instance) => instance.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        }
    }
}

// === impl Account ===

impl Account {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let [own, guests, paid] = [const { AtomicU64::new(0) }; 3];
        let (config, version) = shared.config();
        let budget_id = shared.budget_id();
        Self { shared, config, budget_id, version, own, guests, paid }
    }

    /// Whether the configuration or the budget has been replaced since it was opened.
    #[inline]
    fn is_outdated(&self) -> bool {
        self.version != self.shared.version()
    }

    /// Charges a clone for one call that has made so few `calls` before; or opens and charges its own account, if it is
    /// time for that.
    fn charge_guest_or_open(&self, calls: &mut u8) -> Option<Self> {
        *calls = SETTLED.min(*calls + 1);
        if *calls < SETTLED && !self.is_outdated() {
            self.charge_guest();
            return None;
        }
        let own = Self::new(Arc::clone(&self.shared));
        own.charge_own();
        Some(own)
    }

    /// Takes a token for a further attempt. False if the budget has none.
    pub(crate) fn withdraw(&self, now: Instant) -> bool {
        self.pay();
        self.shared.budget().withdraw(now)
    }

    /// Says to the layers inside that the call at hand has paid, until what is returned is dropped.
    #[inline]
    pub(crate) fn paid(&self) -> Option<Paid> {
        pay(self.budget_id)
    }

    #[inline]
    fn charge_own(&self) {
        if is_paid(self.budget_id) {
            return;
        }
        let calls = self.own.load(Relaxed) + 1;
        self.own.store(calls, Relaxed);
        if calls.is_multiple_of(BATCH) {
            self.pay();
        }
    }

    fn charge_guest(&self) {
        if !is_paid(self.budget_id) && self.guests.fetch_add(1, Relaxed) % BATCH == BATCH - 1 {
            self.pay();
        }
    }

    /// Pays for the calls that were not paid for yet. Of several threads that pay at once, each pays for what the ones
    /// before it had not seen.
    #[cold]
    fn pay(&self) {
        let calls = self.own.load(Relaxed) + self.guests.load(Relaxed);
        let paid = self.paid.fetch_max(calls, Relaxed);
        if calls > paid {
            self.shared.budget().deposit(calls - paid);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.pay();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Budget, Config};

    /// A member of a layer whose budget gives back what is paid in.
    fn member() -> (Member<(), ()>, Budget) {
        let budget = Budget::new(1.0, 0.0);
        let config = Config { budget: Some(budget.clone()), ..Config::new(3) };
        (Member::new((), Arc::new(()), Account::new(Arc::new(Shared::new(config)))), budget)
    }

    fn tokens(budget: &Budget) -> usize {
        // Too early for anything to leak.
        let now = Instant::now() - std::time::Duration::from_secs(1);
        (0..).take_while(|_| budget.withdraw(now)).count()
    }

    #[test]
    fn what_others_paid_in_arrives_in_batches_and_when_they_are_dropped() {
        let (mut member, budget) = member();
        for _ in 0..34 {
            member.charge();
        }
        // Those of the first account, which ended when the member got its own.
        assert_eq!(tokens(&budget), 3);
        member.charge();
        assert_eq!(tokens(&budget), 32);
        let call = member.charge();
        drop(member);
        assert_eq!(tokens(&budget), 0);
        drop(call);
        assert_eq!(tokens(&budget), 1);
    }

    #[test]
    fn a_call_can_spend_at_once_what_its_clones_paid_in() {
        let (mut member, _) = member();
        let call = (0..20).map(|_| member.charge()).last().unwrap();
        for mut clone in std::iter::repeat_n(member, 2) {
            clone.charge();
        }
        let now = Instant::now() - std::time::Duration::from_secs(1);
        assert_eq!((0..).take_while(|_| call.account.withdraw(now)).count(), 22);
    }

    #[test]
    fn calls_from_many_threads_are_all_paid_for_and_none_twice() {
        let (mut member, budget) = member();
        for _ in 0..10 {
            member.charge();
        }
        let now = Instant::now() - std::time::Duration::from_secs(1);
        let spent: usize = std::thread::scope(|scope| {
            let work = |n: usize, mut member: Member<(), ()>| {
                let mut spent = 0;
                for call in 0..1_000 {
                    let origin = if n < 2 { member.charge() } else { member.clone().charge() };
                    spent += usize::from(call % 7 == n && origin.account.withdraw(now));
                }
                spent
            };
            let threads: Vec<_> = (0..4)
                .map(|n| {
                    let clone = member.clone();
                    scope.spawn(move || work(n, clone))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        drop(member);
        assert!(spent > 0);
        assert_eq!(spent + tokens(&budget), 4_010);
    }
}
