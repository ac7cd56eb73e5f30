//! How often a layer has refused, by reason.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::Reason;

/// Counts the refusals of one layer, for its handle.
#[derive(Debug, Default)]
pub struct Refusals([AtomicU64; Reason::ALL.len()]);

// === impl Refusals ===

impl Refusals {
    /// Counts one.
    pub fn count(&self, reason: Reason) {
        self.0[reason as usize].fetch_add(1, Relaxed);
    }

    /// How many there were for `reason`.
    pub fn get(&self, reason: Reason) -> u64 {
        self.0[reason as usize].load(Relaxed)
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
}
