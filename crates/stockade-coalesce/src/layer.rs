//! The layer and its setters.

use std::{marker::PhantomData, sync::Arc};

use stockade_core::{Configured, NoBypass, Only};
use tower_layer::Layer;
use tower_service::Service;

use crate::{Coalesce, CoalesceHandle, handle::Shared};

/// Lets calls with the same key that are in flight at once share one answer.
///
/// `key` is asked once a call, and once more where the call that it joined panicked. Include in the key all that makes
/// two answers differ: the user, too, where an answer is for one user. Only clones of one service share answers, since
/// two services may not be the same client.
///
/// | setter | default |
/// |---|---|
/// | [`only`](Self::only), or [`bypass`](Self::bypass) | every call |
#[must_use = "a layer does nothing until a service is made with it"]
pub struct CoalesceLayer<Req, K, F, B = NoBypass> {
    pub(crate) key: F,
    pub(crate) bypass: B,
    pub(crate) shared: Arc<Shared>,
    keys: PhantomData<fn(&Req) -> K>,
}

stockade_core::shown!(CoalesceLayer<Req, K, F, B>: shared);

// === impl CoalesceLayer ===

impl<Req, K, F> CoalesceLayer<Req, K, F>
where
    F: Fn(&Req) -> K,
{
    /// Calls with an equal `key` share one answer.
    pub fn new(key: F) -> Self {
        Self::of(key, NoBypass)
    }
}

impl<Req, K, F, B> CoalesceLayer<Req, K, F, B> {
    /// Only requests for which `only` says so, for instance those with the method GET. All others pass by, and
    /// cost nothing.
    pub fn only<P: Fn(&Req) -> bool>(self, only: P) -> CoalesceLayer<Req, K, F, Only<P>> {
        CoalesceLayer::of(self.key, Only(only))
    }

    /// All requests except those for which `passes_by` says so: the other way round than [`only`](Self::only), which it
    /// replaces.
    pub fn bypass<P: Fn(&Req) -> bool>(self, passes_by: P) -> CoalesceLayer<Req, K, F, P> {
        CoalesceLayer::of(self.key, passes_by)
    }

    /// Ends the setters, and gives a handle to what all services of this layer share.
    pub fn with_handle(self) -> (Configured<Self>, CoalesceHandle) {
        let handle = CoalesceHandle(Arc::clone(&self.shared));
        (Configured::new(self), handle)
    }

    fn of(key: F, bypass: B) -> Self {
        Self { key, bypass, shared: Arc::new(Shared::new()), keys: PhantomData }
    }
}

impl<Req, K, F: Clone, B: Clone> Clone for CoalesceLayer<Req, K, F, B> {
    fn clone(&self) -> Self {
        let (key, bypass) = (self.key.clone(), self.bypass.clone());
        Self { key, bypass, shared: Arc::clone(&self.shared), keys: PhantomData }
    }
}

impl<S, Req, K, F, B> Layer<S> for CoalesceLayer<Req, K, F, B>
where
    S: Service<Req>,
    F: Clone,
    B: Clone,
{
    type Service = Coalesce<S, Req, K, F, B>;

    fn layer(&self, inner: S) -> Self::Service {
        Coalesce::new(inner, self.clone())
    }
}
