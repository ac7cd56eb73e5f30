//! The layer.

use std::{fmt, sync::Arc};

use tower_layer::Layer;

use super::{Jobs, service::Shared};

/// Puts a stack under a worker of apalis; see the [module](super) for what it does.
///
/// It retries nothing, and it limits nothing: it only translates.
#[derive(Clone)]
pub struct JobsLayer<R> {
    requeue: R,
}

// === impl JobsLayer ===

impl<R> JobsLayer<R> {
    /// A layer that puts jobs back by `requeue`: a function of the job and the time after which it may run, whose future
    /// ends when the queue has the job again. If that fails, the refusal counts as an attempt, so that the job is not
    /// lost.
    pub const fn new(requeue: R) -> Self {
        Self { requeue }
    }
}

impl<S, R: Clone> Layer<S> for JobsLayer<R> {
    type Service = Jobs<S, R>;

    fn layer(&self, inner: S) -> Jobs<S, R> {
        Jobs::new(inner, self.requeue.clone(), Arc::new(Shared::default()))
    }
}

impl<R> fmt::Debug for JobsLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobsLayer").finish_non_exhaustive()
    }
}
