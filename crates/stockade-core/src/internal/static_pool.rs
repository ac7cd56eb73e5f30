//! State that calls can refer to without counting references.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Values that are never freed, but used again. It belongs in a `static`.
///
/// A call that keeps the state of its layer alive with an `Arc` counts a reference up and down. These two atomic
/// writes cost more than all else that a layer does for a call that passes. A `&'static T` is not counted, and stays
/// valid when the layer is gone. The price is that its memory is never freed; but a value that was given back
/// is taken again, so there are never more values than were in use at once.
///
/// The owner of a value gives it back once, for instance in the `Drop` of what the handles of a layer share. Calls
/// that began before that may still use it, so the value itself has to tell them from calls of its next
/// owner, for instance by an epoch. Nothing is reset here, and what is large should be freed before the value is
/// given back.
///
/// # Example
///
/// ```
/// use std::sync::atomic::AtomicU64;
/// use stockade_core::internal::StaticPool;
///
/// static COUNTERS: StaticPool<AtomicU64> = StaticPool::new();
///
/// let first = COUNTERS.take(AtomicU64::default);
/// let second = COUNTERS.take(AtomicU64::default);
/// COUNTERS.give_back(first);
/// assert!(std::ptr::eq(first, COUNTERS.take(AtomicU64::default)));
/// # let _ = second;
/// ```
pub struct StaticPool<T: 'static> {
    unused: Mutex<Vec<&'static T>>,
}

// === impl StaticPool ===

impl<T> StaticPool<T> {
    /// An empty store.
    #[expect(clippy::new_without_default, reason = "it is made in a `static`")]
    pub const fn new() -> Self {
        Self { unused: Mutex::new(Vec::new()) }
    }

    /// A value for sole use: the one that was given back last, as it was left, or one that `make` makes.
    pub fn take(&self, make: impl FnOnce() -> T) -> &'static T {
        self.take_if(|_| true, make)
    }

    /// A value for sole use: the last of those given back that is `fit` for it, or one that `make` makes.
    pub fn take_if(
        &self,
        fit: impl Fn(&'static T) -> bool,
        make: impl FnOnce() -> T,
    ) -> &'static T {
        let mut unused = self.lock();
        // What a model checker knows of a value ends with each schedule, so there nothing is used again.
        let found = if cfg!(shuttle) { None } else { unused.iter().rposition(|value| fit(value)) };
        let value = found.map(|index| unused.swap_remove(index));
        drop(unused);
        value.unwrap_or_else(|| Box::leak(Box::new(make())))
    }

    /// Gives a value back that was taken here. If it is given back twice, two will use it.
    pub fn give_back(&self, value: &'static T) {
        self.lock().push(value);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<&'static T>> {
        self.unused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for StaticPool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticPool").field("unused", &self.lock().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
        thread,
    };

    use super::*;

    #[test]
    fn there_are_as_many_values_as_were_in_use_at_once() {
        static STORE: StaticPool<usize> = StaticPool::new();
        let mut made = 0;
        for _ in 0..1_000 {
            let taken = [(); 3].map(|()| {
                STORE.take(|| {
                    made += 1;
                    made
                })
            });
            assert!(taken[0] != taken[1] && taken[0] != taken[2] && taken[1] != taken[2]);
            taken.into_iter().for_each(|value| STORE.give_back(value));
        }
        assert_eq!(made, 3);
    }

    #[test]
    fn no_two_threads_have_the_same_value() {
        static STORE: StaticPool<AtomicUsize> = StaticPool::new();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        let value = STORE.take(AtomicUsize::default);
                        assert_eq!(value.fetch_add(1, Relaxed), 0);
                        value.store(0, Relaxed);
                        STORE.give_back(value);
                    }
                });
            }
        });
        assert!(STORE.lock().len() <= 4);
    }

    #[test]
    fn a_value_comes_back_as_it_was_left() {
        static STORE: StaticPool<AtomicUsize> = StaticPool::new();
        let value = STORE.take(AtomicUsize::default);
        value.store(7, Relaxed);
        STORE.give_back(value);
        assert_eq!(STORE.take(AtomicUsize::default).load(Relaxed), 7);
    }
}
