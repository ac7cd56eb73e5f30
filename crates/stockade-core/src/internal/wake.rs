//! Waking a task that others depend on.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    task::Waker,
};

/// Wakes `waker`. If it panics, the panic ends here: the caller goes on to wake the others, and does not lose
/// the answer that it was about to return.
///
/// Call it under no lock: a waker is foreign code, and may come back for the same lock.
pub fn wake(waker: Waker) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
        // Dropping the payload is foreign code too.
        mem::forget(payload);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, task::Wake};

    use super::*;

    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("a waker that panics");
        }
    }

    #[test]
    fn a_panic_of_a_waker_ends_where_it_is_woken() {
        wake(Arc::new(Panics).into());
    }
}
