//! What a limit does for single calls, beyond limiting them.

use stockade_core::{IntoShare, NoBypass, Share};

use crate::{Permit, shared::Shared};

/// What a layer was told about single calls: which pass by, what keeps their permits, and in which order they wait.
///
/// `B` says which calls pass by, `H` is what keeps permits, and `O` is the order in which calls wait.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hooks<B = NoBypass, H = Release, O = Arrival> {
    pub(crate) bypass: B,
    pub(crate) hold: H,
    pub(crate) order: O,
}

/// Every call is limited and waits as it came, and its permit is free once the service has answered.
pub type Plain = Hooks;

/// What becomes of the permit of a call that was answered. Closures for [`LimitLayer::hold`](crate::LimitLayer::hold) do
/// that.
pub trait Hold<T> {
    /// The response that becomes of `T`.
    type Response;

    #[doc(hidden)]
    fn hold(&self, response: T, permit: Permit) -> Self::Response;
}

/// The permit is free: the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Release;

/// In which order calls wait: [`Arrival`], [`ByPriority`] or [`FairBy`].
pub trait Order<Req> {
    #[doc(hidden)]
    #[inline]
    fn permit(&self, shared: &Shared) -> Option<Permit> {
        Permit::try_new(shared.semaphore)
    }

    #[doc(hidden)]
    fn share(&self, _: &Req) -> Option<Share> {
        None
    }
}

/// First come, first served: the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrival;

/// By class; made by [`LimitLayer::by_priority`](crate::LimitLayer::by_priority).
#[derive(Clone, Copy, Debug)]
pub struct ByPriority;

/// By whose they are; made by [`LimitLayer::fair_by`](crate::LimitLayer::fair_by).
#[derive(Clone, Copy, Debug)]
pub struct FairBy<F>(pub(crate) F);

// === impl Hold ===

impl<T> Hold<T> for Release {
    type Response = T;

    #[inline]
    fn hold(&self, response: T, _: Permit) -> T {
        response
    }
}

impl<T, U, F: Fn(T, Permit) -> U> Hold<T> for F {
    type Response = U;

    fn hold(&self, response: T, permit: Permit) -> U {
        self(response, permit)
    }
}

// === impl Order ===

impl<Req> Order<Req> for Arrival {}

impl<Req> Order<Req> for ByPriority {
    fn permit(&self, shared: &Shared) -> Option<Permit> {
        shared.try_acquire()
    }
}

impl<Req, S, F> Order<Req> for FairBy<F>
where
    F: Fn(&Req) -> S,
    S: IntoShare,
{
    fn share(&self, request: &Req) -> Option<Share> {
        Some((self.0)(request).into_share())
    }
}
