//! Same key, same worker, in order.
//!
//! The jobs of one key form a *lane*. A lane with jobs is ready until a worker takes its first job; then it is taken until
//! that job has ended. A lane that is free again is the next to be served, and the worker that frees it takes its next
//! job in the same visit to the lock; but after [`STREAK`] jobs in a row it goes behind the other lanes that are ready. So
//! the jobs of a key run one at a time and in order, and a busy key occupies one worker and no more.
//!
//! A lane also bounds how many jobs of its key are queued. The ones beyond that stand in line for a place and are
//! passed over, so a busy key does not fill the queue for others. A lane without jobs is forgotten.

use std::collections::{BTreeSet, HashMap};

use super::slab::Key;

/// The lanes of a pool. Two keys that hash alike share one.
#[derive(Debug)]
pub(crate) struct Lanes {
    lanes: HashMap<u64, Lane>,
    /// The lanes whose first job a worker may take, each with its turn.
    ready: BTreeSet<(u64, u64)>,
    turns: u64,
    /// How many jobs of a lane may be queued.
    per_key: usize,
}

#[derive(Debug, Default)]
struct Lane {
    queued: BTreeSet<Key>,
    /// A worker runs one of its jobs.
    taken: bool,
    /// The smallest is served first; 0 is before all that have waited.
    turn: u64,
    /// How many of its jobs were taken in a row.
    streak: u32,
}

/// How many jobs in a row are taken of one lane while others wait.
pub(crate) const STREAK: u32 = 32;

// === impl Lanes ===

impl Lanes {
    pub(crate) fn new(per_key: usize) -> Self {
        Self { lanes: HashMap::new(), ready: BTreeSet::new(), turns: 0, per_key }
    }

    /// How many jobs could be taken at once, by as many workers.
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Whether a job would wait for another one of its lane.
    pub(crate) fn is_taken(&self, lane: u64) -> bool {
        self.lanes.contains_key(&lane)
    }

    pub(crate) fn has_room(&self, lane: u64) -> bool {
        self.lanes.get(&lane).is_none_or(|lane| lane.queued.len() < self.per_key)
    }

    /// Queues a job.
    pub(crate) fn push(&mut self, job: Key, id: u64) {
        let lane = self.lanes.entry(id).or_default();
        lane.queued.insert(job);
        if !lane.taken && lane.queued.len() == 1 {
            self.turns += 1;
            lane.turn = self.turns;
            self.ready.insert((lane.turn, id));
        }
    }

    /// A queued job leaves, if no worker has taken it.
    pub(crate) fn remove(&mut self, job: Key, id: u64) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.queued.remove(&job);
        if lane.queued.is_empty() && !lane.taken {
            self.ready.remove(&(lane.turn, id));
            self.forget(id);
        }
    }

    /// Takes the next job for a worker.
    pub(crate) fn pop(&mut self) -> Option<Key> {
        let (_, id) = self.ready.pop_first()?;
        let lane = self.lanes.get_mut(&id)?;
        lane.taken = true;
        lane.streak += 1;
        lane.queued.pop_first()
    }

    /// The job of a lane that a worker had taken has ended.
    pub(crate) fn finish(&mut self, id: u64) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.taken = false;
        if lane.queued.is_empty() {
            self.forget(id);
            return;
        }
        lane.turn = 0;
        if lane.streak >= STREAK {
            self.turns += 1;
            (lane.turn, lane.streak) = (self.turns, 0);
        }
        self.ready.insert((lane.turn, id));
    }

    fn forget(&mut self, id: u64) {
        self.lanes.remove(&id);
        if self.lanes.capacity() > 64 && self.lanes.len() < self.lanes.capacity() / 8 {
            self.lanes.shrink_to(64);
        }
    }
}
