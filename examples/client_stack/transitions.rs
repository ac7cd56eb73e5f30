//! The breaker's transitions, as its handle shows them.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use stockade::breaker::{State, Status};
use tokio::{sync::watch, time::Instant};

/// A change of the breaker's state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transition {
    pub(crate) from: State,
    pub(crate) to: State,
    /// Since the start.
    pub(crate) at: Duration,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Transitions(Arc<Mutex<Vec<Transition>>>);

// === impl Transitions ===

impl Transitions {
    /// Follows the state until nothing of the breaker is left.
    pub(crate) fn follow(mut states: watch::Receiver<Status>) -> Self {
        let (this, began) = (Self::default(), Instant::now());
        let seen = this.clone();
        tokio::spawn(async move {
            let mut from = states.borrow_and_update().state;
            while states.changed().await.is_ok() {
                let to = states.borrow_and_update().state;
                seen.lock().push(Transition { from, to, at: began.elapsed() });
                from = to;
            }
        });
        this
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Vec<Transition>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
