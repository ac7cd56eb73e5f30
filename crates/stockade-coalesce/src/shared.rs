//! Which calls are in flight, by key.

use std::{
    any::Any,
    collections::HashMap,
    hash::Hash,
    sync::Arc,
    task::{Context, Poll},
};

use stockade_core::internal::{
    Key, lock,
    sync::{Mutex, atomic::Ordering::Relaxed},
};

use crate::{
    handle::Counts,
    work::{Heard, Work},
};

/// What the clones of one service share.
pub(crate) struct Shared<K, F, T, E> {
    entries: Mutex<HashMap<K, Entry<F, T, E>>>,
    counts: Arc<Counts>,
}

struct Entry<F, T, E> {
    work: Arc<Work<F, T, E>>,
    callers: usize,
}

/// A caller of a call in flight. Dropping it leaves the call, which ends if it was the last.
pub(crate) struct Caller<K: Hash + Eq, F, T, E> {
    shared: Arc<Shared<K, F, T, E>>,
    key: K,
    // Taken when the caller leaves.
    work: Option<Arc<Work<F, T, E>>>,
    waker: Option<Key>,
}

/// Below this a map is not worth shrinking.
const SMALL: usize = 64;

const LEFT: &str = "a caller is not used after it has left";

// === impl Shared ===

impl<K, F, T, E> Shared<K, F, T, E> {
    pub(crate) fn new(counts: Arc<Counts>) -> Self {
        Self { entries: Mutex::new(HashMap::new()), counts }
    }
}

impl<K: Hash + Eq + Clone, F, T, E> Shared<K, F, T, E> {
    /// Joins the call of this key. `true`: there was none, and the caller has to begin it.
    pub(crate) fn join(self: &Arc<Self>, key: K) -> (Caller<K, F, T, E>, bool) {
        let mut entries = lock(&self.entries);
        let (work, leads) = match entries.get_mut(&key) {
            Some(entry) => {
                entry.callers += 1;
                self.counts.joined.fetch_add(1, Relaxed);
                (Arc::clone(&entry.work), false)
            }
            None => {
                let work = Arc::new(Work::new());
                let entry = Entry { work: Arc::clone(&work), callers: 1 };
                entries.insert(key.clone(), entry);
                self.counts.in_flight.fetch_add(1, Relaxed);
                (work, true)
            }
        };
        drop(entries);
        (Caller { shared: Arc::clone(self), key, work: Some(work), waker: None }, leads)
    }
}

impl<K: Hash + Eq, F, T, E> Shared<K, F, T, E> {
    /// Takes this call off the list, so that the next one with its key begins anew.
    fn end(&self, key: &K, work: &Arc<Work<F, T, E>>, is_over: impl FnOnce(&mut usize) -> bool) {
        let mut entries = lock(&self.entries);
        let entry = entries.get_mut(key).filter(|entry| Arc::ptr_eq(&entry.work, work));
        let gone = if entry.is_some_and(|entry| is_over(&mut entry.callers)) {
            self.counts.in_flight.fetch_sub(1, Relaxed);
            entries.remove_entry(key)
        } else {
            None
        };
        if entries.capacity() > SMALL && entries.len() < entries.capacity() / 8 {
            entries.shrink_to(SMALL);
        }
        drop(entries);
        drop(gone);
    }
}

// === impl Caller ===

impl<K: Hash + Eq, F, T, E> Caller<K, F, T, E> {
    fn work(&self) -> &Arc<Work<F, T, E>> {
        self.work.as_ref().expect(LEFT)
    }

    /// Another caller of the same key, of the call in flight by then.
    pub(crate) fn rejoin(&self) -> (Self, bool)
    where
        K: Clone,
    {
        self.shared.join(self.key.clone())
    }

    /// The call that this caller has to begin is on its way.
    pub(crate) fn begin(&self, future: F) {
        self.work().begin(future);
    }

    /// The call that this caller has to begin will not be made.
    pub(crate) fn lose(&self) {
        self.shared.end(&self.key, self.work(), |_| true);
        self.work().lose(None);
    }

    /// The panic that ended the call, for the first to ask.
    pub(crate) fn panic(&self) -> Option<Box<dyn Any + Send>> {
        self.work().panic()
    }

    /// The result, once it was heard of.
    pub(crate) fn result(mut self) -> Option<Result<T, E>>
    where
        T: Clone,
        E: Clone,
    {
        self.leave()?.result()
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Heard>
    where
        F: Future<Output = Result<T, E>>,
    {
        let Self { shared, key, work, waker } = self;
        let work = work.as_ref().expect(LEFT);
        work.poll(waker, cx, || shared.end(key, work, |_| true))
    }

    fn leave(&mut self) -> Option<Arc<Work<F, T, E>>> {
        let work = self.work.take()?;
        self.shared.end(&self.key, &work, |callers| {
            *callers -= 1;
            *callers == 0
        });
        if let Some(waker) = self.waker.take() {
            work.forget(waker);
        }
        Some(work)
    }
}

impl<K: Hash + Eq, F, T, E> Drop for Caller<K, F, T, E> {
    fn drop(&mut self) {
        drop(self.leave());
    }
}
