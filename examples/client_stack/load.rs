//! The load: requests arrive by the clock, and each one is followed until its answer is a row in the database.

use std::{pin::pin, time::Duration};

use stockade::pool::Job;
use tokio::{
    select, signal,
    task::{JoinError, JoinHandle, JoinSet},
    time::{Instant, sleep_until},
};

use crate::{
    exchange::{Answer, Get, HttpError},
    plan::{Phase, Plan},
    stack::{HttpPool, RowPool},
    store::Row,
    tally::{Ended, Tally},
};

/// How long running requests may take after the first Ctrl-C.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// How the load ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drained {
    pub(crate) interrupted: bool,
    /// The requests that the pool returned.
    pub(crate) handed_back: u64,
}

/// Follows one request.
#[derive(Clone, Debug)]
struct Follower {
    tally: Tally,
    rows: RowPool,
    id: u64,
    phase: Phase,
    due: Instant,
}

/// Offers the requests of the plan until the pool is closed, and returns when the last one has ended.
///
/// A request is due at its own time, whether the ones before it have been answered or not, and its latency counts from
/// then. When the pool has no room, the load waits for room and goes on from there.
pub(crate) async fn offer(plan: Plan, http: HttpPool, rows: RowPool, tally: Tally) {
    let mut followers = JoinSet::new();
    let mut due = Instant::now();
    for id in 0..plan.requests {
        due = Instant::now().max(due + plan.gap(id));
        if due > Instant::now() {
            sleep_until(due).await;
        }
        let mut job = http.submit(Get { id });
        if job.accepted().await.is_err() {
            break;
        }
        let phase = plan.phase(id);
        tally.offer(phase, due);
        let follower = Follower { tally: tally.clone(), rows: rows.clone(), id, phase, due };
        followers.spawn(follower.follow(job));
        while followers.try_join_next().is_some() {}
    }
    while followers.join_next().await.is_some() {}
}

/// Waits for the load to end, or for Ctrl-C, and drains the pool.
///
/// The first Ctrl-C leaves accepted requests [`PATIENCE`] to finish; the second one stops them at once.
pub(crate) async fn drain_after(
    mut load: JoinHandle<()>,
    http: &HttpPool,
    say: impl Fn(&str),
) -> Result<Drained, JoinError> {
    let interrupted = select! {
        ended = &mut load => { ended?; false }
        Ok(()) = signal::ctrl_c() => true,
    };
    if interrupted {
        say("interrupted: what is under way may end; Ctrl-C again to stop at once");
    }
    let mut drain = pin!(http.drain(PATIENCE));
    let handed_back = select! {
        drained = &mut drain => drained.unfinished.len(),
        Ok(()) = signal::ctrl_c(), if interrupted => {
            let stopped = http.drain(Duration::ZERO).await.unfinished.len();
            stopped + drain.await.unfinished.len()
        }
    };
    if interrupted {
        load.await?;
    }
    Ok(Drained { interrupted, handed_back: handed_back as u64 })
}

// === impl Follower ===

impl Follower {
    async fn follow(self, job: Job<Get, Answer, HttpError>) {
        let result = job.await;
        let took = self.due.elapsed();
        self.tally.end(self.phase, Ended::of(&result), took);
        if let Ok(answer) = result
            && answer.status.is_success()
        {
            let stored = self.rows.submit(Row { id: self.id, answer, took }).await;
            self.tally.store(stored.map_err(|error| error.to_string()));
        }
    }
}
