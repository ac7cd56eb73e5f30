//! Whether a result shows that the worker's service is no good any more.

/// Decides after which results a worker makes its service anew: every `Fn(&Result<T, E>) -> bool`, given to the builder by
/// [`rebuild_on`](crate::PoolBuilder::rebuild_on), or [`Never`].
pub trait Rebuild<T, E>: Send + Sync + 'static {
    /// Whether the service is not to be used after this result.
    fn is_fatal(&self, result: &Result<T, E>) -> bool;
}

/// After no result.
#[derive(Clone, Copy, Debug, Default)]
pub struct Never;

// === impl Rebuild ===

impl<T, E> Rebuild<T, E> for Never {
    fn is_fatal(&self, _: &Result<T, E>) -> bool {
        false
    }
}

impl<F, T, E> Rebuild<T, E> for F
where
    F: Fn(&Result<T, E>) -> bool + Send + Sync + 'static,
{
    fn is_fatal(&self, result: &Result<T, E>) -> bool {
        self(result)
    }
}
