//! Which requests may be sent twice, and how they are copied for it.

/// Makes the copy of a request that another attempt sends; `None` where it may not be sent twice. Closures
/// `Fn(&Req) -> Option<Req>` do.
#[diagnostic::on_unimplemented(
    message = "`HedgeLayer` cannot send the request `{Req}` twice",
    label = "this stack hedges, and `{Req}` cannot be cloned",
    note = "if `{Req}` is your own type, derive `Clone` for it",
    note = "if it is a request of reqwest, http or tonic: `.clone_request(reqwest::clone_request)` of `stockade_clients`, or that of `http` or `grpc`",
    note = "to send no POST twice: `.clone_request(|req: &_| reqwest::idempotent(req).then(|| reqwest::clone_request(req)).flatten())`",
    note = "or say how it is copied: `.clone_request(|req: &{Req}| ...)`, with `None` for what may not be sent twice"
)]
pub trait HedgeRequest<Req> {
    /// A copy of `request`, if it may be sent twice.
    fn copy(&self, request: &Req) -> Option<Req>;
}

/// The default: every request may be sent twice, and is cloned for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByClone;

/// Those for which a function says so may be sent twice, and are cloned for it.
#[derive(Clone, Copy, Debug)]
pub struct Idempotent<F>(pub(crate) F);

// Not recommended, so that the compiler reports what `HedgeRequest` says instead of a missing `Clone`.
#[diagnostic::do_not_recommend]
impl<Req: Clone> HedgeRequest<Req> for ByClone {
    fn copy(&self, request: &Req) -> Option<Req> {
        Some(request.clone())
    }
}

#[diagnostic::do_not_recommend]
impl<Req: Clone, F: Fn(&Req) -> bool> HedgeRequest<Req> for Idempotent<F> {
    fn copy(&self, request: &Req) -> Option<Req> {
        (self.0)(request).then(|| request.clone())
    }
}

#[diagnostic::do_not_recommend]
impl<Req, F: Fn(&Req) -> Option<Req>> HedgeRequest<Req> for F {
    fn copy(&self, request: &Req) -> Option<Req> {
        self(request)
    }
}
