//! Whether one is inside a job of a pool.
//!
//! A job that waits for another job of its own pool may wait for ever: all workers could be waiting so. Hence from
//! inside a job the queue has no room, and a job is accepted only when a worker is free to take it.

use std::cell::Cell;

thread_local! {
    /// The address of the pool whose job is being polled; 0 if none is. Set around each poll, never across one.
    static INSIDE: Cell<usize> = const { Cell::new(0) };
}

/// Puts the outer one back, also after a panic.
struct Scope(usize);

/// Runs a stretch of a job of `pool`.
#[inline]
pub(crate) fn enter<P, R>(pool: &P, run: impl FnOnce() -> R) -> R {
    let _scope = Scope(INSIDE.replace(address(pool)));
    run()
}

/// Whether this is called from inside a job of `pool`.
#[inline]
pub(crate) fn is_inside<P>(pool: &P) -> bool {
    INSIDE.get() == address(pool)
}

fn address<P>(pool: &P) -> usize {
    std::ptr::from_ref(pool).addr()
}

impl Drop for Scope {
    #[inline]
    fn drop(&mut self) {
        INSIDE.set(self.0);
    }
}
