use tower_layer::Layer;

use crate::{Never, Pool, PoolBuilder, PoolService, Rebuild};

/// Puts a pool in front of the service inside; made by [`PoolBuilder::into_layer`].
///
/// Each application of the layer starts a pool of its own.
///
/// # Panics
///
/// Applying it panics as [`PoolBuilder::build`] does: outside a tokio runtime, for one.
///
/// # Example
///
/// ```
/// use stockade_core::Error;
/// use stockade_pool::Pool;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let pool = ServiceBuilder::new()
///     .layer(Pool::builder().workers(4).into_layer())
///     .map_err(Error::Service)
///     .service_fn(async |n: u32| Ok::<_, std::io::Error>(n + 1));
/// assert_eq!(pool.oneshot(1).await.unwrap(), 2);
/// # }
/// ```
#[derive(Debug)]
pub struct PoolLayer<Req, B = Never> {
    builder: PoolBuilder<Req, B>,
}

// === impl PoolLayer ===

impl<Req, B> PoolLayer<Req, B> {
    pub(crate) const fn new(builder: PoolBuilder<Req, B>) -> Self {
        Self { builder }
    }
}

impl<Req, B: Clone> Clone for PoolLayer<Req, B> {
    fn clone(&self) -> Self {
        Self::new(self.builder.clone())
    }
}

impl<Req, B, S> Layer<S> for PoolLayer<Req, B>
where
    S: PoolService<Req> + Clone,
    Req: Send + 'static,
    B: Rebuild<S::Response, S::Error> + Clone,
{
    type Service = Pool<Req, S::Response, S::Error>;

    fn layer(&self, inner: S) -> Self::Service {
        self.builder.clone().build(inner)
    }
}
