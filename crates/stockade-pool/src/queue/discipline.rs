//! In which order the queued jobs are taken.

use super::{
    Binding, Key,
    affinity::Lanes,
    fair::Fair,
    order::{Ranked, aged},
};

/// Which of the queued jobs is next.
pub(crate) enum Discipline {
    /// The one that was queued first. Costs nothing, because the queue keeps that order anyway.
    Fifo,
    /// The one with the smallest rank.
    Ranked(Ranked),
    /// The same, where the rank is that of a priority and of when the job was queued.
    Aged(Ranked),
    /// One of each key at a time.
    Lanes(Lanes),
    /// In shares.
    Fair(Box<Fair>),
}

// === impl Discipline ===

impl Discipline {
    /// The next job, where it is not the one that was queued first.
    pub(super) fn first(&mut self, binding: &mut Binding) -> Option<Key> {
        match self {
            Self::Fifo => None,
            Self::Ranked(jobs) | Self::Aged(jobs) => jobs.first(),
            Self::Lanes(lanes) => lanes.pop(binding),
            Self::Fair(fair) => fair.pop(),
        }
    }

    /// Adds a job that is queued as the `n`th, where shares do not matter. Returns what it is sorted by.
    pub(super) fn add(&mut self, key: Key, sort: i64, n: u64) -> i64 {
        match self {
            Self::Fifo | Self::Fair(_) => {}
            Self::Lanes(lanes) => lanes.push(sort, key),
            Self::Ranked(jobs) => jobs.push(sort, key),
            Self::Aged(jobs) => {
                let rank = aged(sort, n);
                jobs.push(rank, key);
                return rank;
            }
        }
        sort
    }

    /// A job leaves the queue.
    pub(super) fn remove(&mut self, key: Key, sort: i64) {
        match self {
            Self::Fifo => {}
            Self::Ranked(jobs) | Self::Aged(jobs) => jobs.remove(sort, key),
            Self::Lanes(lanes) => lanes.remove(sort, key),
            Self::Fair(fair) => fair.remove(key),
        }
    }
}
