//! Jobs in shares: by class, or by whose they are. One order for those in the queue, one for those in line for it.

use stockade_core::{Share, internal::FairOrder, priority::Priority};

use super::slab::Key;

/// The order of the jobs of a pool, by shares.
#[derive(Debug)]
pub(crate) struct Fair {
    by_class: bool,
    queued: FairOrder<Key>,
    line: FairOrder<Key>,
}

/// Any flow may be served.
fn any(_: u64) -> bool {
    true
}

// === impl Fair ===

impl Fair {
    pub(crate) const fn by_class() -> Self {
        Self { by_class: true, queued: FairOrder::by_class(), line: FairOrder::by_class() }
    }

    pub(crate) const fn by_share() -> Self {
        Self { by_class: false, queued: FairOrder::by_share(), line: FairOrder::by_share() }
    }

    /// The share of a job of this class whose request says `asked`.
    fn share(&self, priority: Priority, asked: Option<Share>) -> Share {
        if self.by_class { Share::of_class(priority) } else { asked.unwrap_or(Share::NOBODY) }
    }

    /// A job is queued.
    pub(super) fn push(&mut self, key: Key, priority: Priority, asked: Option<Share>) {
        self.queued.push(self.share(priority, asked), key);
    }

    /// The job that is next leaves the queue for a worker.
    pub(super) fn pop(&mut self) -> Option<Key> {
        self.queued.pop(any)
    }

    /// A job leaves the queue.
    pub(super) fn remove(&mut self, key: Key) {
        self.queued.remove(key);
    }

    /// A job waits in line for a place.
    pub(super) fn wait(&mut self, key: Key, priority: Priority, asked: Option<Share>) {
        self.line.push(self.share(priority, asked), key);
    }

    /// The first in line.
    pub(super) fn first_in_line(&self) -> Option<Key> {
        self.line.first(any)
    }

    /// One leaves the line, with a place if it is the first.
    pub(super) fn leave_line(&mut self, key: Key, with_place: bool) {
        if with_place && self.first_in_line() == Some(key) {
            self.line.pop(any);
        } else {
            self.line.remove(key);
        }
    }

    /// Which job gives way to one of this class or share that comes: one that is queued, or one in line for that.
    pub(super) fn give_way(
        &mut self,
        in_line: bool,
        priority: Priority,
        asked: Option<Share>,
    ) -> Option<Key> {
        let share = self.share(priority, asked);
        let order = if in_line { &mut self.line } else { &mut self.queued };
        order.give_way(share, any)
    }

    /// The job that was queued first of those of the same class or share.
    pub(super) fn oldest_like(&self, priority: Priority, asked: Option<Share>) -> Option<Key> {
        let own = self.share(priority, asked).flow();
        self.queued.first(|flow| flow == own)
    }
}
