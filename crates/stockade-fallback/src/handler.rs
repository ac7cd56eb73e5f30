//! What answers in place of a failed call.

use stockade_core::LayerError;

/// Answers in place of a failed call. There are two: [`OnError`] sees the error, [`OnRequest`] the request too.
///
/// It is public so that bounds can name it; a closure becomes one in [`FallbackLayer`](crate::FallbackLayer).
pub trait Handler<Req, T, E> {
    /// What is kept of a request for the case that its call fails.
    type Kept;
    /// The answer on its way.
    type Future: Future<Output = Result<T, E>>;

    /// Looks at a request before it is sent.
    fn keep(&self, request: &Req) -> Self::Kept;

    /// Begins the answer.
    fn answer(&self, kept: Self::Kept, error: E) -> Self::Future;
}

/// Answers by the error alone. Nothing of the request is kept.
#[derive(Clone, Copy, Debug)]
pub struct OnError<F>(pub(crate) F);

/// Answers by the request and the error. A clone of each request is kept while its call runs.
#[derive(Clone, Copy, Debug)]
pub struct OnRequest<F>(pub(crate) F);

/// Whether a layer refused the call before it reached the service: for
/// [`FallbackLayer::on`](crate::FallbackLayer::on). A timeout is not: the call may have run.
pub fn is_refusal<E: LayerError>(error: &E) -> bool {
    error.rejected().is_some_and(|rejected| rejected.is_refusal())
}

// === impl Handler ===

impl<Req, T, E, F, Fut> Handler<Req, T, E> for OnError<F>
where
    F: Fn(E) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Kept = ();
    type Future = Fut;

    fn keep(&self, _: &Req) {}

    fn answer(&self, (): (), error: E) -> Fut {
        (self.0)(error)
    }
}

impl<Req, T, E, F, Fut> Handler<Req, T, E> for OnRequest<F>
where
    Req: Clone,
    F: Fn(Req, E) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Kept = Req;
    type Future = Fut;

    fn keep(&self, request: &Req) -> Req {
        request.clone()
    }

    fn answer(&self, request: Req, error: E) -> Fut {
        (self.0)(request, error)
    }
}
