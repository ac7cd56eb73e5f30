use std::{sync::Arc, time::Duration};

use stockade_core::LayerError;
use tokio::time::timeout;

use crate::{Stats, shared::Shared};

/// What a drain left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained<Req> {
    /// How many jobs ended by themselves after the drain began.
    pub completed: u64,
    /// How many jobs were running when the time was up, and were cancelled.
    pub cancelled: u64,
    /// How many workers did not stop although they were told to, because their service does not yield.
    pub stuck: usize,
    /// The requests that were never started, in the order in which they were queued.
    pub unfinished: Vec<Req>,
}

/// How long a cancelled call may take to get to its next await.
const GRACE: Duration = Duration::from_secs(1);

impl<Req> Drained<Req> {
    /// Whether every job that the pool had accepted ended by itself.
    pub fn is_complete(&self) -> bool {
        self.cancelled == 0 && self.unfinished.is_empty() && self.stuck == 0
    }
}

/// Counts the drain for as long as it waits.
struct Draining<'a, Req, T, E>(&'a Shared<Req, T, E>);

impl<'a, Req, T, E> Draining<'a, Req, T, E> {
    fn begin(shared: &'a Shared<Req, T, E>) -> Self {
        shared.set_draining(true);
        shared.close();
        Self(shared)
    }
}

impl<Req, T, E> Drop for Draining<'_, Req, T, E> {
    fn drop(&mut self) {
        self.0.set_draining(false);
    }
}

pub(crate) async fn drain<Req, T, E: LayerError>(
    shared: Arc<Shared<Req, T, E>>,
    limit: Duration,
) -> Drained<Req> {
    let _draining = Draining::begin(&shared);
    let before = shared.stats();
    let mut unfinished = Vec::new();
    if timeout(limit, shared.tasks.wait()).await.is_err() {
        unfinished = shared.take_back();
        shared.abort();
        // A call that never yields cannot be stopped, and is not waited for.
        let _ = timeout(GRACE, shared.tasks.wait()).await;
    }
    unfinished.extend(shared.take_back());
    let after = shared.stats();
    let cancelled = after.cancelled - before.cancelled;
    let ended = |stats: &Stats| stats.ended() - stats.handed_back - stats.cancelled;
    Drained {
        completed: ended(&after) - ended(&before),
        cancelled,
        stuck: after.workers,
        unfinished,
    }
}
