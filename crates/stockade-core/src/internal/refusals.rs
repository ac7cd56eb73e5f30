//! How often a layer has refused, by reason and by class.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{
    Reason,
    priority::{self, Priority},
};

/// Counts the refusals of one layer, for its handle.
#[derive(Debug, Default)]
pub struct Refusals {
    by_reason: [AtomicU64; Reason::ALL.len()],
    by_class: [AtomicU64; Priority::ALL.len()],
}

// === impl Refusals ===

impl Refusals {
    /// Counts one, of the class of the current call.
    pub fn count(&self, reason: Reason) {
        self.by_reason[reason as usize].fetch_add(1, Relaxed);
        self.by_class[priority::current() as usize].fetch_add(1, Relaxed);
    }

    /// How many there were for `reason`.
    pub fn get(&self, reason: Reason) -> u64 {
        self.by_reason[reason as usize].load(Relaxed)
    }

    /// How many calls of this class there were among them, for whatever reason.
    pub fn of(&self, priority: Priority) -> u64 {
        self.by_class[priority as usize].load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_counted_by_itself() {
        let refusals = Refusals::default();
        refusals.count(Reason::QueueFull);
        refusals.count(Reason::Unavailable);
        refusals.count(Reason::Unavailable);
        assert_eq!(Reason::ALL.map(|reason| refusals.get(reason)).iter().sum::<u64>(), 3);
        assert_eq!(refusals.get(Reason::Unavailable), 2);
    }

    #[test]
    fn each_class_is_counted_by_itself() {
        let refusals = Refusals::default();
        Priority::Background.enter(|| refusals.count(Reason::Shed));
        Priority::Background.enter(|| refusals.count(Reason::QueueFull));
        refusals.count(Reason::QueueFull);
        assert_eq!(Priority::ALL.map(|priority| refusals.of(priority)), [2, 0, 1, 0]);
    }
}
