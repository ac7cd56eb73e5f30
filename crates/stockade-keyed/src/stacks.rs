//! The stacks of one service and its clones, by key.
//!
//! A stack contains the client of the service, so each service has stacks of its own; the layers in them, and their
//! handles, come from the table of keys that all services of the layer share. This is what a call of a known key looks
//! at: one short lock of many, under which the key is compared, and nothing else that is foreign runs.

use std::sync::{Arc, Weak};

use hashbrown::HashTable;
use stockade_core::{
    Rejected,
    internal::{lock, sync::Mutex},
};
use tower_layer::Layer;

use crate::{
    in_use::{Common, InUse, Used},
    known::{Entry, shrink},
    shared::{Forget, Shared, discard},
    usage::Usage,
};

/// The stacks of one service and its clones.
pub(crate) struct Stacks<S, K, H, L: Layer<S>> {
    pub(crate) shared: Arc<Shared<K, H, L>>,
    pub(crate) inner: S,
    shards: Shards<StackIn<S, K, H, L>>,
}

/// On cache lines of its own, so that two threads with two keys share none.
#[repr(align(128))]
struct Shard<T>(Mutex<Table<T>>);

type Shards<T> = Box<[Shard<T>]>;
type Table<T> = HashTable<Arc<T>>;

/// The stack of a key.
pub(crate) struct Stack<K, H, L, T> {
    entry: Arc<Entry<K, H, L>>,
    pub(crate) stack: T,
}

type StackIn<S, K, H, L> = Stack<K, H, L, <L as Layer<S>>::Service>;

/// So many that two threads seldom meet.
const SHARDS: usize = 32;

// === impl Stacks ===

impl<S, K, H, L> Stacks<S, K, H, L>
where
    S: Send + Sync + 'static,
    K: Send + Sync + 'static,
    H: Send + Sync + 'static,
    L: Layer<S> + Send + Sync + 'static,
    L::Service: Send + Sync + 'static,
{
    pub(crate) fn new(inner: S, shared: Arc<Shared<K, H, L>>) -> Arc<Self> {
        let shards = (0..SHARDS).map(|_| Shard(Mutex::new(HashTable::new()))).collect();
        let stacks = Arc::new(Self { shared, inner, shards });
        let weak = Arc::downgrade(&stacks);
        stacks.shared.tell(weak as Weak<dyn Forget<K, H, L>>);
        stacks
    }

    fn shard(&self, hash: u64) -> &Mutex<Table<StackIn<S, K, H, L>>> {
        // Not the bits by which the tables find a key.
        &self.shards[(hash >> 48) as usize % SHARDS].0
    }

    /// The stack of this key, in use by a call from now on.
    #[inline]
    pub(crate) fn enter<Q>(
        &self,
        found: Q,
        hash: u64,
    ) -> Result<InUse<StackIn<S, K, H, L>>, Rejected>
    where
        S: Clone,
        K: Eq,
        Q: PartialEq<K> + Into<K>,
    {
        let is = |key: &K| found == *key;
        let known = {
            let shard = lock(self.shard(hash));
            let stack = shard.find(hash, |stack| {
                stack.entry.hash == hash && stack.entry.key.as_ref().is_some_and(is)
            });
            stack.and_then(InUse::enter)
        };
        known.map_or_else(|| self.enter_unknown(found, hash), Ok)
    }

    #[cold]
    #[inline(never)]
    fn enter_unknown<Q>(&self, found: Q, hash: u64) -> Result<InUse<StackIn<S, K, H, L>>, Rejected>
    where
        S: Clone,
        K: Eq,
        Q: PartialEq<K> + Into<K>,
    {
        // It stays in use until the call is in.
        let entry = self.shared.enter(found, hash, self.shared.common.now())?;
        let entry = entry.get();
        loop {
            if let Some(stack) = self.of(entry) {
                return Ok(stack);
            }
            let stack = entry.layers.layer(self.inner.clone());
            let stack = Arc::new(Stack { entry: Arc::clone(entry), stack });
            let mut shard = lock(self.shard(entry.hash));
            // Another call of the key may have been faster.
            if shard.find(entry.hash, |stack| Arc::ptr_eq(&stack.entry, entry)).is_none() {
                shard.insert_unique(entry.hash, Arc::clone(&stack), |stack| stack.entry.hash);
            }
            drop(shard);
            discard(stack);
        }
    }

    fn of(&self, entry: &Arc<Entry<K, H, L>>) -> Option<InUse<StackIn<S, K, H, L>>> {
        let shard = lock(self.shard(entry.hash));
        let stack = shard.find(entry.hash, |stack| Arc::ptr_eq(&stack.entry, entry))?;
        InUse::enter(stack)
    }
}

impl<S, K, H, L> Forget<K, H, L> for Stacks<S, K, H, L>
where
    S: Send + Sync + 'static,
    K: Send + Sync + 'static,
    H: Send + Sync + 'static,
    L: Layer<S> + Send + Sync + 'static,
    L::Service: Send + Sync + 'static,
{
    fn forget(&self, entry: &Arc<Entry<K, H, L>>) {
        let mut shard = lock(self.shard(entry.hash));
        let found = shard.find_entry(entry.hash, |stack| Arc::ptr_eq(&stack.entry, entry));
        let gone = found.map(|found| found.remove().0).ok();
        if gone.is_some() {
            shrink(&mut shard, |stack| stack.entry.hash);
        }
        drop(shard);
        discard(gone);
    }
}

// === impl Stack ===

#[cfg(all(test, shuttle))]
impl<K: Copy, H, L, T> Stack<K, H, L, T> {
    pub(crate) fn key(&self) -> Option<K> {
        self.entry.key
    }
}

impl<K, H, L, T> Used for Stack<K, H, L, T>
where
    K: Send + Sync,
    H: Send + Sync,
    L: Send + Sync,
    T: Send + Sync,
{
    fn usage(&self) -> &Usage {
        &self.entry.usage
    }

    fn common(&self) -> &Common {
        &self.entry.common
    }
}
