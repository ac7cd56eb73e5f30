//! How a pool ends.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use stockade_core::Reason;
use tokio::time::timeout;

use crate::{Stats, contain::discard, queue::Key, shared::Shared};

/// What a drain left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained<Req> {
    /// How many jobs ended by themselves after the drain began.
    pub completed: u64,
    /// How many jobs were running when the time was up, and were stopped.
    pub cancelled: u64,
    /// How many workers have not stopped, because their job does not yield.
    ///
    /// Where workers are tasks, a runtime that is dropped waits for such a job, and so does a `main` that returns. To end the
    /// program all the same, save what was handed back and call [`std::process::exit`].
    pub stuck: usize,
    /// The requests of jobs that were never started, in the order in which they were queued.
    pub unfinished: Vec<Req>,
    /// The requests of jobs that were started and did not end, if the pool
    /// [keeps requests](crate::PoolBuilder::keep_requests). They may have had an effect.
    pub started: Vec<Req>,
}

/// How long a call that is stopped may take to get to its next await. It is taken off the time of a drain, but at most
/// a tenth of that.
const GRACE: Duration = Duration::from_millis(50);

// === impl Drained ===

impl<Req> Drained<Req> {
    /// Whether every job that the pool had accepted ended by itself.
    pub fn is_complete(&self) -> bool {
        self.cancelled == 0 && self.unfinished.is_empty() && self.stuck == 0
    }
}

/// Counts the drain for as long as it waits.
struct Draining<'a, Req, T, E>(&'a Shared<Req, T, E>);

impl<'a, Req, T, E> Draining<'a, Req, T, E> {
    fn begin(shared: &'a Arc<Shared<Req, T, E>>) -> Self {
        shared.lock().draining += 1;
        shared.close();
        Self(shared)
    }
}

impl<Req, T, E> Drop for Draining<'_, Req, T, E> {
    fn drop(&mut self) {
        self.0.lock().draining -= 1;
    }
}

/// How long jobs may run in a drain that returns after `limit`.
pub(crate) fn until_stopped(limit: Duration) -> Duration {
    limit - (limit / 10).min(GRACE)
}

/// Closes the pool, waits until all workers have ended or `until` has, and stops what is left then.
pub(crate) async fn drain<Req, T, E>(
    shared: Arc<Shared<Req, T, E>>,
    until: impl Future<Output = ()>,
) -> Drained<Req> {
    let _draining = Draining::begin(&shared);
    let before = shared.stats();
    let (mut unfinished, mut stopped) = (Vec::new(), None);
    let (mut ended, mut until) = (pin!(shared.ended()), pin!(until));
    let in_time = poll_fn(|cx| match ended.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(true),
        Poll::Pending => until.as_mut().poll(cx).map(|()| false),
    });
    if !in_time.await {
        unfinished = shared.take_back();
        // A caller that goes away during the drain cancels its own job; only what is cancelled from here on was
        // stopped by the drain.
        stopped = Some(shared.stats());
        shared.abort();
        // A call that never yields cannot be stopped, and is not waited for.
        let _ = timeout(GRACE, ended).await;
    }
    unfinished.extend(shared.take_back());
    let started = shared.take_stopped();
    let after = shared.stats();
    if after.workers == 0 {
        shared.spawn.join();
    }
    let stopped = stopped.unwrap_or_else(|| after.clone());
    let given_up = |stats: &Stats| stats.handed_back + stats.cancelled;
    let by_themselves = |stats: &Stats| stats.ended() - given_up(stats);
    Drained {
        completed: by_themselves(&after) - by_themselves(&before),
        cancelled: given_up(&after) - given_up(&stopped),
        stuck: after.workers,
        unfinished,
        started,
    }
}

/// Closes the pool, hands back what is queued, and stops the workers.
pub(crate) fn abort<Req, T, E>(shared: &Arc<Shared<Req, T, E>>) -> Vec<Req> {
    // The queue is handed back here, and not by the last worker to go.
    let _draining = Draining::begin(shared);
    let unfinished = shared.take_back();
    shared.abort();
    unfinished
}

impl<Req, T, E> Shared<Req, T, E> {
    /// Takes every job out of the queue, and returns the requests. Their callers are told that the pool is closed.
    pub(crate) fn take_back(&self) -> Vec<Req> {
        let rejected = self.rejected(Reason::PoolClosed);
        let mut core = self.lock();
        let mut back = Vec::new();
        while let Some((key, job)) = core.queue.hand_back() {
            back.push(core.end_unstarted(key, job, rejected));
        }
        core.wake_if_over();
        self.let_go(core);
        back.into_iter().filter_map(|job| job.into_request(rejected)).collect()
    }

    /// Takes the kept request of a job that is stopped, for the drain; returns a copy.
    pub(crate) fn save_stopped(&self, key: Key) -> Option<Req> {
        let keep = self.rules.keep.as_ref()?;
        let kept = self.lock().queue.take_kept(key)?;
        let copy = keep(&kept);
        self.lock().stopped.push(kept);
        Some(copy)
    }

    /// The requests of jobs that were stopped, or still run although they were told to stop.
    pub(crate) fn take_stopped(&self) -> Vec<Req> {
        let mut core = self.lock();
        let running: Vec<Key> = core.queue.running().map(|(key, ..)| key).collect();
        let kept: Vec<Req> =
            running.into_iter().filter_map(|key| core.queue.take_kept(key)).collect();
        let mut stopped = std::mem::take(&mut core.stopped);
        stopped.extend(kept);
        stopped
    }

    /// Closes a pool whose runtime is gone: nothing will run what is queued.
    pub(crate) fn abandon(self: &Arc<Self>) {
        self.lock().closed = true;
        discard(self.take_back());
        self.close();
        self.abort();
    }
}
