//! A pool in the middle of a `ServiceBuilder`: the builder of a pool is a layer.

use tower_layer::Layer;

use crate::{Pool, PoolBuilder, PoolService, Rebuild};

/// Each application starts a pool of its own, and panics as [`PoolBuilder::build`] does: outside a tokio runtime, for one.
impl<Req, B, S> Layer<S> for PoolBuilder<Req, B>
where
    S: PoolService<Req> + Clone,
    Req: Send + 'static,
    B: Rebuild<S::Response, S::Error> + Clone,
{
    type Service = Pool<Req, S::Response, S::Error>;

    fn layer(&self, inner: S) -> Self::Service {
        self.clone().build(inner)
    }
}
