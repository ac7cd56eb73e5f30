//! Which calls are in flight, by key.

use std::{
    collections::HashMap,
    hash::Hash,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
};

use stockade_core::{
    deadline,
    internal::{Key, lock, sync::Mutex},
};

use crate::{
    handle::Shared,
    work::{Ended, Panic, Work},
};

/// What the clones of one service share.
pub(crate) struct Calls<K, F: Future> {
    entries: Mutex<HashMap<K, Entry<F>>>,
    shared: Arc<Shared>,
}

struct Entry<F: Future> {
    work: Arc<Work<F>>,
    callers: usize,
}

/// A caller of a call in flight. Dropping it leaves the call, which ends if it was the last.
pub(crate) struct Caller<K: Hash + Eq, F: Future> {
    calls: Arc<Calls<K, F>>,
    key: K,
    // Taken when the caller leaves.
    work: Option<Arc<Work<F>>>,
    waker: Option<Key>,
}

/// Below this a map is not worth shrinking.
const SMALL: usize = 64;

const LEFT: &str = "a caller is not used after it has left";

// === impl Calls ===

impl<K, F: Future> Calls<K, F> {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { entries: Mutex::new(HashMap::new()), shared }
    }
}

impl<K: Hash + Eq + Clone, F: Future> Calls<K, F> {
    /// Joins the call of this key. `true`: there was none, and the caller has to begin it.
    pub(crate) fn join(self: &Arc<Self>, key: K) -> (Caller<K, F>, bool) {
        let own_key = key.clone();
        let mut entries = lock(&self.entries);
        let entry = entries.entry(own_key).or_insert_with(|| {
            self.shared.in_flight.fetch_add(1, Relaxed);
            Entry { work: Arc::new(Work::new()), callers: 0 }
        });
        entry.callers += 1;
        let (work, leads) = (Arc::clone(&entry.work), entry.callers == 1);
        drop(entries);
        if !leads {
            self.shared.joined.fetch_add(1, Relaxed);
        }
        (Caller { calls: Arc::clone(self), key, work: Some(work), waker: None }, leads)
    }
}

impl<K: Hash + Eq, F: Future> Calls<K, F> {
    /// Takes this call off the list, so that the next one with its key begins anew.
    fn end(&self, key: &K, work: &Arc<Work<F>>, is_over: impl FnOnce(&mut usize) -> bool) {
        let mut entries = lock(&self.entries);
        let entry = entries.get_mut(key).filter(|entry| Arc::ptr_eq(&entry.work, work));
        let is_over = entry.is_some_and(|entry| is_over(&mut entry.callers));
        let gone = is_over.then(|| entries.remove_entry(key));
        if entries.capacity() > SMALL && entries.len() < entries.capacity() / 8 {
            entries.shrink_to(SMALL);
        }
        drop(entries);
        self.shared.in_flight.fetch_sub(usize::from(is_over), Relaxed);
        drop(gone);
    }
}

// === impl Caller ===

impl<K: Hash + Eq, F: Future> Caller<K, F> {
    /// Begins the call, which sees no deadline. If that panics, the others hear that there will be no result.
    pub(crate) fn begin(&self, call: impl FnOnce() -> F) {
        let work = self.work.as_ref().expect(LEFT);
        match catch_unwind(AssertUnwindSafe(|| deadline::hidden(call))) {
            Ok(future) => work.begin(future),
            Err(panic) => {
                self.calls.end(&self.key, work, |_| true);
                work.end(Err(Panic::default()));
                resume_unwind(panic);
            }
        }
    }

    /// Ready when the call has ended.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { calls, key, work, waker } = self;
        let work = work.as_ref().expect(LEFT);
        work.poll(waker, cx, || calls.end(key, work, |_| true))
    }

    /// How the call has ended.
    pub(crate) fn end(mut self) -> Ended<F>
    where
        F::Output: Clone,
    {
        self.leave().and_then(Work::ended).expect("it was heard that the call has ended")
    }

    fn leave(&mut self) -> Option<Arc<Work<F>>> {
        let work = self.work.take()?;
        self.calls.end(&self.key, &work, |callers| {
            *callers -= 1;
            *callers == 0
        });
        work.forget(self.waker.take());
        Some(work)
    }
}

impl<K: Hash + Eq, F: Future> Drop for Caller<K, F> {
    fn drop(&mut self) {
        drop(self.leave());
    }
}
