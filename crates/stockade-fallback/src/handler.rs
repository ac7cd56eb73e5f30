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

/// Answers by the request, or by what is kept of it, and the error.
#[derive(Clone, Copy, Debug)]
pub struct OnRequest<F, K = ByClone> {
    pub(crate) answer: F,
    pub(crate) keep: K,
}

/// Says what is kept of a request while its call runs. Closures `Fn(&Req) -> Kept` do.
#[diagnostic::on_unimplemented(
    message = "`FallbackLayer` cannot keep the request `{Req}`",
    label = "this fallback answers by the request, and `{Req}` cannot be cloned",
    note = "if `{Req}` is your own type, derive `Clone` for it",
    note = "or keep a part of it: `FallbackLayer::with_key(|req: &{Req}| req..., async |key, error| ...)`; of a request of reqwest, `|req: &reqwest::Request| req.url().clone()`"
)]
pub trait Keep<Req> {
    /// What is kept.
    type Kept;

    /// What is kept of `request`.
    fn keep(&self, request: &Req) -> Self::Kept;
}

/// The whole request is kept, as a clone.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByClone;

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

impl<Req, T, E, F, K, Fut> Handler<Req, T, E> for OnRequest<F, K>
where
    K: Keep<Req>,
    F: Fn(K::Kept, E) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Kept = K::Kept;
    type Future = Fut;

    fn keep(&self, request: &Req) -> K::Kept {
        self.keep.keep(request)
    }

    fn answer(&self, kept: K::Kept, error: E) -> Fut {
        (self.answer)(kept, error)
    }
}

// === impl Keep ===

// Not recommended, so that the compiler reports what `Keep` says instead of a missing `Clone`.
#[diagnostic::do_not_recommend]
impl<Req: Clone> Keep<Req> for ByClone {
    type Kept = Req;

    fn keep(&self, request: &Req) -> Req {
        request.clone()
    }
}

#[diagnostic::do_not_recommend]
impl<Req, Kept, F: Fn(&Req) -> Kept> Keep<Req> for F {
    type Kept = Kept;

    fn keep(&self, request: &Req) -> Kept {
        self(request)
    }
}
