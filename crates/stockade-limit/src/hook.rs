//! What a limit does for single calls, beyond limiting them.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

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

    /// Polls a call that is in flight. When it is answered the permit is taken, and given away or dropped.
    #[doc(hidden)]
    fn poll<F, E>(
        &self,
        future: Pin<&mut F>,
        permit: &mut Permit,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Response, E>>
    where
        F: Future<Output = Result<T, E>>;
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

    // Without it a stack of several layers calls this, and moves the answer through memory.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn poll<F, E>(
        &self,
        future: Pin<&mut F>,
        permit: &mut Permit,
        cx: &mut Context<'_>,
    ) -> Poll<Result<T, E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        let result = ready!(future.poll(cx));
        let permit = mem::replace(permit, Permit::NONE);
        Poll::Ready(match result {
            Ok(response) => {
                drop(permit);
                Ok(response)
            }
            Err(error) => Err(error),
        })
    }
}

impl<T, U, H: Fn(T, Permit) -> U> Hold<T> for H {
    type Response = U;

    fn poll<F, E>(
        &self,
        future: Pin<&mut F>,
        permit: &mut Permit,
        cx: &mut Context<'_>,
    ) -> Poll<Result<U, E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        let result = ready!(future.poll(cx));
        let permit = mem::replace(permit, Permit::NONE);
        Poll::Ready(result.map(|response| self(response, permit)))
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
