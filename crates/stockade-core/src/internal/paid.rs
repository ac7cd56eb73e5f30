//! Which budget the call at hand has paid into.
//!
//! Layers that share a [`Budget`] may stand above each other, and what goes through both is one call. So a layer that
//! has paid for a call says so around the inner `call` and around each poll, and a layer inside that has the same
//! budget does not pay again.
//!
//! Only the innermost payment is known: where a layer with another budget stands between two that share one, both of
//! them pay. So they do where the layer inside runs in another task.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::{Budget, internal::sync::thread_local};

thread_local! {
    /// The [id](Budget::id) of the budget, or 0.
    static PAID: Cell<u64> = const { Cell::new(0) };
}

/// Until it is dropped, the call at hand has paid.
#[derive(Debug)]
#[must_use = "the call has paid until this is dropped"]
pub struct Paid(u64);

/// An id for a budget, which no other one has.
pub(crate) fn new_id() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Relaxed) + 1
}

/// Tells the budget that a layer was given from all others, and is that of its clones. 0 for one without a limit, and for
/// none: then the layer has one of its own, which it shares with no other.
pub fn budget_id(budget: Option<&Budget>) -> u64 {
    budget.map_or(0, Budget::id)
}

/// Whether a layer outside has paid for the call at hand into the budget with this id.
#[inline]
pub fn is_paid(id: u64) -> bool {
    id != 0 && PAID.with(Cell::get) == id
}

/// Says to the layers inside that the call at hand has paid into the budget with this id. None for 0, of which nobody
/// inside has to know.
#[inline]
pub fn pay(id: u64) -> Option<Paid> {
    (id != 0).then(|| Paid(PAID.with(|paid| paid.replace(id))))
}

impl Drop for Paid {
    #[inline]
    fn drop(&mut self) {
        PAID.with(|paid| paid.set(self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payment_holds_inside_and_is_forgotten_outside() {
        let budget = Budget::new(0.1, 0.0);
        let [own, other] = [&budget, &budget.fresh()].map(|budget| budget_id(Some(budget)));
        assert_eq!(own, budget_id(Some(&budget.clone())));
        let nobodys = budget_id(None);
        assert!(!is_paid(nobodys) && pay(nobodys).is_none());
        let paid = pay(own);
        assert!(is_paid(own) && !is_paid(other));
        let inner = pay(other);
        assert!(is_paid(other));
        drop(inner);
        assert!(is_paid(own));
        drop(paid);
        assert!(!is_paid(own));
    }
}
