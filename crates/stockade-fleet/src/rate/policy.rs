//! What a call takes, and from which bucket: the part of a rate limit that looks at the request.

use std::{fmt, hash::Hash, sync::Arc};

use super::{gate::Gate, gate::Office, keyed::Table};

/// Which buckets a rate limit has. It is not for others to implement: [`Single`], [`Keyed`] and [`Costly`] do.
pub trait Policy: sealed::Make {}

/// A [`Policy`] that takes requests of the type `Req`.
pub trait PolicyFor<Req>: Policy + sealed::Find<Req> {}

impl<P: sealed::Make> Policy for P {}
impl<P: sealed::Find<Req>, Req> PolicyFor<Req> for P {}

pub(crate) mod sealed {
    use std::sync::Arc;

    use crate::rate::gate::{Gate, Office};

    pub trait Make {
        /// The same policy over other buckets.
        #[expect(private_interfaces, reason = "sealed")]
        fn afresh(&self, office: &Arc<Office>, prefix: &str) -> Self;
    }

    pub trait Find<Req>: Make {
        /// The bucket of a call, and what the call costs; nothing for one that costs nothing.
        #[expect(private_interfaces, reason = "sealed")]
        fn find(&self, request: &Req, said: Option<u32>) -> Option<(Arc<Gate>, u32)>;
    }
}

/// One bucket for all calls: the default.
#[derive(Clone, Debug)]
pub struct Single {
    gate: Arc<Gate>,
}

/// A bucket for each key; see [`RateLayer::keyed`](super::RateLayer::keyed).
pub struct Keyed<K, F> {
    key: F,
    table: Arc<Table<K>>,
    max_keys: usize,
}

/// Calls that take as many tokens as a function says; see [`RateLayer::cost`](super::RateLayer::cost).
#[derive(Clone)]
pub struct Costly<F, P = Single> {
    cost: F,
    policy: P,
}

// === impl Single ===

impl Single {
    pub(crate) fn new(office: &Arc<Office>, key: &str) -> Self {
        Self { gate: Arc::new(Gate::new(Arc::clone(office), key.to_owned())) }
    }
}

impl sealed::Make for Single {
    #[expect(private_interfaces, reason = "sealed")]
    fn afresh(&self, office: &Arc<Office>, prefix: &str) -> Self {
        Self::new(office, prefix)
    }
}

impl<Req> sealed::Find<Req> for Single {
    #[expect(private_interfaces, reason = "sealed")]
    fn find(&self, _: &Req, said: Option<u32>) -> Option<(Arc<Gate>, u32)> {
        Some((Arc::clone(&self.gate), said.unwrap_or(1)))
    }
}

// === impl Keyed ===

impl<K, F> Keyed<K, F> {
    pub(crate) fn new(key: F, office: &Arc<Office>, prefix: &str, max_keys: usize) -> Self {
        let table = Table::new(Arc::clone(office), prefix.to_owned(), max_keys);
        Self { key, table: Arc::new(table), max_keys }
    }
}

impl<K, F: Clone> sealed::Make for Keyed<K, F> {
    #[expect(private_interfaces, reason = "sealed")]
    fn afresh(&self, office: &Arc<Office>, prefix: &str) -> Self {
        Self::new(self.key.clone(), office, prefix, self.max_keys)
    }
}

impl<K, F, Req> sealed::Find<Req> for Keyed<K, F>
where
    K: Hash + Eq + Clone + fmt::Display,
    F: Fn(&Req) -> K + Clone,
{
    #[expect(private_interfaces, reason = "sealed")]
    fn find(&self, request: &Req, said: Option<u32>) -> Option<(Arc<Gate>, u32)> {
        let key = (self.key)(request);
        Some((self.table.gate(key), said.unwrap_or(1)))
    }
}

impl<K, F: Clone> Clone for Keyed<K, F> {
    fn clone(&self) -> Self {
        let Self { key, table, max_keys } = self;
        Self { key: key.clone(), table: Arc::clone(table), max_keys: *max_keys }
    }
}

impl<K, F> fmt::Debug for Keyed<K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed").field("max_keys", &self.max_keys).finish_non_exhaustive()
    }
}

// === impl Costly ===

impl<F, P> Costly<F, P> {
    pub(crate) const fn new(cost: F, policy: P) -> Self {
        Self { cost, policy }
    }
}

impl<F: Clone, P: sealed::Make> sealed::Make for Costly<F, P> {
    #[expect(private_interfaces, reason = "sealed")]
    fn afresh(&self, office: &Arc<Office>, prefix: &str) -> Self {
        Self { cost: self.cost.clone(), policy: self.policy.afresh(office, prefix) }
    }
}

impl<F, P, Req> sealed::Find<Req> for Costly<F, P>
where
    F: Fn(&Req) -> u32 + Clone,
    P: sealed::Find<Req>,
{
    #[expect(private_interfaces, reason = "sealed")]
    fn find(&self, request: &Req, said: Option<u32>) -> Option<(Arc<Gate>, u32)> {
        // Who set the cost last goes around who set it first.
        match said.unwrap_or_else(|| (self.cost)(request)) {
            0 => None,
            cost => self.policy.find(request, Some(cost)),
        }
    }
}

impl<F, P: fmt::Debug> fmt::Debug for Costly<F, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Costly").field("policy", &self.policy).finish_non_exhaustive()
    }
}
