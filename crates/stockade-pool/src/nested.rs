//! Whether the caller is inside a job of a pool.
//!
//! A job that waits for another job of its own pool could wait for ever, because all workers could wait like that. So
//! inside a job there is no queue: a job is accepted only while a worker is free to take it, and refused otherwise.

use std::cell::Cell;

thread_local! {
    /// The address of the pool whose job is being polled, or 0. Set around each poll.
    static INSIDE: Cell<usize> = const { Cell::new(0) };
}

/// Restores the outer one, also after a panic.
struct Scope(usize);

/// Polls a job of `pool`.
#[inline]
pub(crate) fn enter<P, R>(pool: &P, poll: impl FnOnce() -> R) -> R {
    let _scope = Scope(INSIDE.replace(address(pool)));
    poll()
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
