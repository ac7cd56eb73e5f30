//! One bucket a key, and a bound on how many there are.
//!
//! A key whose bucket is full is as good as one that never came, so forgetting it changes nothing. Whenever
//! a new key comes and the table is half full, two of those that are there are looked at, in turns, and
//! the ones that are idle go. So each key is looked at again and again while new ones come, a key that is forgotten was paid for by the
//! one that came, and nothing runs in the background. When there are as many keys as may be, and neither
//! of the two is idle, the new one gets no bucket of its own but the one that all such share: whoever
//! invents keys gets, with all of them together, one bucket's rate once the table is full.
//!
//! One short lock is around it, not many, so that the bound is exact; under it the key is hashed and its
//! bucket is asked. For an integer as the key that makes a call twice as dear as one of a plain rate limit, and
//! where two threads make nothing but such calls, they wait for each other about as long again. The hash is
//! the standard library's, whose secret keeps others from choosing keys that collide.

use std::{collections::HashMap, fmt, hash::Hash, num::NonZeroU32, sync::Arc};

use governor::{Quota, nanos::Nanos};
use stockade_core::internal::{lock, sync::Mutex};

use crate::{
    RateHandle,
    clock::Clock,
    gate::{Gate, Rules, Verdict},
    policy::sealed::{Admit, Make},
    waiter::Waiter,
};

/// A bucket for each key, which a function reads from the request; see
/// [`RateLayer::keyed`](crate::RateLayer::keyed).
pub struct Keyed<K, F> {
    table: Arc<Table<K>>,
    key: F,
}

/// Reads the state of a keyed rate limit, and makes a key pause when a server asked for that.
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
/// let layer = RateLayer::per_second(10).keyed(|user: &u64| *user, 1_000);
/// let handle = layer.handle();
/// let echo = service_fn(|user: u64| async move { Ok::<_, Error<()>>(user) });
/// ServiceBuilder::new().layer(layer).service(echo).oneshot(7).await.unwrap();
/// assert_eq!((handle.keys(), handle.available(&7), handle.available(&8)), (1, 9, 10));
/// # }
/// ```
pub struct KeyedHandle<K> {
    table: Arc<Table<K>>,
}

struct Table<K> {
    quota: Quota,
    rules: Rules,
    max_keys: usize,
    clock: Clock,
    /// For keys that have no place.
    overflow: Arc<Gate>,
    known: Mutex<Known<K>>,
}

/// A call that did not pass, and where it may ask further.
#[derive(Debug)]
pub struct Doubt {
    gate: Arc<Gate>,
    now: Nanos,
    cost: NonZeroU32,
}

struct Known<K> {
    gates: HashMap<K, Arc<Gate>>,
    /// The same, in the order in which they are looked at.
    round: Vec<(K, Arc<Gate>)>,
    next: usize,
}

/// How many keys are looked at when a new one comes: more than one, so that a table empties.
const LOOKS: usize = 2;

/// What has been forgotten, to be dropped after the lock: a key may run code of its own then.
type Forgotten<K> = [Option<(K, Arc<Gate>, K)>; LOOKS];

// === impl Table ===

impl<K: Hash + Eq + Clone> Table<K> {
    fn new(quota: Quota, rules: Rules, max_keys: usize) -> Self {
        let clock = Clock::new();
        Self {
            quota,
            rules,
            max_keys,
            overflow: Arc::new(Gate::new(quota, rules, clock.clone())),
            clock,
            known: Mutex::new(Known { gates: HashMap::new(), round: Vec::new(), next: 0 }),
        }
    }

    /// A call with this key comes: it passes, or here is the gate that it may ask further.
    fn pass(&self, key: K, now: Nanos, cost: Option<NonZeroU32>) -> Result<(), Arc<Gate>> {
        let mut known = lock(&self.known);
        if let Some(gate) = known.gates.get(&key) {
            return if gate.pass(now, cost) { Ok(()) } else { Err(Arc::clone(gate)) };
        }
        let forgotten = if known.round.len() >= self.max_keys / 2 {
            known.forget(now)
        } else {
            Forgotten::default()
        };
        let gate = if known.round.len() < self.max_keys {
            let gate = Arc::new(Gate::new(self.quota, self.rules, self.clock.clone()));
            known.gates.insert(key.clone(), Arc::clone(&gate));
            known.round.push((key, Arc::clone(&gate)));
            gate
        } else {
            Arc::clone(&self.overflow)
        };
        drop(known);
        drop(forgotten);
        if gate.pass(now, cost) { Ok(()) } else { Err(gate) }
    }

    /// The gate at which a call with this key would come.
    fn gate(&self, key: &K) -> Option<Arc<Gate>> {
        let known = lock(&self.known);
        match known.gates.get(key) {
            Some(gate) => Some(Arc::clone(gate)),
            None if known.round.len() < self.max_keys => None,
            None => Some(Arc::clone(&self.overflow)),
        }
    }
}

// === impl Known ===

impl<K: Hash + Eq> Known<K> {
    fn forget(&mut self, now: Nanos) -> Forgotten<K> {
        [(); LOOKS].map(|()| {
            if self.next >= self.round.len() {
                self.next = 0;
            }
            let (_, gate) = self.round.get(self.next)?;
            // The table has two; who waits, or is about to, has more.
            if Arc::strong_count(gate) > 2 || !gate.is_idle(now) {
                self.next += 1;
                return None;
            }
            let (key, gate) = self.round.swap_remove(self.next);
            let (twin, _) = self.gates.remove_entry(&key)?;
            Some((key, gate, twin))
        })
    }
}

// === impl Keyed ===

impl<K: Hash + Eq + Clone, F> Keyed<K, F> {
    pub(crate) fn new(key: F, quota: Quota, rules: Rules, max_keys: usize) -> Self {
        Self { table: Arc::new(Table::new(quota, rules, max_keys)), key }
    }
}

impl<K: Hash + Eq + Clone, F: Clone> Make for Keyed<K, F> {
    type Handle = KeyedHandle<K>;

    fn handle(&self) -> KeyedHandle<K> {
        KeyedHandle { table: Arc::clone(&self.table) }
    }

    #[expect(private_interfaces, reason = "sealed")]
    fn afresh(&self, quota: Quota, rules: Rules) -> Self {
        Self::new(self.key.clone(), quota, rules, self.table.max_keys)
    }
}

impl<K, F, Req> Admit<Req> for Keyed<K, F>
where
    K: Hash + Eq + Clone,
    F: Fn(&Req) -> K + Clone,
{
    type Doubt = Doubt;

    fn pass(&self, request: &Req, cost: Option<NonZeroU32>) -> Result<(), Self::Doubt> {
        let key = (self.key)(request);
        let now = self.table.clock.now();
        self.table.pass(key, now, cost).map_err(|gate| {
            let cost = cost.unwrap_or(NonZeroU32::MIN);
            Doubt { gate, now, cost }
        })
    }

    #[expect(private_interfaces, reason = "sealed")]
    fn knock(&self, Doubt { gate, now, cost }: Doubt) -> Verdict<Waiter> {
        gate.knock(now, cost)
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
    /// The number of keys that have a bucket of their own at the moment.
    pub fn keys(&self) -> usize {
        lock(&self.table.known).round.len()
    }

    /// The number of calls with this key that would pass at once. A key that has no bucket counts as one
    /// that would get a full one, or where there is no place, the one that all such keys share.
    pub fn available(&self, key: &K) -> u32 {
        self.table.gate(key).map_or(self.table.quota.burst_size().get(), |gate| gate.available())
    }

    /// The number of calls that wait for tokens of this key's bucket.
    pub fn waiting(&self, key: &K) -> usize {
        self.table.gate(key).map_or(0, |gate| gate.waiting())
    }

    /// Gives this key no token before the time `pause` has passed: [`RateHandle::penalize`]. A key that
    /// has no bucket at the moment is not touched.
    pub fn penalize(&self, key: &K, pause: std::time::Duration) {
        let gate = lock(&self.table.known).gates.get(key).map(Arc::clone);
        if let Some(gate) = gate {
            RateHandle::new(gate).penalize(pause);
        }
    }

    /// The bucket that is shared by keys for which there is no place.
    pub fn overflow(&self) -> RateHandle {
        RateHandle::new(Arc::clone(&self.table.overflow))
    }
}

impl<K> Clone for KeyedHandle<K> {
    fn clone(&self) -> Self {
        Self { table: Arc::clone(&self.table) }
    }
}

impl<K> fmt::Debug for KeyedHandle<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedHandle").field("keys", &lock(&self.table.known).round.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bucket;

    const RULES: Rules = Rules { burst: None, queue: 0, max_wait: None, name: None };
    const MS: u64 = 1_000_000;

    fn table(max_keys: usize) -> Table<u64> {
        // Ten a second, and ten at once.
        let burst = NonZeroU32::new(10).unwrap();
        Table::new(bucket::quota(Duration::from_millis(100), burst), RULES, max_keys)
    }

    impl Table<u64> {
        fn passes(&self, key: u64, now: u64) -> bool {
            self.pass(key, now.into(), None).is_ok()
        }

        fn assert_bounded(&self) -> usize {
            let known = lock(&self.known);
            assert!(known.round.len() <= self.max_keys);
            assert_eq!(known.round.len(), known.gates.len());
            known.round.len()
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
        let (capacity, round) = {
            let known = lock(&table.known);
            (known.gates.capacity(), known.round.capacity())
        };
        // The map doubles once more than its entries need, to have room for those that were removed.
        assert!(capacity <= 4_000 && round <= 2_000, "{capacity} and {round}");
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
        lock(&table.known).gates[&1].penalize((5_000 * MS).into());
        assert!(table.passes(2, 4_000 * MS), "by the bucket for all");
        assert!(!table.passes(1, 4_999 * MS) && table.passes(1, 5_000 * MS));
        // The bucket is full again, and another takes the place.
        assert!(table.passes(2, 6_000 * MS));
        assert!(lock(&table.known).gates.contains_key(&2));
    }

    #[test]
    fn a_key_for_which_somebody_waits_is_not_forgotten() {
        let table = table(1);
        assert!((0..10).all(|_| table.passes(1, 0)));
        let Err(waits) = table.pass(1, 0.into(), None) else { panic!("there is no token") };
        assert!(table.passes(2, 60_000 * MS));
        assert!(lock(&table.known).gates.contains_key(&1));
        drop(waits);
        assert!(table.passes(2, 60_000 * MS));
        assert!(lock(&table.known).gates.contains_key(&2));
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
