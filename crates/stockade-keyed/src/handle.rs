//! Which keys there are, and the handles of their layers.

use std::{cmp::Reverse, fmt, sync::Arc};

use stockade_core::{Reason, internal::sync::atomic::Ordering::Relaxed, priority::Priority};

use crate::{known::AnyEntry, shared::Look};

/// Shows the keys of a [`KeyedLayer`](crate::KeyedLayer), and hands out the handles of each. Cheap to clone.
///
/// Looking at a key does not count as using it. Before it looks, it drops the keys that are idle for too long.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use stockade_core::Error;
/// use stockade_keyed::KeyedLayer;
/// use stockade_rate::RateLayer;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let (layer, handle) = KeyedLayer::with_handles(
///     |tenant: &&'static str| *tenant,
///     1_000,
///     |_| RateLayer::per_second(100).with_handle(),
/// )
/// .with_handle();
/// let stack = ServiceBuilder::new()
///     .layer(layer)
///     .map_err(Error::Service)
///     .service_fn(async |tenant: &'static str| Ok::<_, std::io::Error>(tenant));
///
/// stack.oneshot("a").await.unwrap();
/// handle.get(&"a").unwrap().set_rate(200, Duration::from_secs(1)).unwrap();
/// assert_eq!((handle.keys(), handle.stats(&"a").unwrap().calls), (vec!["a"], 1));
/// # }
/// ```
pub struct KeyedHandle<K, H = ()> {
    shared: Arc<dyn Look<K, H>>,
}

/// The calls of one key since it came, or came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyStats {
    /// How many calls came; it begins anew at 137 billion.
    pub calls: u64,
    /// How many of them are in flight.
    pub in_flight: u64,
    /// How many a layer of the key's stack refused.
    pub refused: u64,
}

// === impl KeyedHandle ===

impl<K: Clone, H: Clone> KeyedHandle<K, H> {
    pub(crate) fn new(shared: Arc<dyn Look<K, H>>) -> Self {
        Self { shared }
    }

    /// The handles of a key that is there. So the handle of a key's limit or rate limit tells which calls of the key it
    /// refused: `refused` by reason, and `refused_of` by class of priority.
    ///
    /// They stay those of the key only while it is there: of one that was dropped and came back, get them anew.
    pub fn get(&self, key: &K) -> Option<H> {
        self.shared.clean();
        self.shared.find(key).map(|entry| entry.handles.clone())
    }

    /// The keys that are there, in no order.
    pub fn keys(&self) -> Vec<K> {
        self.shared.clean();
        self.shared.all().iter().filter_map(|entry| entry.key.clone()).collect()
    }

    /// How many keys are there.
    pub fn len(&self) -> usize {
        self.shared.clean();
        self.shared.len()
    }

    /// Whether no key is there.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many keys there may be.
    pub fn max_keys(&self) -> usize {
        self.shared.common().max_keys
    }

    /// The calls of a key that is there.
    pub fn stats(&self, key: &K) -> Option<KeyStats> {
        self.shared.clean();
        self.shared.find(key).map(|entry| stats(&entry))
    }

    /// The keys for which `by` is greatest, at most `n`, the greatest first; for instance `|stats| stats.refused`.
    /// It looks at each key.
    pub fn top(&self, n: usize, by: impl Fn(&KeyStats) -> u64) -> Vec<(K, KeyStats)> {
        self.shared.clean();
        let all = self.shared.all();
        let mut all: Vec<_> = all.into_iter().map(|entry| (stats(&entry), entry)).collect();
        let greatest = |(stats, _): &(KeyStats, _)| Reverse(by(stats));
        if all.len() > n {
            all.select_nth_unstable_by_key(n, greatest);
            all.truncate(n);
        }
        all.sort_by_key(greatest);
        all.into_iter().filter_map(|(stats, entry)| Some((entry.key.clone()?, stats))).collect()
    }

    /// The handles of the stacks that keys without a place share, as far as they were needed.
    pub fn overflow(&self) -> Vec<H> {
        self.shared.all_overflow().iter().map(|entry| entry.handles.clone()).collect()
    }

    /// How many calls had to share a stack, because there was no place for their key.
    pub fn overflowed(&self) -> u64 {
        self.shared.common().overflowed.load(Relaxed)
    }

    /// How many calls this layer refused for this reason: [`Shed`](Reason::Shed) if there was no place, and
    /// [`Expired`](Reason::Expired) if the stack was not ready before the deadline of the call. What the layers in the
    /// stacks refuse is counted there.
    pub fn refused(&self, reason: Reason) -> u64 {
        self.shared.common().refusals.get(reason)
    }

    /// How many calls of this class this layer refused, for whatever reason.
    pub fn refused_of(&self, priority: Priority) -> u64 {
        self.shared.common().refusals.of(priority)
    }
}

fn stats<K, H>(entry: &AnyEntry<K, H>) -> KeyStats {
    let usage = &entry.usage;
    KeyStats { calls: usage.calls(), in_flight: usage.in_flight(), refused: usage.refused() }
}

impl<K, H> Clone for KeyedHandle<K, H> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K, H> fmt::Debug for KeyedHandle<K, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedHandle")
            .field("keys", &self.shared.len())
            .field("max_keys", &self.shared.common().max_keys)
            .finish()
    }
}
