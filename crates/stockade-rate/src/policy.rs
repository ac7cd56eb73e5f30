//! What a call takes, and from which bucket: the part of a rate limit that looks at the request.
//!
//! A plain rate limit is [`Single`] and looks at nothing. [`Costly`] goes around another policy and tells it the cost.

use std::{fmt, num::NonZeroU32, sync::Arc};

use crate::{
    backend::{Admission, Backend},
    shared::Shared,
};

/// Which buckets a rate limit has.
///
/// It is not for others to implement: [`Single`], [`Costly`] and [`Keyed`](crate::Keyed) do.
pub trait Policy: Clone {
    /// Reads the state of the buckets, and changes it at run time.
    type Handle;

    /// What a bucket is.
    #[doc(hidden)]
    type Limiter: Backend;

    /// The same policy with full buckets and nobody waiting.
    #[doc(hidden)]
    #[must_use]
    fn fresh(&self, plan: &<Self::Limiter as Backend>::Plan) -> Self;

    #[doc(hidden)]
    fn handle(&self) -> Self::Handle;
}

/// A [`Policy`] that takes requests of the type `Req`.
pub trait PolicyFor<Req>: Policy {
    /// A call comes. It costs 1 unless the cost is said.
    #[doc(hidden)]
    fn admit(&self, request: &Req, cost: Option<NonZeroU32>) -> Admission<Self::Limiter>;
}

/// One bucket for all calls, of which each takes one token: the default.
#[derive(Debug)]
pub struct Single<L = Shared> {
    limiter: Arc<L>,
}

/// Calls that take as many tokens as a function says; see [`RateLayer::cost`](crate::RateLayer::cost).
#[derive(Clone)]
pub struct Costly<F, P = Single> {
    cost: F,
    policy: P,
}

/// Calls of which some cost nothing; see [`RateLayer::bypass`](crate::RateLayer::bypass).
#[derive(Clone)]
pub struct Bypass<F>(F);

/// Says what a call costs.
#[doc(hidden)]
pub trait Cost<Req> {
    /// What it costs, where `said` is what somebody further out has said already: `None` for nothing, and
    /// `Some(None)` for what is usual.
    fn of(&self, request: &Req, said: Option<NonZeroU32>) -> Option<Option<NonZeroU32>>;
}

// === impl Single ===

impl<L: Backend> Single<L> {
    #[doc(hidden)]
    pub fn new(plan: &L::Plan) -> Self {
        Self { limiter: Arc::new(L::build(plan)) }
    }

    #[doc(hidden)]
    pub const fn limiter(&self) -> &Arc<L> {
        &self.limiter
    }
}

impl<L: Backend> Policy for Single<L> {
    type Handle = L::Handle;
    type Limiter = L;

    fn fresh(&self, plan: &L::Plan) -> Self {
        Self::new(plan)
    }

    fn handle(&self) -> L::Handle {
        L::handle(&self.limiter)
    }
}

impl<L: Backend, Req> PolicyFor<Req> for Single<L> {
    #[inline]
    fn admit(&self, _: &Req, cost: Option<NonZeroU32>) -> Admission<L> {
        L::admit(&self.limiter, cost.unwrap_or(NonZeroU32::MIN))
    }
}

impl<L> Clone for Single<L> {
    fn clone(&self) -> Self {
        Self { limiter: Arc::clone(&self.limiter) }
    }
}

// === impl Costly ===

impl<F, P> Costly<F, P> {
    #[doc(hidden)]
    pub const fn new(cost: F, policy: P) -> Self {
        Self { cost, policy }
    }
}

impl<F: Clone, P: Policy> Policy for Costly<F, P> {
    type Handle = P::Handle;
    type Limiter = P::Limiter;

    fn fresh(&self, plan: &<P::Limiter as Backend>::Plan) -> Self {
        Self::new(self.cost.clone(), self.policy.fresh(plan))
    }

    fn handle(&self) -> P::Handle {
        self.policy.handle()
    }
}

impl<F, P, Req> PolicyFor<Req> for Costly<F, P>
where
    F: Cost<Req> + Clone,
    P: PolicyFor<Req>,
{
    #[inline]
    fn admit(&self, request: &Req, said: Option<NonZeroU32>) -> Admission<P::Limiter> {
        match self.cost.of(request, said) {
            Some(cost) => self.policy.admit(request, cost),
            None => Admission::Pass,
        }
    }
}

/// The cost that was set last goes around the one that was set first, and counts.
impl<F: Fn(&Req) -> u32, Req> Cost<Req> for F {
    #[inline]
    fn of(&self, request: &Req, said: Option<NonZeroU32>) -> Option<Option<NonZeroU32>> {
        said.or_else(|| NonZeroU32::new(self(request))).map(Some)
    }
}

stockade_core::shown!(Costly<F, P: fmt::Debug>: policy);

// === impl Bypass ===

impl<F> Bypass<F> {
    #[doc(hidden)]
    pub const fn new(passes_by: F) -> Self {
        Self(passes_by)
    }
}

impl<F: Fn(&Req) -> bool, Req> Cost<Req> for Bypass<F> {
    #[inline]
    fn of(&self, request: &Req, said: Option<NonZeroU32>) -> Option<Option<NonZeroU32>> {
        (!(self.0)(request)).then_some(said)
    }
}

impl<F> fmt::Debug for Bypass<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bypass").finish_non_exhaustive()
    }
}
