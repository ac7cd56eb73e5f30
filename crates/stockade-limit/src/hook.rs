//! What a limit does for single calls, beyond limiting them.

use stockade_core::{IntoShare, Share};

use crate::{Permit, shared::Shared};

/// What a layer was told about single calls: which to pass by, what keeps the permit of which, and whose turn it is.
///
/// [`Plain`] for nothing, [`Bypass`], [`Hold`], [`ByPriority`] and [`FairBy`] otherwise. The trait is public so that
/// bounds can name it.
pub trait Hook<Req, T>: Clone {
    /// The response that becomes of `T`.
    type Response;

    /// Whether the call is not limited.
    #[doc(hidden)]
    fn passes_by(&self, request: &Req) -> bool;

    /// A permit, if there is one at once.
    #[doc(hidden)]
    #[inline]
    fn permit(&self, shared: &Shared) -> Option<Permit> {
        Permit::try_new(shared.semaphore)
    }

    /// Whose call it is, if that is asked for.
    #[doc(hidden)]
    fn share(&self, _: &Req) -> Option<Share> {
        None
    }

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

/// Calls wait by class; made by [`LimitLayer::by_priority`](crate::LimitLayer::by_priority).
#[derive(Clone, Copy, Debug)]
pub struct ByPriority<X>(pub(crate) X);

/// Calls wait by whose they are; made by [`LimitLayer::fair_by`](crate::LimitLayer::fair_by).
#[derive(Clone, Copy, Debug)]
pub struct FairBy<F, X>(pub(crate) F, pub(crate) X);

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

    fn permit(&self, shared: &Shared) -> Option<Permit> {
        self.1.permit(shared)
    }

    fn share(&self, request: &Req) -> Option<Share> {
        self.1.share(request)
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

    fn permit(&self, shared: &Shared) -> Option<Permit> {
        self.1.permit(shared)
    }

    fn share(&self, request: &Req) -> Option<Share> {
        self.1.share(request)
    }

    fn answered(&self, response: T, permit: Permit) -> U {
        (self.0)(response, permit)
    }
}

impl<Req, T, X: Hook<Req, T>> Hook<Req, T> for ByPriority<X> {
    type Response = X::Response;

    fn passes_by(&self, request: &Req) -> bool {
        self.0.passes_by(request)
    }

    fn permit(&self, shared: &Shared) -> Option<Permit> {
        shared.try_acquire()
    }

    fn share(&self, request: &Req) -> Option<Share> {
        self.0.share(request)
    }

    fn answered(&self, response: T, permit: Permit) -> X::Response {
        self.0.answered(response, permit)
    }
}

impl<Req, T, S, F, X> Hook<Req, T> for FairBy<F, X>
where
    F: Fn(&Req) -> S + Clone,
    S: IntoShare,
    X: Hook<Req, T>,
{
    type Response = X::Response;

    fn passes_by(&self, request: &Req) -> bool {
        self.1.passes_by(request)
    }

    fn permit(&self, shared: &Shared) -> Option<Permit> {
        self.1.permit(shared)
    }

    fn share(&self, request: &Req) -> Option<Share> {
        Some((self.0)(request).into_share())
    }

    fn answered(&self, response: T, permit: Permit) -> X::Response {
        self.1.answered(response, permit)
    }
}
