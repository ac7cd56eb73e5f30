//! Locks and counters: the standard library's, or those of a model checker.
//!
//! Code that shares state between threads takes them from here. With `--cfg shuttle` they are those of
//! [`shuttle`](https://docs.rs/shuttle), which runs a test under thousands of schedules and prints the one that
//! fails. `cargo xtask check` does that.

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

/// Locks `mutex`, also after a panic under it: what it guards is consistent at every line, so a panic costs one
/// call its answer and the others go on.
///
/// A thread that finds it locked pauses for a moment before it looks again. A lock that is held for some tens of
/// nanoseconds is not slow because of the wait, but because the lock and what it guards move from one processor's
/// cache to the other's. It is cheaper to let the holder come back a few times in a row. (Backoff as in T. E.
/// Anderson, "The Performance of Spin Lock Alternatives for Shared-Memory Multiprocessors", 1990.)
#[inline]
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    #[cfg(not(shuttle))]
    return try_lock(mutex).unwrap_or_else(|| back_off(mutex));
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

/// Pauses for a microsecond or two at a time (one `spin_loop` takes 5 to 50 ns). After four times the thread sleeps,
/// because the holder may not be running.
#[cfg(not(shuttle))]
#[cold]
#[inline(never)]
fn back_off<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    for _ in 0..4 {
        (0..64).for_each(|_| spin_loop());
        if let Some(guard) = try_lock(mutex) {
            return guard;
        }
    }
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
