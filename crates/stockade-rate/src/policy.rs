//! What a call takes, and from which bucket: the part of a rate limit that looks at the request.
//!
//! A plain rate limit is [`Single`] and looks at nothing; what it is made of here is gone when it is
//! compiled. [`Costly`] goes around another policy and tells it the cost.

use std::{fmt, num::NonZeroU32, sync::Arc};

use governor::{Quota, nanos::Nanos};

use crate::{
    RateHandle,
    clock::Clock,
    gate::{Gate, Rules, Verdict},
    policy::sealed::{Admit, Make},
    waiter::Waiter,
};

/// Which buckets a rate limit has.
///
/// It is not for others to implement: [`Single`], [`Costly`] and [`Keyed`](crate::Keyed) do.
pub trait Policy: Make {}

/// A [`Policy`] that takes requests of the type `Req`.
pub trait PolicyFor<Req>: Policy + Admit<Req> {}

impl<P: Make> Policy for P {}
impl<P: Admit<Req>, Req> PolicyFor<Req> for P {}

pub(crate) mod sealed {
    use std::num::NonZeroU32;

    use governor::Quota;

    use crate::{
        gate::{Rules, Verdict},
        waiter::Waiter,
    };

    pub trait Make {
        /// What there is to see and to turn.
        type Handle;

        fn handle(&self) -> Self::Handle;

        /// The same policy with full buckets and nobody waiting.
        #[expect(private_interfaces, reason = "sealed")]
        fn afresh(&self, quota: Quota, rules: Rules) -> Self;
    }

    pub trait Admit<Req>: Make {
        /// What the slow path is asked with.
        type Doubt;

        /// A call comes; the cost is 1 unless it is said.
        fn pass(&self, request: &Req, cost: Option<NonZeroU32>) -> Result<(), Self::Doubt>;

        #[expect(private_interfaces, reason = "sealed")]
        fn knock(&self, doubt: Self::Doubt) -> Verdict<Waiter>;
    }
}

/// One bucket for all calls, of which each takes one token: the default.
#[derive(Clone, Debug)]
pub struct Single {
    gate: Arc<Gate>,
}

/// Calls that take as many tokens as a function says; see [`RateLayer::cost`](crate::RateLayer::cost).
#[derive(Clone)]
pub struct Costly<F, P = Single> {
    cost: F,
    policy: P,
}

// === impl Single ===

impl Single {
    pub(crate) fn new(quota: Quota, rules: Rules) -> Self {
        Self { gate: Arc::new(Gate::new(quota, rules, Clock::new())) }
    }

    pub(crate) fn into_gate(self) -> Arc<Gate> {
        self.gate
    }
}

impl Make for Single {
    type Handle = RateHandle;

    fn handle(&self) -> RateHandle {
        RateHandle::new(Arc::clone(&self.gate))
    }

    #[expect(private_interfaces, reason = "sealed")]
    fn afresh(&self, quota: Quota, rules: Rules) -> Self {
        Self::new(quota, rules)
    }
}

impl<Req> Admit<Req> for Single {
    type Doubt = (Nanos, NonZeroU32);

    #[inline(always)]
    fn pass(&self, _: &Req, cost: Option<NonZeroU32>) -> Result<(), Self::Doubt> {
        let now = self.gate.now();
        if self.gate.pass(now, cost) { Ok(()) } else { Err((now, cost.unwrap_or(NonZeroU32::MIN))) }
    }

    #[expect(private_interfaces, reason = "sealed")]
    fn knock(&self, (now, cost): Self::Doubt) -> Verdict<Waiter> {
        self.gate.knock(now, cost)
    }
}

// === impl Costly ===

impl<F, P> Costly<F, P> {
    pub(crate) fn new(cost: F, policy: P) -> Self {
        Self { cost, policy }
    }
}

impl<F: Clone, P: Make> Make for Costly<F, P> {
    type Handle = P::Handle;

    fn handle(&self) -> P::Handle {
        self.policy.handle()
    }

    #[expect(private_interfaces, reason = "sealed")]
    fn afresh(&self, quota: Quota, rules: Rules) -> Self {
        Self { cost: self.cost.clone(), policy: self.policy.afresh(quota, rules) }
    }
}

impl<F, P, Req> Admit<Req> for Costly<F, P>
where
    F: Fn(&Req) -> u32 + Clone,
    P: Admit<Req>,
{
    type Doubt = P::Doubt;

    #[inline]
    fn pass(&self, request: &Req, said: Option<NonZeroU32>) -> Result<(), Self::Doubt> {
        // Who set the cost last goes around who set it first.
        match said.or_else(|| NonZeroU32::new((self.cost)(request))) {
            Some(cost) => self.policy.pass(request, Some(cost)),
            None => Ok(()),
        }
    }

    #[expect(private_interfaces, reason = "sealed")]
    fn knock(&self, doubt: Self::Doubt) -> Verdict<Waiter> {
        self.policy.knock(doubt)
    }
}

impl<F, P: fmt::Debug> fmt::Debug for Costly<F, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Costly").field("policy", &self.policy).finish_non_exhaustive()
    }
}
