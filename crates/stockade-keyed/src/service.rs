//! The service.

use std::{
    fmt,
    marker::PhantomData,
    sync::Arc,
    task::{Context, Poll},
};

use stockade_core::{KeyOf, LayerError, Reusable};
use tower_layer::Layer;
use tower_service::Service;

use crate::{KeyedHandle, ResponseFuture, stacks::Stacks};

/// Calls the stack of each request's key; made by [`KeyedLayer`](crate::KeyedLayer).
///
/// - `poll_ready` is always ready, since the key is not known before there is a request.
/// - `call` reads the key, and clones the key's stack. The response future waits for the clone to be ready and calls
///   it, so it is there that a stack with back-pressure waits.
/// - A clone shares all stacks.
/// - Dropping a response future ends the call.
///
/// A panic of the key function, of `layers` or of a stack is a panic of the call it happens in. The others go on.
pub struct Keyed<S, Req, F, K, L: Layer<S>, H = ()> {
    stacks: Arc<Stacks<S, K, H, L>>,
    key: F,
    requests: PhantomData<fn(Req)>,
}

// === impl Keyed ===

impl<S, Req, F, K, L: Layer<S>, H> Keyed<S, Req, F, K, L, H> {
    pub(crate) const fn new(stacks: Arc<Stacks<S, K, H, L>>, key: F) -> Self {
        Self { stacks, key, requests: PhantomData }
    }

    /// The service around which the stacks are made.
    pub fn get_ref(&self) -> &S {
        &self.stacks.inner
    }

    /// Shows the keys, and changes what their handles can change.
    pub fn handle(&self) -> KeyedHandle<K, H>
    where
        K: Clone + Eq + std::hash::Hash + Send + Sync + 'static,
        H: Clone + Send + Sync + 'static,
        L: Send + Sync + 'static,
    {
        KeyedHandle::new(Arc::clone(&self.stacks.shared) as _)
    }
}

impl<S, Req, F, K, L, H> Service<Req> for Keyed<S, Req, F, K, L, H>
where
    S: Reusable + Send + Sync + 'static,
    F: KeyOf<Req, Key = K>,
    K: Eq + Send + Sync + 'static,
    H: Send + Sync + 'static,
    L: Layer<S> + Send + Sync + 'static,
    L::Service: Service<Req, Error: LayerError> + Reusable + Send + Sync + 'static,
{
    type Response = <L::Service as Service<Req>>::Response;
    type Error = <L::Service as Service<Req>>::Error;
    type Future = ResponseFuture<L::Service, Req>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let shared = &self.stacks.shared;
        if shared.common.is_overdue() {
            shared.sweep(shared.common.now());
        }
        let found = self.key.key_of(&request);
        let hash = shared.hash(&found);
        match self.stacks.enter(found, hash) {
            Ok(in_use) => {
                let stack = in_use.get().stack.clone();
                ResponseFuture::starting(stack, request, in_use.erase())
            }
            Err(rejected) => ResponseFuture::refused(rejected),
        }
    }
}

impl<S, Req, F: Clone, K, L: Layer<S>, H> Clone for Keyed<S, Req, F, K, L, H> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.stacks), self.key.clone())
    }
}

/// Without the key function, which cannot be shown.
impl<S, Req, F, K, L: Layer<S>, H> fmt::Debug for Keyed<S, Req, F, K, L, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed").field("shared", &self.stacks.shared).finish_non_exhaustive()
    }
}
