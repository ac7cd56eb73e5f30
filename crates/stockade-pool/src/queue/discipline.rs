//! In which order the queued jobs are taken.

use std::collections::BTreeSet;

use stockade_core::internal::FairOrder;

use super::{Key, Tag, affinity::Lanes, order::rank};
use crate::config::OrderBy;

/// Which of the queued jobs is next.
pub(crate) enum Discipline {
    /// The one that was queued first. Costs nothing, because the queue keeps that order anyway.
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

// === impl Discipline ===

impl Discipline {
    pub(super) fn new(order_by: OrderBy, per_key: usize) -> Self {
        match order_by {
            OrderBy::Arrival => Self::Fifo,
            OrderBy::Class => Self::Fair(Box::new(FairOrder::by_class())),
            OrderBy::Share => Self::Fair(Box::new(FairOrder::by_share())),
            OrderBy::Key => Self::Lanes(Lanes::new(per_key)),
            OrderBy::Priority => Self::Ranked { jobs: BTreeSet::new(), ageing: true },
            OrderBy::Rank => Self::Ranked { jobs: BTreeSet::new(), ageing: false },
        }
    }

    /// Whether there may be one more job of this flow in the queue.
    #[inline]
    pub(super) fn has_room(&self, flow: u64) -> bool {
        match self {
            Self::Lanes(lanes) => lanes.has_room(flow),
            _ => true,
        }
    }

    /// Takes the next job, where it is not the one that was queued first.
    pub(super) fn pop(&mut self) -> Option<Key> {
        match self {
            Self::Fifo => None,
            Self::Ranked { jobs, .. } => jobs.first().map(|(_, key)| *key),
            Self::Lanes(lanes) => lanes.pop(),
            Self::Fair(order) => order.pop(any),
        }
    }

    /// A job is queued.
    pub(super) fn push(&mut self, key: Key, tag: Tag) {
        match self {
            Self::Fifo => {}
            Self::Ranked { jobs, ageing } => {
                jobs.insert((rank(key, tag.sort, *ageing), key));
            }
            Self::Lanes(lanes) => lanes.push(key, tag.share.flow()),
            Self::Fair(order) => order.push(tag.share, key),
        }
    }

    /// A job leaves the queue, if it is still there.
    pub(super) fn remove(&mut self, key: Key, tag: Tag) {
        match self {
            Self::Fifo => {}
            Self::Ranked { jobs, ageing } => {
                jobs.remove(&(rank(key, tag.sort, *ageing), key));
            }
            Self::Lanes(lanes) => lanes.remove(key, tag.share.flow()),
            Self::Fair(order) => drop(order.remove(key)),
        }
    }
}
