//! A bucket for each key.

use std::{fmt, hash::Hash, num::NonZeroU32, sync::Arc};

use stockade_rate::{
    Policy, PolicyFor,
    backend::{Admission, Backend},
};

use super::{RateHandle, keyed::Table, limiter::Limiter, shared::Plan};

/// A bucket for each key; see [`RateLayer::keyed`](super::RateLayer::keyed).
pub struct Keyed<K, F> {
    key: F,
    table: Arc<Table<K>>,
}

// === impl Keyed ===

impl<K, F> Keyed<K, F> {
    pub(crate) fn new(key: F, plan: Plan, max_keys: usize) -> Self {
        Self { key, table: Arc::new(Table::new(plan, max_keys)) }
    }
}

impl<K, F: Clone> Policy for Keyed<K, F> {
    type Handle = RateHandle;
    type Limiter = Limiter;

    fn fresh(&self, plan: &Plan) -> Self {
        Self::new(self.key.clone(), plan.clone(), self.table.max_keys)
    }

    fn handle(&self) -> RateHandle {
        Limiter::handle(&self.table.overflow)
    }
}

impl<K, F, Req> PolicyFor<Req> for Keyed<K, F>
where
    K: Hash + Eq + Clone + fmt::Display,
    F: Fn(&Req) -> K + Clone,
{
    fn admit(&self, request: &Req, cost: Option<NonZeroU32>) -> Admission<Limiter> {
        let key = (self.key)(request);
        Limiter::admit(&self.table.limiter(key), cost.unwrap_or(NonZeroU32::MIN))
    }
}

impl<K, F: Clone> Clone for Keyed<K, F> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), table: Arc::clone(&self.table) }
    }
}

impl<K, F> fmt::Debug for Keyed<K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed").field("max_keys", &self.table.max_keys).finish_non_exhaustive()
    }
}
