//! What may be repeated, and how a request is doubled for it.

/// Makes the copy of a request that a further attempt needs. Closures `Fn(&Req) -> Option<Req>` do.
///
/// `None`: this request cannot be repeated, and its first result is the answer.
#[diagnostic::on_unimplemented(
    message = "`RetryLayer` cannot repeat the request `{Req}`",
    label = "this stack retries, and `{Req}` cannot be cloned",
    note = "derive `Clone` for `{Req}`",
    note = "or say how it is copied: `RetryLayer::max_attempts(n).clone_request(|req: &{Req}| ...)`, with `None` for what cannot be repeated"
)]
pub trait CloneRequest<Req> {
    /// A copy of `request`, if there can be one.
    fn clone_request(&self, request: &Req) -> Option<Req>;
}

/// Says which requests may be sent again although the last attempt may have had an effect. Closures
/// `Fn(&Req) -> bool` do.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot tell whether the request `{Req}` may be repeated",
    label = "expected a closure `|req: &{Req}| -> bool`"
)]
pub trait Idempotent<Req> {
    /// Whether `request` may be repeated.
    fn may_repeat(&self, request: &Req) -> bool;
}

/// The default way to copy a request: its own `Clone`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByClone;

/// The default judgement: every request may be repeated.
#[derive(Clone, Copy, Debug, Default)]
pub struct Always;

// === impl CloneRequest ===

// Not recommended, so that the compiler talks of what `CloneRequest` says and not of `Clone` alone.
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
