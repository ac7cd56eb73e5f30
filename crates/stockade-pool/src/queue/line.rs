//! Jobs in a line: in which order they came, and in which order they are taken out of it.
//!
//! The queued jobs are one, and those who wait for a place in the queue are another.

use std::collections::BTreeSet;

use stockade_core::internal::FairOrder;

use super::{
    Tag,
    affinity::Lanes,
    order::rank,
    slab::{Key, List, Slab},
};
use crate::config::OrderBy;

/// Some of the jobs of a slab.
pub(super) struct Line {
    came: List,
    pub(super) order: Discipline,
}

/// Which job of a line is next.
pub(super) enum Discipline {
    /// The one that came first. Costs nothing, because that order is kept anyway.
    Fifo,
    /// The one with the smallest rank.
    Ranked { jobs: BTreeSet<(i64, Key)>, ageing: bool },
    /// One of each key at a time.
    Lanes(Lanes),
    /// In shares, by class or by whose jobs they are.
    Fair(Box<FairOrder<Key>>),
}

/// Any flow may be served.
pub(super) fn any(_: u64) -> bool {
    true
}

// === impl Line ===

impl Line {
    /// The queued jobs, of which `per_key` may have the same key.
    pub(super) fn of_queued(order_by: OrderBy, per_key: usize) -> Self {
        let ranked = |ageing| Discipline::Ranked { jobs: BTreeSet::new(), ageing };
        let order = match order_by {
            OrderBy::Arrival => Discipline::Fifo,
            OrderBy::Class => Discipline::Fair(Box::new(FairOrder::by_class())),
            OrderBy::Share => Discipline::Fair(Box::new(FairOrder::by_share())),
            OrderBy::Key => Discipline::Lanes(Lanes::new(per_key)),
            OrderBy::Priority => ranked(true),
            OrderBy::Rank => ranked(false),
        };
        Self { came: List::new(), order }
    }

    /// Those who wait for a place: in the shares, or by the keys, by which the jobs are run.
    pub(super) fn of_waiting(order_by: OrderBy) -> Self {
        let order = match order_by {
            OrderBy::Class => Discipline::Fair(Box::new(FairOrder::by_class())),
            OrderBy::Share | OrderBy::Key => Discipline::Fair(Box::new(FairOrder::by_share())),
            OrderBy::Arrival | OrderBy::Priority | OrderBy::Rank => Discipline::Fifo,
        };
        Self { came: List::new(), order }
    }

    pub(super) fn len(&self) -> usize {
        self.came.len()
    }

    pub(super) fn is_fifo(&self) -> bool {
        matches!(self.order, Discipline::Fifo)
    }

    /// The one that came first.
    pub(super) fn oldest<V: Default>(&self, slab: &Slab<V>) -> Option<Key> {
        self.came.front(slab)
    }

    /// The next one of those whose flows `may` be served.
    pub(super) fn next<V: Default>(
        &self,
        slab: &Slab<V>,
        may: impl Fn(u64) -> bool,
    ) -> Option<Key> {
        match &self.order {
            Discipline::Fair(order) => order.first(may),
            _ => self.oldest(slab),
        }
    }

    /// Decides which one is next of those whose flows `may` be served. It is to be [removed](Self::remove) then.
    #[inline(always)]
    pub(super) fn serve<V: Default>(
        &mut self,
        slab: &Slab<V>,
        may: impl Fn(u64) -> bool,
    ) -> Option<Key> {
        match &mut self.order {
            Discipline::Fifo => self.came.front(slab),
            Discipline::Ranked { jobs, .. } => jobs.first().map(|(_, key)| *key),
            Discipline::Lanes(lanes) => lanes.pop(),
            Discipline::Fair(order) => order.pop(may),
        }
    }

    #[inline(always)]
    pub(super) fn push<V: Default>(&mut self, slab: &mut Slab<V>, key: Key, tag: Tag) {
        self.came.push_back(slab, key);
        match &mut self.order {
            Discipline::Fifo => {}
            Discipline::Ranked { jobs, ageing } => {
                jobs.insert((rank(key, tag.sort, *ageing), key));
            }
            Discipline::Lanes(lanes) => lanes.push(key, tag.share.flow()),
            Discipline::Fair(order) => order.push(tag.share, key),
        }
    }

    #[inline(always)]
    pub(super) fn remove<V: Default>(&mut self, slab: &mut Slab<V>, key: Key, tag: Tag) {
        self.came.remove(slab, key);
        match &mut self.order {
            Discipline::Fifo => {}
            Discipline::Ranked { jobs, ageing } => {
                jobs.remove(&(rank(key, tag.sort, *ageing), key));
            }
            Discipline::Lanes(lanes) => lanes.remove(key, tag.share.flow()),
            Discipline::Fair(order) => drop(order.remove(key)),
        }
    }
}
