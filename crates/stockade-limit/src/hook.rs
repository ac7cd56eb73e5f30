//! What a limit does for single calls, beyond limiting them.

use crate::Permit;

/// What a layer was told about single calls: which to pass by, and what keeps the permit of which.
///
/// [`Plain`] for neither, [`Bypass`] and [`Hold`] otherwise. The trait is there to be named in bounds.
pub trait Hook<Req, T>: Clone {
    /// The response that becomes of `T`.
    type Response;

    /// Whether the call is not limited.
    #[doc(hidden)]
    fn passes_by(&self, request: &Req) -> bool;

    /// The service has answered.
    #[doc(hidden)]
    fn answered(&self, response: T, permit: Permit) -> Self::Response;
}

/// Every call is limited, and its permit is free once the service has answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

/// Calls pass by for which a function says so; made by [`LimitLayer::bypass`](crate::LimitLayer::bypass).
#[derive(Clone, Copy, Debug)]
pub struct Bypass<F, X>(pub(crate) F, pub(crate) X);

/// Responses keep their permits; made by [`LimitLayer::hold`](crate::LimitLayer::hold).
#[derive(Clone, Copy, Debug)]
pub struct Hold<F, X>(pub(crate) F, pub(crate) X);

// === impl Hook ===

impl<Req, T> Hook<Req, T> for Plain {
    type Response = T;

    #[inline]
    fn passes_by(&self, _: &Req) -> bool {
        false
    }

    #[inline]
    fn answered(&self, response: T, _: Permit) -> T {
        response
    }
}

impl<Req, T, F, X> Hook<Req, T> for Bypass<F, X>
where
    F: Fn(&Req) -> bool + Clone,
    X: Hook<Req, T>,
{
    type Response = X::Response;

    fn passes_by(&self, request: &Req) -> bool {
        (self.0)(request) || self.1.passes_by(request)
    }

    fn answered(&self, response: T, permit: Permit) -> X::Response {
        self.1.answered(response, permit)
    }
}

impl<Req, T, U, F, X> Hook<Req, T> for Hold<F, X>
where
    F: Fn(T, Permit) -> U + Clone,
    X: Hook<Req, T>,
{
    type Response = U;

    fn passes_by(&self, request: &Req) -> bool {
        self.1.passes_by(request)
    }

    fn answered(&self, response: T, permit: Permit) -> U {
        (self.0)(response, permit)
    }
}
