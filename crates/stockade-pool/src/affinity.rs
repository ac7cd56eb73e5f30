//! Same key, same worker, in order.
//!
//! The jobs of one key form a *lane*. A lane with jobs is ready, in the order in which lanes became so, until a
//! worker takes its first job; then the lane is that worker's, and nobody else's, until the job has ended. The
//! worker goes on with the same lane while it has jobs, but not for more than [`STREAK`] of them in a row when
//! other lanes wait. So the jobs of a key run one at a time and in order, and a busy key keeps one worker from the
//! others and no more. A lane without jobs is forgotten: lanes are bounded by the jobs in the pool.

use std::collections::{HashMap, VecDeque};

use stockade_core::internal::{Key as Place, Queue};

use crate::board::Key;

/// The lanes of a pool. Two keys that hash alike share one.
#[derive(Default)]
pub(crate) struct Lanes {
    lanes: HashMap<u64, Lane>,
    ready: Queue<u64>,
}

#[derive(Default)]
struct Lane {
    /// Its queued jobs, and some that have left.
    waiting: VecDeque<Key>,
    /// How many of them are queued.
    queued: usize,
    /// A worker runs one of its jobs.
    taken: bool,
    /// Its place among the ready ones.
    ready: Option<Place>,
}

/// How many jobs in a row a worker runs of one lane while others wait.
pub(crate) const STREAK: u32 = 32;

/// What a worker knows of its lane.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bound {
    /// The lane whose job it runs.
    pub(crate) lane: Option<u64>,
    last: u64,
    streak: u32,
}

// === impl Lanes ===

impl Lanes {
    /// How many jobs could be taken at once.
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    pub(crate) fn is_taken(&self, lane: u64) -> bool {
        self.lanes.contains_key(&lane)
    }

    pub(crate) fn push(&mut self, id: u64, job: Key) {
        let lane = self.lanes.entry(id).or_default();
        lane.waiting.push_back(job);
        lane.queued += 1;
        if !lane.taken && lane.ready.is_none() {
            lane.ready = Some(self.ready.push_back(id));
        }
    }

    /// A job has left the queue by another way. `is_queued` tells those that are still there.
    pub(crate) fn removed(&mut self, id: u64, is_queued: impl FnMut(&Key) -> bool) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.queued -= 1;
        if lane.queued > 0 {
            if lane.waiting.len() > 2 * lane.queued + 8 {
                lane.waiting.retain(is_queued);
            }
            return;
        }
        lane.waiting.clear();
        if let Some(place) = lane.ready.take() {
            self.ready.remove(place);
        }
        if !lane.taken {
            self.lanes.remove(&id);
        }
    }

    /// Takes the next job for a worker out of the queue with `take`, which finds nothing for one that has left.
    pub(crate) fn pop<R>(
        &mut self,
        bound: &mut Bound,
        mut take: impl FnMut(Key) -> Option<R>,
    ) -> Option<R> {
        let others = self.ready.len() > 1;
        let own = self.lanes.get_mut(&bound.last).filter(|_| bound.streak < STREAK || !others);
        let own = own.and_then(|lane| lane.ready.take());
        let id = match own {
            Some(place) => {
                bound.streak += 1;
                self.ready.remove(place)?
            }
            None => {
                bound.streak = 1;
                self.ready.pop_front()?
            }
        };
        let lane = self.lanes.get_mut(&id)?;
        (lane.ready, lane.taken) = (None, true);
        (bound.lane, bound.last) = (Some(id), id);
        while let Some(job) = lane.waiting.pop_front() {
            if let Some(job) = take(job) {
                lane.queued -= 1;
                return Some(job);
            }
        }
        None
    }

    /// The worker has ended its job.
    pub(crate) fn finish(&mut self, bound: &mut Bound) {
        let Some(id) = bound.lane.take() else { return };
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.taken = false;
        if lane.queued > 0 {
            lane.ready = Some(self.ready.push_back(id));
        } else {
            self.lanes.remove(&id);
        }
    }
}
