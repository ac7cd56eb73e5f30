//! What the user decides for each request: how it is judged, copied, changed and passed by.

use stockade_core::{DefaultClassify, NoBypass};

/// The closures of a [`RetryLayer`](crate::RetryLayer), one for each of its setters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Policy<C = DefaultClassify, I = Always, K = ByClone, P = Unchanged, B = NoBypass> {
    pub(crate) classify: C,
    pub(crate) idempotent: I,
    pub(crate) clone_request: K,
    pub(crate) prepare: P,
    pub(crate) bypass: B,
}

/// Makes the copy of a request that a further attempt needs. Closures `Fn(&Req) -> Option<Req>` do.
///
/// `None`: this request cannot be repeated, and its first result is the answer.
#[diagnostic::on_unimplemented(
    message = "`RetryLayer` cannot repeat the request `{Req}`",
    label = "this stack retries, and `{Req}` cannot be cloned",
    note = "if `{Req}` is your own type, derive `Clone` for it",
    note = "if it is a request of reqwest, http or tonic, there is a retry layer for it: `stockade_clients::reqwest::retry(n)`, and the same in `http` and `grpc`",
    note = "with setters of your own, write `.clone_request(reqwest::clone_request).idempotent(reqwest::idempotent)`, or those of `http`: without `idempotent` a POST is sent again, too",
    note = "or say how it is copied: `RetryLayer::max_attempts(n).clone_request(|req: &{Req}| ...)`, with `None` for what cannot be repeated"
)]
pub trait CloneRequest<Req> {
    /// A copy of `request`, if there can be one.
    fn clone_request(&self, request: &Req) -> Option<Req>;
}

/// Says which requests may be sent again after an attempt that may have had an effect. Closures
/// `Fn(&Req) -> bool` do.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot tell whether the request `{Req}` may be repeated",
    label = "expected a closure `|req: &{Req}| -> bool`"
)]
pub trait Idempotent<Req> {
    /// Whether `request` may be repeated.
    fn may_repeat(&self, request: &Req) -> bool;
}

/// Changes a request before each attempt. Closures `Fn(&mut Req, u32, Option<&Result<T, E>>)` do.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot prepare the request `{Req}`",
    label = "expected a closure `|req: &mut {Req}, attempt: u32, last: Option<&Result<{T}, {E}>>|`"
)]
pub trait Prepare<Req, T, E> {
    /// Changes `request` for the attempt with this number, which starts at 1. `last` is the result of the
    /// attempt before it.
    fn prepare(&self, request: &mut Req, attempt: u32, last: Option<&Result<T, E>>);
}

/// The default [`CloneRequest`]: the request's own `Clone`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByClone;

/// The default [`Idempotent`]: every request may be repeated.
#[derive(Clone, Copy, Debug, Default)]
pub struct Always;

/// The default [`Prepare`]: every attempt sends the same request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unchanged;

// === impl CloneRequest ===

// Not recommended, so that the compiler reports what `CloneRequest` says instead of a missing `Clone`.
#[diagnostic::do_not_recommend]
impl<Req: Clone> CloneRequest<Req> for ByClone {
    #[inline]
    fn clone_request(&self, request: &Req) -> Option<Req> {
        Some(request.clone())
    }
}

#[diagnostic::do_not_recommend]
impl<F, Req> CloneRequest<Req> for F
where
    F: Fn(&Req) -> Option<Req>,
{
    fn clone_request(&self, request: &Req) -> Option<Req> {
        self(request)
    }
}

// === impl Idempotent ===

impl<Req> Idempotent<Req> for Always {
    fn may_repeat(&self, _: &Req) -> bool {
        true
    }
}

impl<F, Req> Idempotent<Req> for F
where
    F: Fn(&Req) -> bool,
{
    fn may_repeat(&self, request: &Req) -> bool {
        self(request)
    }
}

// === impl Prepare ===

impl<Req, T, E> Prepare<Req, T, E> for Unchanged {
    #[inline]
    fn prepare(&self, _: &mut Req, _: u32, _: Option<&Result<T, E>>) {}
}

impl<F, Req, T, E> Prepare<Req, T, E> for F
where
    F: Fn(&mut Req, u32, Option<&Result<T, E>>),
{
    fn prepare(&self, request: &mut Req, attempt: u32, last: Option<&Result<T, E>>) {
        self(request, attempt, last);
    }
}
