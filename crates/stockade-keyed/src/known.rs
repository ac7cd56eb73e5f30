//! Which keys there are, and which of them go.
//!
//! All services of a layer share one table of keys. The key that is idle longest is the first in an order. What that is
//! ordered by may be older than the last use, never younger: a call writes the time of its end to its key, and the order
//! hears of it when the key is the first. Then the key goes back with the right time. So the first, once its time is
//! right, is the key that is idle longest, and a call takes no lock for the order.
//!
//! A key is dropped only when it was not used for the time that is set, also while new keys have no place. So a key
//! that comes back finds what it would have found had it been kept, if the time is one in which its layers recover.

use std::{any::Any, collections::BTreeMap, sync::Arc, time::Duration};

use hashbrown::HashTable;
use stockade_core::internal::sync::atomic::Ordering::Relaxed;

use crate::{
    in_use::{Common, InUse, Used, nanos},
    usage::{Idle, Usage},
};

/// One key, or one of the overflow stacks.
pub(crate) struct Entry<K, H, L: ?Sized> {
    /// None: many keys share it.
    pub(crate) key: Option<K>,
    pub(crate) hash: u64,
    pub(crate) handles: H,
    pub(crate) usage: Usage,
    pub(crate) common: Arc<Common>,
    pub(crate) layers: L,
}

/// An entry, whatever its layers are.
pub(crate) type AnyEntry<K, H> = Entry<K, H, dyn Any + Send + Sync>;

/// The table of keys.
pub(crate) struct Known<K, H, L> {
    /// For how long a key is kept unused, in nanoseconds.
    idle: u64,
    common: Arc<Common>,
    pub(crate) entries: HashTable<Arc<Entry<K, H, L>>>,
    order: Order<K, H, L>,
    pub(crate) overflow: [Option<Arc<Entry<K, H, L>>>; OVERFLOW],
}

pub(crate) type Entries<K, H, L> = Vec<Arc<Entry<K, H, L>>>;

/// By a time after which they were not used, as far as it is known, and their address.
type Order<K, H, L> = BTreeMap<(u64, usize), Arc<Entry<K, H, L>>>;

/// How many keys are looked at under one lock.
const LOOKS: usize = 32;
/// How many stacks are shared by the keys that have no place, by their hash.
pub(crate) const OVERFLOW: usize = 16;
/// Below this a table is not worth shrinking.
const SMALL: usize = 64;

/// Gives memory back after a peak.
pub(crate) fn shrink<T>(table: &mut HashTable<T>, hash: impl Fn(&T) -> u64) {
    if table.capacity() > SMALL && table.len() < table.capacity() / 8 {
        table.shrink_to(SMALL.max(2 * table.len()), hash);
    }
}

// === impl Known ===

impl<K, H, L> Known<K, H, L> {
    pub(crate) fn new(idle: Duration, common: &Arc<Common>) -> Self {
        Self {
            idle: nanos(idle),
            common: Arc::clone(common),
            entries: HashTable::new(),
            order: Order::new(),
            overflow: Default::default(),
        }
    }

    pub(crate) fn find(&self, hash: u64, is: impl Fn(&K) -> bool) -> Option<&Arc<Entry<K, H, L>>> {
        self.entries.find(hash, |entry| entry.hash == hash && entry.key.as_ref().is_some_and(&is))
    }

    pub(crate) fn hold(&self, hash: u64, is: impl Fn(&K) -> bool) -> Option<InUse<Entry<K, H, L>>>
    where
        Entry<K, H, L>: Used,
    {
        self.find(hash, is).map(InUse::hold)
    }

    pub(crate) fn insert(&mut self, entry: Arc<Entry<K, H, L>>, now: u64) {
        self.entries.insert_unique(entry.hash, Arc::clone(&entry), |entry| entry.hash);
        self.put_in_order(entry, now);
        self.note();
    }

    fn put_in_order(&mut self, entry: Arc<Entry<K, H, L>>, since: u64) {
        self.order.insert((since, Arc::as_ptr(&entry).addr()), entry);
    }

    /// Takes keys that are idle, the one that is idle longest first.
    pub(crate) fn evict(&mut self, now: u64) -> Entries<K, H, L> {
        let mut evicted = Vec::new();
        for _ in 0..LOOKS {
            let Some(first) = self.order.first_entry() else { break };
            let (since, _) = *first.key();
            if since.saturating_add(self.idle) > now {
                break;
            }
            let entry = first.remove();
            match entry.usage.drop_idle(since, now) {
                Idle::Since(since) => self.put_in_order(entry, since),
                Idle::Dropped => {
                    let is = |other: &Arc<_>| Arc::ptr_eq(other, &entry);
                    if let Ok(found) = self.entries.find_entry(entry.hash, is) {
                        let _ = found.remove();
                    }
                    evicted.push(entry);
                }
            }
        }
        if !evicted.is_empty() {
            shrink(&mut self.entries, |entry| entry.hash);
        }
        self.note();
        evicted
    }

    /// Notes when the next key may be idle for too long.
    fn note(&self) {
        let next = self.order.first_key_value().map(|((since, _), _)| *since);
        let due = next.map_or(u64::MAX, |since| since.saturating_add(self.idle));
        self.common.due.store(due, Relaxed);
    }
}

// === impl Entry ===

impl<K, H, L> Used for Entry<K, H, L>
where
    K: Send + Sync,
    H: Send + Sync,
    L: Send + Sync,
{
    fn usage(&self) -> &Usage {
        &self.usage
    }

    fn common(&self) -> &Common {
        &self.common
    }
}
