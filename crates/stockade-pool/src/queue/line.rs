//! Who waits for a place in the queue, and who gets the next one.

use stockade_core::{Share, internal::FairOrder};

use super::slab::{Key, List, Slab};
use crate::config::OrderBy;

/// Those who wait for a place.
#[derive(Debug)]
pub(crate) enum Line {
    /// First come, first served.
    Fifo(List),
    /// In the shares, or by the keys, by which the jobs are run.
    Fair(Box<FairOrder<Key>>),
}

// === impl Line ===

impl Line {
    pub(super) fn new(order_by: OrderBy) -> Self {
        match order_by {
            OrderBy::Class => Self::Fair(Box::new(FairOrder::by_class())),
            OrderBy::Share | OrderBy::Key => Self::Fair(Box::new(FairOrder::by_share())),
            OrderBy::Arrival | OrderBy::Priority | OrderBy::Rank => Self::Fifo(List::new()),
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Fifo(line) => line.len(),
            Self::Fair(line) => line.len(),
        }
    }

    pub(super) fn push<V: Default>(&mut self, slab: &mut Slab<V>, key: Key, share: Share) {
        match self {
            Self::Fifo(line) => line.push_back(slab, key),
            Self::Fair(line) => line.push(share, key),
        }
    }

    /// The first of those whose flows `may` have a place.
    pub(super) fn first<V: Default>(
        &self,
        slab: &Slab<V>,
        may: impl Fn(u64) -> bool,
    ) -> Option<Key> {
        match self {
            Self::Fifo(line) => line.front(slab),
            Self::Fair(line) => line.first(may),
        }
    }

    /// One leaves with a place.
    pub(super) fn serve<V: Default>(
        &mut self,
        slab: &mut Slab<V>,
        key: Key,
        may: impl Fn(u64) -> bool,
    ) {
        match self {
            Self::Fair(line) if line.first(&may) == Some(key) => drop(line.pop(may)),
            _ => self.remove(slab, key),
        }
    }

    /// One leaves without a place.
    pub(super) fn remove<V: Default>(&mut self, slab: &mut Slab<V>, key: Key) {
        match self {
            Self::Fifo(line) => line.remove(slab, key),
            Self::Fair(line) => drop(line.remove(key)),
        }
    }
}
