//! The layer and its setters.

use std::{fmt, marker::PhantomData, sync::Arc};

use stockade_core::{Configured, NoBypass, Only};
use tower_layer::Layer;
use tower_service::Service;

use crate::{Coalesce, CoalesceHandle, handle::Counts};

/// Lets calls with the same key that are in flight at once share one answer.
///
/// `key` is asked once a call. Include in the key all that makes two answers differ: the user, too, where an
/// answer is for one user. Only clones of one service share answers, since two services may not be the same
/// client.
///
/// | setter | default |
/// |---|---|
/// | [`only`](Self::only) | every call |
pub struct CoalesceLayer<Req, K, F, O = NoBypass> {
    key: F,
    only: O,
    counts: Arc<Counts>,
    keys: PhantomData<fn(&Req) -> K>,
}

// === impl CoalesceLayer ===

impl<Req, K, F> CoalesceLayer<Req, K, F>
where
    F: Fn(&Req) -> K,
{
    /// Calls with an equal `key` share one answer.
    pub fn new(key: F) -> Self {
        Self { key, only: NoBypass, counts: Arc::default(), keys: PhantomData }
    }
}

impl<Req, K, F, O> CoalesceLayer<Req, K, F, O> {
    /// Only requests for which `only` says so, for instance those with the method GET. All others pass by, and
    /// cost nothing.
    #[must_use]
    pub fn only<P: Fn(&Req) -> bool>(self, only: P) -> CoalesceLayer<Req, K, F, Only<P>> {
        CoalesceLayer { key: self.key, only: Only(only), counts: self.counts, keys: PhantomData }
    }

    /// Ends the setters, and gives a handle to what all services of this layer share.
    pub fn with_handle(self) -> (Configured<Self>, CoalesceHandle) {
        let handle = CoalesceHandle::new(Arc::clone(&self.counts));
        (Configured::new(self), handle)
    }
}

impl<Req, K, F: Clone, O: Clone> Clone for CoalesceLayer<Req, K, F, O> {
    fn clone(&self) -> Self {
        let (key, only, counts) = (self.key.clone(), self.only.clone(), Arc::clone(&self.counts));
        Self { key, only, counts, keys: PhantomData }
    }
}

impl<S, Req, K, F, O> Layer<S> for CoalesceLayer<Req, K, F, O>
where
    S: Service<Req>,
    F: Clone,
    O: Clone,
{
    type Service = Coalesce<S, Req, K, F, O>;

    fn layer(&self, inner: S) -> Self::Service {
        Coalesce::new(inner, self.key.clone(), self.only.clone(), Arc::clone(&self.counts))
    }
}

/// Without the closures, which cannot be shown.
impl<Req, K, F, O> fmt::Debug for CoalesceLayer<Req, K, F, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoalesceLayer").field("counts", &self.counts).finish_non_exhaustive()
    }
}
