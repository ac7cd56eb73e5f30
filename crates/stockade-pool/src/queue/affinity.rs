//! Same key, same worker, in order.
//!
//! The jobs of one key form a *lane*. A lane with jobs is ready until a worker takes its first job; then the lane is
//! that worker's until the job has ended. The worker goes on with the same lane while it has jobs, but for at most
//! [`STREAK`] of them in a row when other lanes wait. So the jobs of a key run one at a time and in order, and a busy
//! key occupies one worker and no more.
//!
//! A lane also bounds how many jobs of its key are queued or in line for a place. The ones beyond that wait in the
//! lane, so a busy key does not fill the queue for others. A lane without jobs is forgotten.

use std::collections::{BTreeSet, HashMap};

use stockade_core::internal::{Key as Place, Queue};

use super::slab::{Key, List, Slab};

/// The lanes of a pool. Two keys that hash alike share one.
#[derive(Debug)]
pub(crate) struct Lanes {
    lanes: HashMap<i64, Lane>,
    /// The lanes whose first job a worker may take.
    ready: Queue<i64>,
    /// How many jobs of a lane are queued or in line.
    per_key: usize,
}

#[derive(Debug)]
struct Lane {
    queued: BTreeSet<Key>,
    /// How many jobs are queued, or in line for a place.
    claimed: usize,
    /// Jobs that are not even in line yet.
    waiting: List,
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
    pub(crate) lane: Option<i64>,
    last: i64,
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

    pub(crate) fn is_taken(&self, lane: i64) -> bool {
        self.lanes.contains_key(&lane)
    }

    pub(crate) fn has_room(&self, lane: i64) -> bool {
        self.lanes
            .get(&lane)
            .is_none_or(|lane| lane.claimed < self.per_key && lane.waiting.len() == 0)
    }

    /// A job goes into the queue, or in line for it.
    pub(crate) fn claim(&mut self, lane: i64) {
        self.lane(lane).claimed += 1;
    }

    /// A job has left the queue, or the line for it. Returns the job that may stand in line now.
    pub(crate) fn unclaim<V: Default>(&mut self, id: i64, slab: &mut Slab<V>) -> Option<Key> {
        let lane = self.lanes.get_mut(&id)?;
        lane.claimed -= 1;
        let next = lane.waiting.front(slab);
        match next {
            Some(next) => {
                lane.waiting.remove(slab, next);
                lane.claimed += 1;
            }
            None => self.forget_unused(id),
        }
        next
    }

    /// A job waits in the lane.
    pub(crate) fn wait<V: Default>(&mut self, lane: i64, job: Key, slab: &mut Slab<V>) {
        self.lane(lane).waiting.push_back(slab, job);
    }

    /// A job does not wait in the lane any more.
    pub(crate) fn give_up<V: Default>(&mut self, id: i64, job: Key, slab: &mut Slab<V>) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.waiting.remove(slab, job);
            self.forget_unused(id);
        }
    }

    /// Queues a job of a lane that was claimed for it.
    pub(crate) fn push(&mut self, id: i64, job: Key) {
        let lane = self.lanes.entry(id).or_insert_with(Lane::new);
        lane.queued.insert(job);
        if !lane.taken && lane.ready.is_none() {
            lane.ready = Some(self.ready.push_back(id));
        }
    }

    /// A queued job leaves without having been taken by a worker.
    pub(crate) fn remove(&mut self, id: i64, job: Key) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.queued.remove(&job);
        if lane.queued.is_empty()
            && let Some(place) = lane.ready.take()
        {
            self.ready.remove(place);
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
            self.forget_unused(id);
        } else {
            lane.ready = Some(self.ready.push_back(id));
        }
    }

    fn lane(&mut self, id: i64) -> &mut Lane {
        self.lanes.entry(id).or_insert_with(Lane::new)
    }

    fn forget_unused(&mut self, id: i64) {
        if self.lanes.get(&id).is_some_and(Lane::is_unused) {
            self.lanes.remove(&id);
            if self.lanes.capacity() > 64 && self.lanes.len() < self.lanes.capacity() / 8 {
                self.lanes.shrink_to(64);
            }
        }
    }
}

// === impl Lane ===

impl Lane {
    const fn new() -> Self {
        Self {
            queued: BTreeSet::new(),
            claimed: 0,
            waiting: List::new(),
            taken: false,
            ready: None,
        }
    }

    fn is_unused(&self) -> bool {
        !self.taken && self.claimed == 0 && self.waiting.len() == 0
    }
}
