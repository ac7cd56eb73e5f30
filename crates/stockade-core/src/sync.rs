//! Locks and counters: the standard library's, or those of a model checker.
//!
//! What shares state between threads takes them from here. With `--cfg shuttle` they are the ones of
//! [`shuttle`](https://docs.rs/shuttle), which runs a test under thousands of schedules and prints the one that
//! fails; `cargo xtask check` does that.

use std::sync::PoisonError;

#[cfg(not(shuttle))]
pub use std::sync::{Mutex, MutexGuard, atomic};

#[cfg(shuttle)]
pub use shuttle::sync::{Mutex, MutexGuard, atomic};

/// Locks `mutex`, also after a panic under it: what it guards is kept consistent at every line, so a
/// panic (of a waker, of a user's `Drop`) costs one call its answer and the others go on.
#[inline]
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
