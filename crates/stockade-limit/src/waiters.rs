//! The calls that wait for a permit, and which of them is next.
//!
//! They are queued as they came. Where another order decides, it is kept beside the queue, and says which key is next.
//! Then a newcomer may also take the place of another in a full queue; the call that gave way finds that out later.

use std::{cell::Cell, collections::BTreeSet, task::Waker};

use stockade_core::{
    Share,
    internal::{FairOrder, Key, Queue},
};

use crate::discipline::{Discipline, Room};

#[derive(Debug)]
pub(crate) struct Waiters {
    /// The wakers of tasks; none in an entry that was not polled yet.
    queue: Queue<Cell<Option<Waker>>>,
    discipline: Discipline,
    /// None where it is first come, first served.
    order: Option<Box<FairOrder<Key>>>,
    /// Those who gave way, and do not know it yet.
    shed: BTreeSet<Key>,
}

// === impl Waiters ===

impl Waiters {
    pub(crate) fn new(discipline: Discipline) -> Self {
        let order = discipline.order().map(Box::new);
        Self { queue: Queue::new(), discipline, order, shed: BTreeSet::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether a newcomer with this share goes before all who wait.
    pub(crate) fn lets_in(&self, share: Share, room: Room) -> bool {
        let may = |flow| self.discipline.may_enter(flow, room);
        match &self.order {
            None => self.queue.is_empty(),
            Some(order) => may(share.flow()) && order.first(may).is_none(),
        }
    }

    /// One more waits.
    pub(crate) fn push(&mut self, share: Share) -> Key {
        let key = self.queue.push_back(Cell::default());
        if let Some(order) = &mut self.order {
            order.push(share, key);
        }
        key
    }

    /// Serves the next one, if one may enter.
    pub(crate) fn pop(&mut self, room: Room) -> Option<Cell<Option<Waker>>> {
        match &mut self.order {
            None => self.queue.pop_front(),
            Some(order) => {
                let key = order.pop(|flow| self.discipline.may_enter(flow, room))?;
                self.queue.remove(key)
            }
        }
    }

    /// Sends one away for a newcomer with this share, if there is one that counts for less.
    pub(crate) fn give_way(&mut self, share: Share, room: Room) -> Option<Cell<Option<Waker>>> {
        let may = |flow| self.discipline.may_enter(flow, room);
        let key = self.order.as_mut()?.give_way(share, may)?;
        self.shed.insert(key);
        self.remove(key)
    }

    /// One leaves, if it still waits.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Cell<Option<Waker>>> {
        if let Some(order) = &mut self.order {
            order.remove(key);
        }
        self.queue.remove(key)
    }

    /// The waker of one who still waits.
    pub(crate) fn waker(&mut self, key: Key) -> Option<&mut Option<Waker>> {
        self.queue.get_mut(key).map(Cell::get_mut)
    }

    /// Takes the wakers of all who wait.
    pub(crate) fn wakers(&self) -> Vec<Waker> {
        self.queue.iter().filter_map(Cell::take).collect()
    }

    /// Whether it gave way.
    pub(crate) fn is_shed(&self, key: Key) -> bool {
        self.shed.contains(&key)
    }

    /// The same; it knows now.
    pub(crate) fn forget_shed(&mut self, key: Key) -> bool {
        self.shed.remove(&key)
    }
}
