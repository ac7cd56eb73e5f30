//! Same key, same worker, in order.
//!
//! The jobs of one key form a *lane*. A lane with jobs is ready until a worker takes its first job; then the lane is
//! that worker's until the job has ended. The worker goes on with the same lane while it has jobs, but for at most
//! [`STREAK`] of them in a row when other lanes wait. So the jobs of a key run one at a time and in order, and a busy
//! key occupies one worker and no more.
//!
//! A lane also bounds how many jobs of its key are queued. The ones beyond that stand in line for a place and are
//! passed over, so a busy key does not fill the queue for others. A lane without jobs is forgotten.

use std::collections::{BTreeSet, HashMap};

use stockade_core::internal::{Key as Place, Queue};

use super::slab::Key;

/// The lanes of a pool. Two keys that hash alike share one.
#[derive(Debug)]
pub(crate) struct Lanes {
    lanes: HashMap<u64, Lane>,
    /// The lanes whose first job a worker may take.
    ready: Queue<u64>,
    /// How many jobs of a lane may be queued.
    per_key: usize,
}

#[derive(Debug, Default)]
struct Lane {
    queued: BTreeSet<Key>,
    /// A worker runs one of its jobs.
    taken: bool,
    /// Its place among the ready ones.
    ready: Option<Place>,
}

/// How many jobs in a row a worker runs of one lane while others wait.
pub(crate) const STREAK: u32 = 32;

/// What a worker knows of its lane.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Binding {
    /// The lane whose job it runs.
    pub(crate) lane: Option<u64>,
    last: u64,
    streak: u32,
}

// === impl Lanes ===

impl Lanes {
    pub(crate) fn new(per_key: usize) -> Self {
        Self { lanes: HashMap::new(), ready: Queue::new(), per_key }
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
        if !lane.taken && lane.ready.is_none() {
            lane.ready = Some(self.ready.push_back(id));
        }
    }

    /// A queued job leaves, if no worker has taken it.
    pub(crate) fn remove(&mut self, job: Key, id: u64) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.queued.remove(&job);
        if !lane.queued.is_empty() {
            return;
        }
        if let Some(place) = lane.ready.take() {
            self.ready.remove(place);
        }
        if !lane.taken {
            self.forget(id);
        }
    }

    /// Takes the next job for a worker.
    pub(crate) fn pop(&mut self, binding: &mut Binding) -> Option<Key> {
        let others = self.ready.len() > 1;
        let own = self.lanes.get_mut(&binding.last);
        let own = own.filter(|_| binding.streak < STREAK || !others);
        let id = match own.and_then(|lane| lane.ready) {
            Some(place) => {
                binding.streak += 1;
                self.ready.remove(place)?
            }
            None => {
                binding.streak = 1;
                self.ready.pop_front()?
            }
        };
        let lane = self.lanes.get_mut(&id)?;
        (lane.ready, lane.taken) = (None, true);
        (binding.lane, binding.last) = (Some(id), id);
        lane.queued.pop_first()
    }

    /// The worker has ended its job.
    pub(crate) fn finish(&mut self, binding: &mut Binding) {
        let Some(id) = binding.lane.take() else { return };
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.taken = false;
        if lane.queued.is_empty() {
            self.forget(id);
        } else {
            lane.ready = Some(self.ready.push_back(id));
        }
    }

    fn forget(&mut self, id: u64) {
        self.lanes.remove(&id);
        if self.lanes.capacity() > 64 && self.lanes.len() < self.lanes.capacity() / 8 {
            self.lanes.shrink_to(64);
        }
    }
}
