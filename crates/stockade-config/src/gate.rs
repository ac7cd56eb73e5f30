//! Keeps calls from being made while settings change.
//!
//! A call is inside from when it is made until it has asked each layer that it meets, which takes no time; it is not
//! inside while it runs or waits. The gate closes only while nobody is inside. Those who come while it is closed wait in
//! their response futures, until the settings are changed.

use std::{
    hint,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::*},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::sleep};

#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// How many are inside, and whether it is closed.
    state: AtomicUsize,
    pub(crate) opened: Arc<Notify>,
}

/// A call is being made.
#[derive(Debug)]
pub(crate) struct Inside<'a>(&'a Gate);

/// No call is being made.
#[derive(Debug)]
pub(crate) struct Closed<'a>(&'a Gate);

const CLOSED: usize = 1 << (usize::BITS - 1);

/// How often to look whether those who are inside have left, before others may come in again.
const LOOKS: usize = 1_000;

// === impl Gate ===

impl Gate {
    /// Nothing if it is closed.
    pub(crate) fn enter(&self) -> Option<Inside<'_>> {
        // Acquires what was set before it was opened.
        let inside = Inside(self);
        let before = self.state.fetch_add(1, Acquire);
        (before & CLOSED == 0).then_some(inside)
    }

    /// Waits until nobody is inside. A call that stays inside for long, because its thread is blocked, keeps out this
    /// one, and no other call.
    pub(crate) async fn close(&self) -> Closed<'_> {
        loop {
            if let Some(closed) = self.try_close() {
                return closed;
            }
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Only one may do this at a time.
    fn try_close(&self) -> Option<Closed<'_>> {
        self.state.fetch_or(CLOSED, Acquire);
        let closed = Closed(self);
        for _ in 0..LOOKS {
            if self.state.load(Acquire) == CLOSED {
                return Some(closed);
            }
            hint::spin_loop();
        }
        None
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_sub(1, Release);
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_and(!CLOSED, Release);
        self.0.opened.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_closes_only_while_nobody_is_inside_and_then_lets_nobody_in() {
        let gate = Gate::default();
        let inside = gate.enter().unwrap();
        assert!(gate.try_close().is_none());
        drop(inside);
        let closed = gate.try_close().unwrap();
        assert!(gate.enter().is_none());
        drop(closed);
        assert!(gate.enter().is_some());
    }

    #[test]
    fn one_that_stays_inside_keeps_out_nobody_but_the_one_who_closes() {
        let gate = Gate::default();
        let blocked = gate.enter().unwrap();
        let mut closing = tokio_test::task::spawn(gate.close());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _entered = runtime.enter();
        assert!(closing.poll().is_pending());
        assert!(gate.enter().is_some());
        drop(blocked);
        drop(closing);
        assert!(gate.try_close().is_some());
    }
}
