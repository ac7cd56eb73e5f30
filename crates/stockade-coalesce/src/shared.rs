//! Which calls are in flight, by key.

use std::{
    any::Any,
    collections::HashMap,
    hash::Hash,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    task::{Context, Poll},
};

use stockade_core::{
    deadline,
    internal::{
        Key, lock,
        sync::{Mutex, atomic::Ordering::Relaxed},
    },
};

use crate::{
    handle::Counts,
    work::{Heard, Work},
};

/// What the clones of one service share.
pub(crate) struct Shared<K, F: Future> {
    entries: Mutex<HashMap<K, Entry<F>>>,
    counts: Arc<Counts>,
}

struct Entry<F: Future> {
    work: Arc<Work<F>>,
    callers: usize,
}

/// A caller of a call in flight. Dropping it leaves the call, which ends if it was the last.
pub(crate) struct Caller<K: Hash + Eq, F: Future> {
    shared: Arc<Shared<K, F>>,
    key: K,
    // Taken when the caller leaves.
    work: Option<Arc<Work<F>>>,
    waker: Option<Key>,
}

/// Below this a map is not worth shrinking.
const SMALL: usize = 64;

const LEFT: &str = "a caller is not used after it has left";

// === impl Shared ===

impl<K, F: Future> Shared<K, F> {
    pub(crate) fn new(counts: Arc<Counts>) -> Self {
        Self { entries: Mutex::new(HashMap::new()), counts }
    }
}

impl<K: Hash + Eq + Clone, F: Future> Shared<K, F> {
    /// Joins the call of this key. `true`: there was none, and the caller has to begin it.
    pub(crate) fn join(self: &Arc<Self>, key: K) -> (Caller<K, F>, bool) {
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

impl<K: Hash + Eq, F: Future> Shared<K, F> {
    /// Takes this call off the list, so that the next one with its key begins anew.
    fn end(&self, key: &K, work: &Arc<Work<F>>, is_over: impl FnOnce(&mut usize) -> bool) {
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

impl<K: Hash + Eq, F: Future> Caller<K, F> {
    fn work(&self) -> &Arc<Work<F>> {
        self.work.as_ref().expect(LEFT)
    }

    /// Another caller of the same key, of the call in flight by then.
    pub(crate) fn rejoin(&self) -> (Self, bool)
    where
        K: Clone,
    {
        self.shared.join(self.key.clone())
    }

    /// Begins the call, which sees no deadline. If that panics, the others hear that there will be no result.
    pub(crate) fn begin(&self, call: impl FnOnce() -> F) {
        match catch_unwind(AssertUnwindSafe(|| deadline::hidden(call))) {
            Ok(future) => self.work().begin(future),
            Err(panic) => {
                self.shared.end(&self.key, self.work(), |_| true);
                self.work().lose();
                resume_unwind(panic);
            }
        }
    }

    /// The panic that ended the call, for the first to ask.
    pub(crate) fn panic(&self) -> Option<Box<dyn Any + Send>> {
        self.work().panic()
    }

    /// The result, once it was heard of.
    pub(crate) fn result(mut self) -> Option<F::Output>
    where
        F::Output: Clone,
    {
        self.leave()?.result()
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        let Self { shared, key, work, waker } = self;
        let work = work.as_ref().expect(LEFT);
        work.poll(waker, cx, || shared.end(key, work, |_| true))
    }

    fn leave(&mut self) -> Option<Arc<Work<F>>> {
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

impl<K: Hash + Eq, F: Future> Drop for Caller<K, F> {
    fn drop(&mut self) {
        drop(self.leave());
    }
}
