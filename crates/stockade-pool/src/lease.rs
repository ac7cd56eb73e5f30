//! State that many clones share, counted by each long-lived clone for itself.

use std::{ops::Deref, sync::Arc};

/// A handle to shared state, as a service keeps it; every call takes a [`Lease`] of it.
///
/// A reference count that all callers move is the largest cost between cores. So a handle that is
/// called more than a few times gets a count of its own, and its calls no longer touch the one that
/// the others use. A clone that is called once (`svc.clone().oneshot(req)`) keeps to the count of the
/// handle it came from, and allocates nothing.
pub(crate) struct Counted<T> {
    lease: Lease<T>,
    calls: u8,
}

/// Keeps the shared state alive for one call. The outer count is one handle's own.
pub(crate) type Lease<T> = Arc<Arc<T>>;

/// The call at which a handle gets a count of its own.
const SETTLED: u8 = 4;

// === impl Counted ===

impl<T> Counted<T> {
    /// A handle to `state`.
    pub(crate) fn new(state: Arc<T>) -> Self {
        Self { lease: Arc::new(state), calls: 0 }
    }

    /// A lease for one call.
    pub(crate) fn lease(&mut self) -> Lease<T> {
        if self.calls < SETTLED {
            self.settle();
        }
        Arc::clone(&self.lease)
    }

    #[cold]
    fn settle(&mut self) {
        self.calls += 1;
        if self.calls == SETTLED {
            self.lease = Arc::new(Arc::clone(self.state()));
        }
    }

    /// A lease for one call, from a handle that may be shared itself; it stays with the count it has.
    pub(crate) fn share(&self) -> Lease<T> {
        Arc::clone(&self.lease)
    }

    /// The state itself.
    pub(crate) fn state(&self) -> &Arc<T> {
        &self.lease
    }
}

impl<T> Clone for Counted<T> {
    fn clone(&self) -> Self {
        Self { lease: Arc::clone(&self.lease), calls: 0 }
    }
}

impl<T> Deref for Counted<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.lease
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_that_is_called_often_gets_its_own_count() {
        let mut first = Counted::new(Arc::new(7));
        let mut second = first.clone();
        assert!(Arc::ptr_eq(&first.lease(), &second.lease()));
        for _ in 0..SETTLED {
            second.lease();
        }
        assert!(!Arc::ptr_eq(&first.lease(), &second.lease()));
        assert!(Arc::ptr_eq(first.state(), second.state()), "the state stays one");
        let again = second.lease();
        assert!(Arc::ptr_eq(&again, &second.lease()), "it is made once");
    }
}
