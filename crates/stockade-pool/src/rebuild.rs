//! Whether a result shows that the worker's service is no good any more.

use std::{fmt, marker::PhantomData};

/// Decides after which results a worker makes its service anew; given to the builder by
/// [`rebuild_on`](crate::PoolBuilder::rebuild_on).
pub trait Rebuild<T, E>: sealed::Sealed + Send + Sync + 'static {
    #[doc(hidden)]
    fn is_fatal(&self, result: &Result<T, E>) -> bool;
}

mod sealed {
    pub trait Sealed {}
}

/// After none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Never;

/// After those that a function calls fatal.
pub struct When<F, T, E> {
    is_fatal: F,
    result: PhantomData<fn(&T, &E)>,
}

// === impl Never ===

impl sealed::Sealed for Never {}

impl<T, E> Rebuild<T, E> for Never {
    #[inline]
    fn is_fatal(&self, _: &Result<T, E>) -> bool {
        false
    }
}

// === impl When ===

impl<F, T, E> When<F, T, E> {
    pub(crate) fn new(is_fatal: F) -> Self {
        Self { is_fatal, result: PhantomData }
    }
}

impl<F, T, E> sealed::Sealed for When<F, T, E> {}

impl<F, T, E> Rebuild<T, E> for When<F, T, E>
where
    F: Fn(&Result<T, E>) -> bool + Send + Sync + 'static,
    T: 'static,
    E: 'static,
{
    fn is_fatal(&self, result: &Result<T, E>) -> bool {
        (self.is_fatal)(result)
    }
}

impl<F: Clone, T, E> Clone for When<F, T, E> {
    fn clone(&self) -> Self {
        Self::new(self.is_fatal.clone())
    }
}

impl<F, T, E> fmt::Debug for When<F, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("When(..)")
    }
}
