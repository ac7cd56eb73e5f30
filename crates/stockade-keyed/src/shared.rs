//! What all services of a layer share, and how a key comes to its entry.
//!
//! The stacks themselves are in `stacks`, because a stack contains the client of its service. A call of a key that its
//! service knows does not come here.

use std::{
    collections::hash_map::RandomState,
    fmt,
    hash::{BuildHasher, Hash},
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
};

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
    in_use::{Common, InUse},
    known::{AnyEntry, Entries, Entry, Known, OVERFLOW},
    usage::Usage,
};

/// What all services of a layer share.
pub(crate) struct Shared<K, H, L> {
    config: Config,
    layers: Make<K, H, L>,
    hasher: RandomState,
    pub(crate) common: Arc<Common>,
    known: Mutex<Known<K, H, L>>,
    services: Mutex<Services<K, H, L>>,
}

/// Makes the layers of a key, and the handles to them.
pub(crate) type Make<K, H, L> = Arc<dyn Fn(&K) -> (L, H) + Send + Sync>;

/// The stacks of a service, as the table of keys sees them.
pub(crate) trait Forget<K, H, L>: Send + Sync {
    /// The entry was dropped.
    fn forget(&self, entry: &Arc<Entry<K, H, L>>);
}

/// The table of keys, whatever its layers are, as a handle sees it.
pub(crate) trait Look<K, H>: Send + Sync {
    fn common(&self) -> &Common;
    /// Drops all keys that are idle.
    fn clean(&self);
    fn len(&self) -> usize;
    fn find(&self, key: &K) -> Option<Arc<AnyEntry<K, H>>>;
    fn all(&self) -> Vec<Arc<AnyEntry<K, H>>>;
    fn all_overflow(&self) -> Vec<Arc<AnyEntry<K, H>>>;
}

type Services<K, H, L> = Vec<Weak<dyn Forget<K, H, L>>>;

/// Drops what may run code of others. A panic ends here: it is not this call's.
pub(crate) fn discard<T>(value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        // Dropping the payload is foreign code too.
        mem::forget(payload);
    }
}

// === impl Shared ===

impl<K, H, L> Shared<K, H, L> {
    pub(crate) fn new(config: Config, layers: Make<K, H, L>) -> Self {
        let common = Arc::new(Common::new(&config));
        let known = Mutex::new(Known::new(config.idle, &common));
        let services = Mutex::new(Vec::new());
        Self { config, layers, hasher: RandomState::new(), common, known, services }
    }

    pub(crate) fn hash(&self, found: &impl Hash) -> u64 {
        self.hasher.hash_one(found)
    }

    /// The services of the layer hear from now on which keys are dropped.
    pub(crate) fn tell(&self, service: Weak<dyn Forget<K, H, L>>) {
        let mut services = lock(&self.services);
        services.retain(|service| service.strong_count() > 0);
        services.push(service);
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
        let evicted = known.evict(now);
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
            known.insert(entry, now);
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
        let evicted = known.evict(now);
        drop(known);
        self.forget(evicted);
        self.common.due.load(Relaxed) <= now
    }

    fn forget(&self, evicted: Entries<K, H, L>) {
        if evicted.is_empty() {
            return;
        }
        let services = lock(&self.services).clone();
        for service in services.iter().filter_map(Weak::upgrade) {
            evicted.iter().for_each(|entry| service.forget(entry));
            discard(service);
        }
        evicted.into_iter().for_each(discard);
    }
}

impl<K, H, L> Look<K, H> for Shared<K, H, L>
where
    K: Eq + Hash + Send + Sync + 'static,
    H: Send + Sync + 'static,
    L: Send + Sync + 'static,
{
    fn common(&self) -> &Common {
        &self.common
    }

    fn clean(&self) {
        let now = self.common.now();
        while self.sweep(now) {}
    }

    fn len(&self) -> usize {
        lock(&self.known).entries.len()
    }

    fn find(&self, key: &K) -> Option<Arc<AnyEntry<K, H>>> {
        let hash = self.hash(key);
        lock(&self.known).find(hash, |other| key == other).map(any)
    }

    fn all(&self) -> Vec<Arc<AnyEntry<K, H>>> {
        lock(&self.known).entries.iter().map(any).collect()
    }

    fn all_overflow(&self) -> Vec<Arc<AnyEntry<K, H>>> {
        lock(&self.known).overflow.iter().flatten().map(any).collect()
    }
}

fn any<K, H, L: Send + Sync + 'static>(entry: &Arc<Entry<K, H, L>>) -> Arc<AnyEntry<K, H>> {
    Arc::clone(entry) as _
}

impl<K, H, L> fmt::Debug for Shared<K, H, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}
