use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

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

/// Closes the pool, waits until all workers have ended or `until` has, and stops what is left then.
pub(crate) async fn drain<Req, T, E: LayerError>(
    shared: Arc<Shared<Req, T, E>>,
    until: impl Future<Output = ()>,
) -> Drained<Req> {
    let _draining = Draining::begin(&shared);
    let before = shared.stats();
    let (mut unfinished, mut stopped) = (Vec::new(), None);
    let (mut ended, mut until) = (pin!(shared.tasks.wait()), pin!(until));
    let in_time = poll_fn(|cx| match ended.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(true),
        Poll::Pending => until.as_mut().poll(cx).map(|()| false),
    });
    if !in_time.await {
        unfinished = shared.take_back();
        // Who goes away during the drain cancels his own job; only what is cancelled from here on was stopped.
        stopped = Some(shared.stats());
        shared.abort();
        // A call that never yields cannot be stopped, and is not waited for.
        let _ = timeout(GRACE, ended).await;
    }
    unfinished.extend(shared.take_back());
    let after = shared.stats();
    if after.workers == 0 {
        shared.start.join();
    }
    let cancelled = stopped.map_or(0, |stopped| after.cancelled - stopped.cancelled);
    let ended = |stats: &Stats| stats.ended() - stats.handed_back - stats.cancelled;
    Drained {
        completed: ended(&after) - ended(&before),
        cancelled,
        stuck: after.workers,
        unfinished,
    }
}

/// Drains at the first signal; the second, or the end of `limit`, ends the drain.
pub(crate) async fn shutdown_on<Req, T, E, F>(
    shared: Arc<Shared<Req, T, E>>,
    mut signal: impl FnMut() -> F,
    limit: Duration,
) -> Drained<Req>
where
    E: LayerError,
    F: Future<Output = ()>,
{
    signal().await;
    let second = signal();
    let until = async {
        // An error means that the time is up, and so does a signal.
        let _ = timeout(limit, second).await;
    };
    drain(shared, until).await
}

/// Closes the pool, hands back what is queued, and stops the workers.
pub(crate) fn abort<Req, T, E: LayerError>(shared: &Shared<Req, T, E>) -> Vec<Req> {
    // The queue is handed back here, and not by the last worker to go.
    let _draining = Draining::begin(shared);
    let unfinished = shared.take_back();
    shared.abort();
    unfinished
}
