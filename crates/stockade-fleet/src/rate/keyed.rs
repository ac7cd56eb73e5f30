//! The limiters of a node, one for each key that has calls under way.
//!
//! What is known of a key is in Redis, and expires there when its bucket is full. Here is only what calls need that wait,
//! and what is left of a lease. So an idle limiter can go at any time, and when there are as many as may be, the oldest
//! idle ones are evicted. Where none of those that are looked at is idle, a new key shares one limiter, and one bucket,
//! with all such keys.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    hash::Hash,
    sync::Arc,
};

use stockade_core::internal::{lock, sync::Mutex};

use super::{limiter::Limiter, shared::Plan};

pub(crate) struct Table<K> {
    plan: Plan,
    pub(crate) max_keys: usize,
    pub(crate) overflow: Arc<Limiter>,
    known: Mutex<Known<K>>,
}

struct Known<K> {
    limiters: HashMap<K, Arc<Limiter>>,
    /// Each key of `limiters` once, the one that was looked at last behind.
    turns: VecDeque<K>,
}

/// What was evicted, to be dropped after the lock.
type Evicted<K> = (K, Option<(K, Arc<Limiter>)>);

/// How many limiters are looked at for one that is idle.
const LOOKS: usize = 8;

// === impl Table ===

impl<K> Table<K> {
    pub(crate) fn new(plan: Plan, max_keys: usize) -> Self {
        let overflow = Arc::new(Limiter::new(plan.clone()));
        let known = Mutex::new(Known { limiters: HashMap::new(), turns: VecDeque::new() });
        Self { plan, max_keys, overflow, known }
    }
}

impl<K: Hash + Eq + Clone + fmt::Display> Table<K> {
    pub(crate) fn limiter(&self, key: K) -> Arc<Limiter> {
        if let Some(limiter) = lock(&self.known).limiters.get(&key) {
            return Arc::clone(limiter);
        }
        // Made before the lock and dropped after it, because a key may run code of its own then.
        let Plan { shared, key: prefix } = &self.plan;
        let plan = Plan { shared: Arc::clone(shared), key: format!("{prefix}:{key}") };
        let (limiter, twin) = (Arc::new(Limiter::new(plan)), key.clone());
        let mut evicted = Vec::new();
        let mut known = lock(&self.known);
        if let Some(limiter) = known.limiters.get(&key) {
            let limiter = Arc::clone(limiter);
            drop(known);
            return limiter;
        }
        if known.limiters.len() >= self.max_keys && !known.make_room(&mut evicted) {
            return Arc::clone(&self.overflow);
        }
        known.limiters.insert(twin, Arc::clone(&limiter));
        known.turns.push_back(key);
        drop(known);
        limiter
    }
}

// === impl Known ===

impl<K: Hash + Eq> Known<K> {
    fn make_room(&mut self, evicted: &mut Vec<Evicted<K>>) -> bool {
        for _ in 0..LOOKS.min(self.turns.len()) {
            let Some(key) = self.turns.pop_front() else { return false };
            // A call that has found its limiter and does not wait yet holds it, too.
            let is_idle =
                |limiter: &Arc<Limiter>| Arc::strong_count(limiter) == 1 && limiter.is_idle();
            if self.limiters.get(&key).is_none_or(is_idle) {
                let twin = self.limiters.remove_entry(&key);
                evicted.push((key, twin));
                return true;
            }
            self.turns.push_back(key);
        }
        false
    }
}
