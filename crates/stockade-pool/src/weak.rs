use std::{fmt, sync::Weak};

use crate::{PoolHandle, shared::Shared};

/// A [`PoolHandle`] that keeps nothing of the pool alive, for what outlives the pool, such as a list of all pools
/// there are. Made by [`PoolHandle::downgrade`].
pub struct WeakPoolHandle<Req, T, E> {
    shared: Weak<Shared<Req, T, E>>,
}

// === impl WeakPoolHandle ===

impl<Req, T, E> WeakPoolHandle<Req, T, E> {
    pub(crate) fn new(shared: Weak<Shared<Req, T, E>>) -> Self {
        Self { shared }
    }

    /// The handle, or none if the pool is gone: nobody has it any more, nor a handle of it, and its workers have
    /// left.
    pub fn upgrade(&self) -> Option<PoolHandle<Req, T, E>> {
        self.shared.upgrade().map(PoolHandle::new)
    }
}

impl<Req, T, E> Clone for WeakPoolHandle<Req, T, E> {
    fn clone(&self) -> Self {
        Self { shared: Weak::clone(&self.shared) }
    }
}

impl<Req, T, E> fmt::Debug for WeakPoolHandle<Req, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WeakPoolHandle").field(&self.upgrade()).finish()
    }
}
