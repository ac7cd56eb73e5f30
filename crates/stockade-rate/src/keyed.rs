//! One bucket for each key, and a bound on how many there are.
//!
//! A key whose bucket is full is in the same state as one that never came, so evicting it changes nothing. Whenever a
//! new key comes and the table is half full, two of those that are there are looked at, in turns, and the ones that are
//! idle go. So each key is looked at again and again while new ones come, and nothing runs in the background. When the
//! table is full and neither of the two is idle, the new key gets no bucket of its own but the one that all such keys
//! share.
//!
//! What a key needs is one word, its bucket. Only while its calls wait, or during a penalty, is there a queue.
//!
//! One short lock is around it, not many, so that the bound is exact. Under it the key is hashed and compared, and its
//! bucket is asked. A key is cloned and dropped outside of it. The hash is the standard library's, whose secret keeps
//! others from choosing keys that collide.

use std::{
    collections::HashMap, fmt, hash::Hash, num::NonZeroU32, sync::Arc, task::Poll, time::Duration,
};

use governor::nanos::Nanos;
use stockade_core::{
    Reason,
    internal::{Refusal, lock, sync::Mutex},
};

use crate::{
    Config, Policy, PolicyFor, RateHandle,
    backend::{Admission, Backend},
    bucket::Bucket,
    limiter::{Common, Limiter},
    shared::Shared,
    waiter::Waiter,
};

/// A bucket for each key, which a function reads from the request; see
/// [`RateLayer::keyed`](crate::RateLayer::keyed).
pub struct Keyed<K, F> {
    table: Arc<Table<K>>,
    key: F,
}

/// Reads the state of a keyed rate limit, and pauses a key when a server asked for that.
///
/// It does not change the rate. A clone is a handle to the same rate limit.
///
/// # Example
///
/// ```
/// use stockade_core::Error;
/// use stockade_rate::RateLayer;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let (layer, handle) = RateLayer::per_second(10).keyed(|user: &u64| *user, 1_000).with_handle();
/// let echo = service_fn(|user: u64| async move { Ok::<_, Error<()>>(user) });
/// ServiceBuilder::new().layer(layer).service(echo).oneshot(7).await.unwrap();
/// assert_eq!((handle.keys(), handle.available(&7), handle.available(&8)), (1, 9, 10));
/// # }
/// ```
pub struct KeyedHandle<K> {
    table: Arc<Table<K>>,
}

struct Table<K> {
    common: Arc<Common>,
    max_keys: usize,
    /// For keys that have no place.
    overflow: Arc<Shared>,
    known: Mutex<Known<K>>,
}

struct Known<K> {
    places: HashMap<K, usize>,
    slots: Vec<Slot<K>>,
    /// The slot that is looked at next.
    next: usize,
}

struct Slot<K> {
    key: K,
    /// When the bucket will be full.
    full_at: Nanos,
    /// The bucket and the queue, in place of `full_at`.
    shared: Option<Arc<Shared>>,
}

/// How many keys are looked at when a new one comes: more than one, so that a table empties.
const LOOKS: usize = 2;

/// What has been evicted, to be dropped after the lock, because a key may run code of its own then.
type Evicted<K> = [Option<(K, Slot<K>)>; LOOKS];

// === impl Table ===

impl<K: Hash + Eq + Clone> Table<K> {
    fn new(config: Config, max_keys: usize) -> Self {
        let common = Arc::new(Common::new(config));
        let known = Known { places: HashMap::new(), slots: Vec::new(), next: 0 };
        let overflow = Arc::new(Shared::new(Arc::clone(&common)));
        Self { common, max_keys, overflow, known: Mutex::new(known) }
    }

    /// A call with this key comes.
    fn admit(&self, key: K, now: Nanos, cost: NonZeroU32) -> Admission<Shared> {
        let mut clone = None;
        loop {
            let mut known = lock(&self.known);
            if let Some(slot) = known.slot(&key) {
                let Some(shared) = slot.shared(now) else {
                    return slot.admit(&self.common, now, cost);
                };
                let shared = Arc::clone(shared);
                drop(known);
                return Shared::admit(&shared, cost);
            }
            let Some(clone) = clone.take() else {
                drop(known);
                clone = Some(key.clone());
                continue;
            };
            let evicted = if known.slots.len() >= self.max_keys / 2 {
                known.evict(now)
            } else {
                Evicted::default()
            };
            let admission = if known.slots.len() < self.max_keys {
                let place = known.slots.len();
                known.places.insert(clone, place);
                known.slots.push(Slot { key, full_at: Nanos::default(), shared: None });
                known.slots[place].admit(&self.common, now, cost)
            } else {
                drop(known);
                Shared::admit(&self.overflow, cost)
            };
            drop(evicted);
            return admission;
        }
    }

    /// Looks at the bucket at which a call with this key would come, if there is one.
    fn look<R>(&self, key: &K, f: impl FnOnce(&Shared) -> R) -> Option<R> {
        let now = self.common.now();
        let mut known = lock(&self.known);
        let is_full = known.slots.len() >= self.max_keys;
        let shared = match known.slot(key) {
            Some(slot) => slot.grown(&self.common, now),
            None if is_full => Arc::clone(&self.overflow),
            None => return None,
        };
        drop(known);
        Some(f(&shared))
    }
}

// === impl Known ===

impl<K: Hash + Eq> Known<K> {
    fn slot(&mut self, key: &K) -> Option<&mut Slot<K>> {
        let place = *self.places.get(key)?;
        self.slots.get_mut(place)
    }

    fn evict(&mut self, now: Nanos) -> Evicted<K> {
        [(); LOOKS].map(|()| {
            if self.next >= self.slots.len() {
                self.next = 0;
            }
            if !self.slots.get_mut(self.next)?.is_idle(now) {
                self.next += 1;
                return None;
            }
            let slot = self.slots.swap_remove(self.next);
            let (twin, _) = self.places.remove_entry(&slot.key)?;
            if let Some(moved) = self.slots.get(self.next) {
                *self.places.get_mut(&moved.key)? = self.next;
            }
            Some((twin, slot))
        })
    }
}

// === impl Slot ===

impl<K> Slot<K> {
    /// A call comes, and there is no queue.
    fn admit(&mut self, common: &Arc<Common>, now: Nanos, cost: NonZeroU32) -> Admission<Shared> {
        let bucket = Bucket::full_at(common.quota, self.full_at);
        let verdict = if bucket.take(now, cost).is_ok() {
            Poll::Ready(Ok(()))
        } else {
            let (limiter, bounds) = (Limiter::default(), common.config.bounds());
            common.judge(&limiter, common.at(&bucket, now), cost, bounds)
        };
        self.full_at = bucket.word();
        match verdict {
            Poll::Ready(Ok(())) => Admission::Pass,
            Poll::Ready(Err(rejected)) => Admission::Refuse(Refusal::new(common, rejected)),
            Poll::Pending => Admission::Wait(Waiter::new(self.grown(common, now), cost)),
        }
    }

    /// The bucket with its queue, which is put in place if there is none.
    fn grown(&mut self, common: &Arc<Common>, now: Nanos) -> Arc<Shared> {
        if self.shared(now).is_none() {
            let bucket = Bucket::full_at(common.quota, self.full_at);
            self.shared = Some(Arc::new(Shared::with_bucket(Arc::clone(common), bucket)));
        }
        Arc::clone(self.shared.as_ref().expect("it is put in place above"))
    }

    /// The bucket with its queue, unless nobody needs the queue any more.
    fn shared(&mut self, now: Nanos) -> Option<&Arc<Shared>> {
        // A call that waits, or is about to, has a reference too.
        if let Some(shared) = &self.shared
            && Arc::strong_count(shared) == 1
            && let Some(full_at) = shared.unused(now)
        {
            self.full_at = full_at;
            self.shared = None;
        }
        self.shared.as_ref()
    }

    fn is_idle(&mut self, now: Nanos) -> bool {
        self.shared(now).is_none() && self.full_at <= now
    }
}

// === impl Keyed ===

impl<K: Hash + Eq + Clone, F> Keyed<K, F> {
    pub(crate) fn new(key: F, config: Config, max_keys: usize) -> Self {
        Self { table: Arc::new(Table::new(config, max_keys)), key }
    }
}

impl<K: Hash + Eq + Clone, F: Clone> Policy for Keyed<K, F> {
    type Handle = KeyedHandle<K>;
    type Limiter = Shared;

    fn fresh(&self, config: &Config) -> Self {
        Self::new(self.key.clone(), config.clone(), self.table.max_keys)
    }

    fn handle(&self) -> KeyedHandle<K> {
        KeyedHandle { table: Arc::clone(&self.table) }
    }
}

impl<K, F, Req> PolicyFor<Req> for Keyed<K, F>
where
    K: Hash + Eq + Clone,
    F: Fn(&Req) -> K + Clone,
{
    fn admit(&self, request: &Req, cost: Option<NonZeroU32>) -> Admission<Shared> {
        let key = (self.key)(request);
        self.table.admit(key, self.table.common.now(), cost.unwrap_or(NonZeroU32::MIN))
    }
}

impl<K, F: Clone> Clone for Keyed<K, F> {
    fn clone(&self) -> Self {
        Self { table: Arc::clone(&self.table), key: self.key.clone() }
    }
}

impl<K, F> fmt::Debug for Keyed<K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed").field("max_keys", &self.table.max_keys).finish_non_exhaustive()
    }
}

// === impl KeyedHandle ===

impl<K: Hash + Eq + Clone> KeyedHandle<K> {
    /// The number of keys that have a bucket of their own.
    pub fn keys(&self) -> usize {
        lock(&self.table.known).slots.len()
    }

    /// The number of calls with this key that would pass at once. A key without a bucket counts as one that would get
    /// a full one, or where there is no place, the one that all such keys share.
    pub fn available(&self, key: &K) -> u32 {
        let burst = self.table.common.quota.burst_size().get();
        self.table.look(key, Shared::available).unwrap_or(burst)
    }

    /// The number of calls that wait for tokens of this key's bucket.
    pub fn waiting(&self, key: &K) -> usize {
        self.table.look(key, Shared::waiting).unwrap_or(0)
    }

    /// Gives this key no token until `pause` has passed: [`RateHandle::penalize`]. A key without a bucket of its own is
    /// not touched.
    pub fn penalize(&self, key: &K, pause: Duration) {
        self.change(key, |shared, now| shared.penalize(now, pause));
    }

    /// Corrects what a call with this key was charged: [`RateHandle::settle`]. A key without a bucket of its own is not
    /// touched.
    pub fn settle(&self, key: &K, tokens: i64) {
        self.change(key, |shared, now| shared.adjust(now, tokens));
    }

    /// How many calls were refused for this reason, whatever their keys.
    pub fn refused(&self, reason: Reason) -> u64 {
        self.table.common.refusals.get(reason)
    }

    /// The configuration of each bucket.
    pub fn config(&self) -> Config {
        self.table.common.config.clone()
    }

    /// The bucket that is shared by keys for which there is no place. It is switched off and on with all others.
    pub fn overflow(&self) -> RateHandle {
        RateHandle(Arc::clone(&self.table.overflow))
    }

    /// Switches the rate limit off for all keys, or on again: [`RateHandle::set_enabled`].
    pub fn set_enabled(&self, enabled: bool) {
        self.table.common.enable(enabled);
        let queues: Vec<_> = {
            let known = lock(&self.table.known);
            known.slots.iter().filter_map(|slot| slot.shared.clone()).collect()
        };
        self.table.overflow.switched();
        queues.iter().for_each(|shared| shared.switched());
    }

    fn change(&self, key: &K, f: impl FnOnce(&Shared, Nanos)) {
        let now = self.table.common.now();
        let slot =
            |known: &mut Known<K>| known.slot(key).map(|slot| slot.grown(&self.table.common, now));
        let shared = slot(&mut lock(&self.table.known));
        if let Some(shared) = shared {
            f(&shared, now);
        }
    }
}

impl<K> Clone for KeyedHandle<K> {
    fn clone(&self) -> Self {
        Self { table: Arc::clone(&self.table) }
    }
}

impl<K> fmt::Debug for KeyedHandle<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedHandle").field("keys", &lock(&self.table.known).slots.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn table(max_keys: usize) -> Table<u64> {
        // Ten a second, and ten at once.
        Table::new(Config { queue: 0, ..Config::new(10, Duration::from_secs(1)) }, max_keys)
    }

    impl Table<u64> {
        fn passes(&self, key: u64, now: u64) -> bool {
            matches!(self.admit(key, now.into(), NonZeroU32::MIN), Admission::Pass)
        }

        fn knows(&self, key: u64) -> bool {
            lock(&self.known).places.contains_key(&key)
        }

        fn assert_bounded(&self) -> usize {
            let known = lock(&self.known);
            assert!(known.slots.len() <= self.max_keys);
            assert_eq!(known.slots.len(), known.places.len());
            assert!(known.slots.iter().enumerate().all(|(n, slot)| known.places[&slot.key] == n));
            known.slots.len()
        }
    }

    #[test]
    fn ten_million_hostile_keys_take_no_more_memory_than_is_allowed_and_a_known_key_keeps_its_rate()
    {
        let table = table(1_000);
        let (mut known, mut hostile) = (0, 0);
        for n in 0..10_000_000_u64 {
            // A million a second; the known key comes 25 times a second, which is more than it may.
            let now = n * 1_000;
            if n % 40_000 == 0 {
                known += u64::from(table.passes(u64::MAX, now));
                table.assert_bounded();
            }
            hostile += u64::from(table.passes(n, now));
        }
        assert_eq!(table.assert_bounded(), 1_000);
        let (capacity, slots) = {
            let known = lock(&table.known);
            (known.places.capacity(), known.slots.capacity())
        };
        // The map doubles once more than its entries need, to have room for those that were removed.
        assert!(capacity <= 4_000 && slots <= 2_000, "{capacity} and {slots}");
        assert_eq!(known, 10 + 10 * 10 - 1, "the burst and ten a second for ten seconds");
        // A place comes free 100 ms after it was taken; and the one bucket for all who find none.
        assert!(hostile <= 1_000 * (1 + 10 * 10) + 10 + 10 * 10, "{hostile}");
    }

    #[test]
    fn keys_that_find_no_place_share_one_bucket_and_keep_those_that_have_one() {
        let table = table(3);
        for key in 0..3 {
            assert!((0..10).all(|_| table.passes(key, 0)));
        }
        let shared = (3..1_000).filter(|key| table.passes(*key, MS)).count();
        assert_eq!((shared, table.assert_bounded()), (10, 3));
        assert!((0..3).all(|key| table.passes(key, 100 * MS) && !table.passes(key, 100 * MS)));
    }

    #[test]
    fn keys_that_are_idle_make_room_and_a_table_empties_to_its_half_while_new_ones_come() {
        let table = table(100);
        assert!((0..100).all(|key| table.passes(key, 0)));
        assert_eq!(table.assert_bounded(), 100);
        for (n, key) in (100..150).enumerate() {
            let now = 100 * MS + 100 * MS * u64::try_from(n).unwrap();
            assert!(table.passes(key, now));
        }
        assert!(table.assert_bounded() <= 51);
    }

    #[test]
    fn a_key_with_a_penalty_is_not_forgotten_before_it_is_over() {
        let table = table(1);
        assert!(table.passes(1, 0));
        let shared = {
            let mut known = lock(&table.known);
            known.slot(&1).unwrap().grown(&table.common, 0.into())
        };
        shared.penalize(0.into(), Duration::from_secs(5));
        drop(shared);
        assert!(table.passes(2, 4_000 * MS), "by the bucket for all");
        assert!(!table.passes(1, 4_999 * MS) && table.passes(1, 5_000 * MS));
        // The bucket is full again, and another takes the place.
        assert!(table.passes(2, 6_000 * MS));
        assert!(table.knows(2));
    }

    #[test]
    fn a_key_for_which_somebody_waits_is_not_forgotten() {
        let table = Table::new(Config::new(10, Duration::from_secs(1)), 1);
        assert!((0..10).all(|_| table.passes(1, 0)));
        let Admission::Wait(waits) = table.admit(1, 0.into(), NonZeroU32::MIN) else {
            panic!("there is no token")
        };
        assert!(table.passes(2, 60_000 * MS));
        assert!(table.knows(1));
        drop(waits);
        assert!(table.passes(2, 60_000 * MS));
        assert!(table.knows(2));
    }

    #[test]
    fn threads_that_bring_new_keys_keep_to_the_bound_and_each_key_to_its_bucket() {
        let table = table(64);
        let first = (0..8).filter(|key| table.passes(*key, 0)).count();
        let passed = std::thread::scope(|scope| {
            let come = || {
                let pass = |n: u64| usize::from(table.passes(n % 8, 0)) | hostile(&table, n);
                (0..20_000).map(pass).sum::<usize>()
            };
            let threads = [(); 4].map(|()| scope.spawn(come));
            threads.map(|thread| thread.join().unwrap()).iter().sum::<usize>()
        });
        assert_eq!(table.assert_bounded(), 64);
        assert_eq!(first + passed, 8 * 10, "time stands still, and each has its burst");
    }

    /// Brings a key that nobody knows, and counts for nothing.
    fn hostile(table: &Table<u64>, n: u64) -> usize {
        table.passes(1_000 + n, 0);
        0
    }
}
