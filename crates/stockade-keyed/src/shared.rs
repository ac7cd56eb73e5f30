//! Which keys there are, and which of them go.
//!
//! All services of a layer share one table of keys; the stacks themselves are in `stacks`, because a stack contains the
//! client of its service. A call of a key that its service knows does not come here.
//!
//! The key that is idle longest is found by a heap. What it is ordered by may be older than the last use, never
//! younger: a call writes the time of its end to its key, and the heap hears of it when the key is at its top. Then the
//! key goes back with the right time. So the top, once its time is right, is the key that is idle longest, and a call
//! takes no lock for the order.
//!
//! A key is dropped only when it was not used for the time that is set, also while new keys have no place. So a key
//! that comes back finds what it would have found had it been kept, if the time is one in which its layers recover.

use std::{
    any::Any,
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, hash_map::RandomState},
    fmt,
    hash::{BuildHasher, Hash},
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
};

use hashbrown::HashTable;
use stockade_core::{
    Reason, Rejected,
    internal::{
        lock,
        sync::{Mutex, atomic::Ordering::Relaxed},
    },
};

use crate::{
    WhenFull,
    config::Config,
    in_use::{Common, InUse, Used, nanos},
    usage::{Idle, Usage},
};

/// What all services of a layer share.
pub(crate) struct Shared<K, H, L> {
    config: Config,
    layers: Make<K, H, L>,
    hasher: RandomState,
    pub(crate) common: Arc<Common>,
    known: Mutex<Known<K, H, L>>,
}

/// Makes the layers of a key, and the handles to them.
pub(crate) type Make<K, H, L> = Arc<dyn Fn(&K) -> (L, H) + Send + Sync>;

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

struct Known<K, H, L> {
    entries: HashTable<Arc<Entry<K, H, L>>>,
    order: BinaryHeap<Reverse<Place<K, H, L>>>,
    overflow: [Option<Arc<Entry<K, H, L>>>; OVERFLOW],
    services: Vec<Weak<dyn Forget<K, H, L>>>,
}

/// An entry, and a time after which it was not used, as far as it is known.
struct Place<K, H, L> {
    since: u64,
    entry: Arc<Entry<K, H, L>>,
}

/// The stacks of a service, as the table of keys sees them.
pub(crate) trait Forget<K, H, L>: Send + Sync {
    /// The entry was dropped.
    fn forget(&self, entry: &Arc<Entry<K, H, L>>);
}

type Entries<K, H, L> = Vec<Arc<Entry<K, H, L>>>;
type Evicted<K, H, L> = Entries<K, H, L>;

/// How many keys are looked at under one lock.
const LOOKS: usize = 32;
/// How many stacks are shared by the keys that have no place, by their hash.
pub(crate) const OVERFLOW: usize = 16;
/// Below this a table is not worth shrinking.
const SMALL: usize = 64;

/// Drops what may run code of others. A panic ends here: it is not this call's.
pub(crate) fn discard<T>(value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        // Dropping the payload is foreign code too.
        mem::forget(payload);
    }
}

/// Gives memory back after a peak.
pub(crate) fn shrink<T>(table: &mut HashTable<T>, hash: impl Fn(&T) -> u64) {
    if table.capacity() > SMALL && table.len() < table.capacity() / 8 {
        table.shrink_to(SMALL.max(2 * table.len()), hash);
    }
}

// === impl Shared ===

impl<K, H, L> Shared<K, H, L> {
    pub(crate) fn new(config: Config, layers: Make<K, H, L>) -> Self {
        let common = Arc::new(Common::new(config.name));
        let known = Mutex::new(Known {
            entries: HashTable::new(),
            order: BinaryHeap::new(),
            overflow: Default::default(),
            services: Vec::new(),
        });
        Self { config, layers, hasher: RandomState::new(), common, known }
    }

    pub(crate) fn hash(&self, found: &impl Hash) -> u64 {
        self.hasher.hash_one(found)
    }

    pub(crate) fn max_keys(&self) -> usize {
        self.config.max_keys
    }

    /// The services of the layer hear from now on which keys are dropped.
    pub(crate) fn tell(&self, service: Weak<dyn Forget<K, H, L>>) {
        let mut known = lock(&self.known);
        known.services.retain(|service| service.strong_count() > 0);
        known.services.push(service);
    }

    /// A call comes whose key its service does not know.
    ///
    /// # Errors
    ///
    /// If there is no place for the key, and it may not share one.
    pub(crate) fn enter<Q>(
        &self,
        found: Q,
        hash: u64,
        now: u64,
    ) -> Result<InUse<Entry<K, H, L>>, Rejected>
    where
        K: Eq + Send + Sync,
        H: Send + Sync,
        L: Send + Sync,
        Q: PartialEq<K> + Into<K>,
    {
        let mut known = lock(&self.known);
        if let Some(entry) = known.hold(hash, |key| found == *key) {
            return Ok(entry);
        }
        let evicted = known.evict(now, &self.config, &self.common);
        let is_full = known.entries.len() >= self.config.max_keys;
        drop(known);
        self.forget(evicted);
        if is_full {
            return self.overflow(hash, now, || found.into());
        }
        let key = found.into();
        let (layers, handles) = (self.layers)(&key);
        let entry = Arc::new(self.entry(Some(key), hash, now, handles, layers));
        let mut known = lock(&self.known);
        // Another call of the key may have been faster.
        let is_key = |other: &K| entry.key.as_ref() == Some(other);
        if let Some(other) = known.hold(hash, is_key) {
            drop(known);
            discard(entry);
            return Ok(other);
        }
        if known.entries.len() < self.config.max_keys {
            let held = InUse::hold(&entry);
            known.entries.insert_unique(hash, Arc::clone(&entry), |entry| entry.hash);
            known.order.push(Reverse(Place { since: now, entry }));
            known.note(&self.config, &self.common);
            return Ok(held);
        }
        drop(known);
        let (layers, handles, key) = match Arc::try_unwrap(entry) {
            Ok(Entry { layers, handles, key, .. }) => (layers, handles, key),
            Err(_) => unreachable!("nobody else has seen it"),
        };
        discard((layers, handles));
        self.overflow(hash, now, || key.expect("it was given one"))
    }

    fn overflow(
        &self,
        hash: u64,
        now: u64,
        key: impl FnOnce() -> K,
    ) -> Result<InUse<Entry<K, H, L>>, Rejected>
    where
        K: Send + Sync,
        H: Send + Sync,
        L: Send + Sync,
    {
        if self.config.when_full == WhenFull::Refuse {
            return Err(self.common.refusal(Reason::Shed));
        }
        self.common.overflowed.fetch_add(1, Relaxed);
        // Not the bits by which the tables find a key.
        let place = (hash >> 40) as usize % OVERFLOW;
        if let Some(entry) = &lock(&self.known).overflow[place] {
            return Ok(InUse::hold(entry));
        }
        let (layers, handles) = (self.layers)(&key());
        let entry = Arc::new(self.entry(None, hash, now, handles, layers));
        let mut known = lock(&self.known);
        let held = InUse::hold(known.overflow[place].get_or_insert_with(|| Arc::clone(&entry)));
        drop(known);
        discard(entry);
        Ok(held)
    }

    fn entry(&self, key: Option<K>, hash: u64, now: u64, handles: H, layers: L) -> Entry<K, H, L> {
        let common = Arc::clone(&self.common);
        Entry { key, hash, handles, usage: Usage::new(now), common, layers }
    }

    /// Drops some of the keys that are idle. `true`: there may be more.
    pub(crate) fn sweep(&self, now: u64) -> bool {
        let mut known = lock(&self.known);
        self.common.overdue.store(false, Relaxed);
        let evicted = known.evict(now, &self.config, &self.common);
        drop(known);
        self.forget(evicted);
        self.common.due.load(Relaxed) <= now
    }

    fn forget(&self, evicted: Evicted<K, H, L>) {
        if evicted.is_empty() {
            return;
        }
        let services = lock(&self.known).services.clone();
        for service in services.iter().filter_map(Weak::upgrade) {
            evicted.iter().for_each(|entry| service.forget(entry));
            discard(service);
        }
        evicted.into_iter().for_each(discard);
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.known).entries.len()
    }

    pub(crate) fn find(&self, key: &K) -> Option<Arc<Entry<K, H, L>>>
    where
        K: Eq + Hash,
    {
        let hash = self.hash(key);
        lock(&self.known).find(hash, |other| key == other).cloned()
    }

    pub(crate) fn all(&self) -> Entries<K, H, L> {
        lock(&self.known).entries.iter().cloned().collect()
    }

    pub(crate) fn all_overflow(&self) -> Entries<K, H, L> {
        lock(&self.known).overflow.iter().flatten().cloned().collect()
    }
}

impl<K, H, L> fmt::Debug for Shared<K, H, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}

// === impl Known ===

impl<K, H, L> Known<K, H, L> {
    fn find(&self, hash: u64, is: impl Fn(&K) -> bool) -> Option<&Arc<Entry<K, H, L>>> {
        self.entries.find(hash, |entry| entry.hash == hash && entry.key.as_ref().is_some_and(&is))
    }

    fn hold(&self, hash: u64, is: impl Fn(&K) -> bool) -> Option<InUse<Entry<K, H, L>>>
    where
        Entry<K, H, L>: Used,
    {
        self.find(hash, is).map(InUse::hold)
    }

    /// Takes keys that are idle, the one that is idle longest first.
    fn evict(&mut self, now: u64, config: &Config, common: &Common) -> Evicted<K, H, L> {
        let mut evicted = Vec::new();
        let idle = nanos(config.idle);
        for _ in 0..LOOKS {
            let Some(mut top) = self.order.peek_mut() else { break };
            let Reverse(place) = &mut *top;
            if place.since.saturating_add(idle) > now {
                break;
            }
            match place.entry.usage.drop_idle(place.since, now) {
                Idle::Since(since) => place.since = since,
                Idle::Dropped => {
                    let Reverse(Place { entry, .. }) =
                        std::collections::binary_heap::PeekMut::pop(top);
                    if let Ok(found) =
                        self.entries.find_entry(entry.hash, |other| Arc::ptr_eq(other, &entry))
                    {
                        let _ = found.remove();
                    }
                    evicted.push(entry);
                }
            }
        }
        if !evicted.is_empty() {
            shrink(&mut self.entries, |entry| entry.hash);
            if self.order.len() < self.order.capacity() / 8 {
                self.order.shrink_to(SMALL.max(2 * self.order.len()));
            }
        }
        self.note(config, common);
        evicted
    }

    /// Notes when the next key may be idle for too long.
    fn note(&self, config: &Config, common: &Common) {
        let next = self.order.peek().map(|Reverse(place)| place.since);
        let due = next.map_or(u64::MAX, |since| since.saturating_add(nanos(config.idle)));
        common.due.store(due, Relaxed);
    }
}

// === impl Place ===

impl<K, H, L> PartialEq for Place<K, H, L> {
    fn eq(&self, other: &Self) -> bool {
        self.since == other.since
    }
}

impl<K, H, L> Eq for Place<K, H, L> {}

impl<K, H, L> PartialOrd for Place<K, H, L> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K, H, L> Ord for Place<K, H, L> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.since.cmp(&other.since)
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
