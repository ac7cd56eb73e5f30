//! The services that a pool can run, each bound written once.

use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    task::{Context, Poll},
};

use stockade_core::LayerError;
use tower_service::Service;

/// A service that the workers of a pool can own and call. Every service that fits is one.
#[diagnostic::on_unimplemented(
    message = "a pool cannot run `{Self}`",
    label = "it has to be a `tower::Service` that is `Send` and `'static`",
    note = "put an async function or a closure into `tower::service_fn(..)`, or end a `ServiceBuilder` with `.service_fn(..)`",
    note = "a pool for futures, without a service, is `Pool::tasks()`"
)]
pub trait PoolService<Req>:
    Service<Req, Response: Send + 'static, Error: LayerError + Send + 'static, Future: Send>
    + Send
    + 'static
{
}

impl<Req, S> PoolService<Req> for S where
    S: Service<Req, Response: Send + 'static, Error: LayerError + Send + 'static, Future: Send>
        + Send
        + 'static
{
}

/// A service that makes the service of each worker, called with the worker's number. Every service that fits is one.
pub trait MakeWorker<S>:
    Service<usize, Response = S, Error: fmt::Display + Send, Future: Send> + Clone + Send + 'static
{
}

impl<M, S> MakeWorker<S> for M where
    M: Service<usize, Response = S, Error: fmt::Display + Send, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// Makes services by cloning one.
#[derive(Clone, Debug)]
pub(crate) struct CloneService<S>(pub(crate) S);

impl<S: Clone> Service<usize> for CloneService<S> {
    type Response = S;
    type Error = Infallible;
    type Future = Ready<Result<S, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: usize) -> Self::Future {
        ready(Ok(self.0.clone()))
    }
}
