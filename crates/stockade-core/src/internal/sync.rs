//! Locks and counters: the standard library's, or those of a model checker.
//!
//! What shares state between threads takes them from here. With `--cfg shuttle` they are the ones of
//! [`shuttle`](https://docs.rs/shuttle), which runs a test under thousands of schedules and prints the one that
//! fails; `cargo xtask check` does that.

#[cfg(not(shuttle))]
use std::{hint::spin_loop, sync::TryLockError};

use std::sync::PoisonError;

#[cfg(not(shuttle))]
pub use std::{
    sync::{Mutex, MutexGuard, atomic},
    thread_local,
};

#[cfg(shuttle)]
pub use shuttle::{
    sync::{Mutex, MutexGuard, atomic},
    thread_local,
};

/// Locks `mutex`, also after a panic under it: what it guards is kept consistent at every line, so a
/// panic (of a waker, of a user's `Drop`) costs one call its answer and the others go on.
///
/// Whoever finds it locked stands back for a moment, without looking. A lock that is held for some tens of nanoseconds
/// is slow not because one has to wait for it, but because it and all that it guards go from one processor to the
/// other at each visit: whoever has them at hand had better make a few visits in a row. (A backoff as in T. E.
/// Anderson, "The Performance of Spin Lock Alternatives for Shared-Memory Multiprocessors", 1990.)
#[inline]
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    #[cfg(not(shuttle))]
    return try_lock(mutex).unwrap_or_else(|| stand_back(mutex));
    #[cfg(shuttle)]
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(not(shuttle))]
#[inline]
fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// A microsecond or two at a time (a pause is some 5 to 50 ns, by processor). Whoever has no luck with that sleeps,
/// because the holder may have lost his processor.
#[cfg(not(shuttle))]
#[cold]
#[inline(never)]
fn stand_back<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    for _ in 0..4 {
        (0..64).for_each(|_| spin_loop());
        if let Some(guard) = try_lock(mutex) {
            return guard;
        }
    }
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
