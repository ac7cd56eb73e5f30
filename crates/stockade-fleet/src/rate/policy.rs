//! Which bucket a call takes its tokens from: one for all, or one for each key.

use std::{fmt, hash::Hash, num::NonZeroU32, sync::Arc};

use stockade_core::{Reason, Rejected};
use stockade_rate::{
    Costly, Policy, PolicyFor, Single,
    backend::{Admission, Backend},
};

use super::{RateHandle, Waiter, keyed::Table, limiter::Limiter, shared::Shared};

/// A policy that can start over.
pub trait Build {
    /// The same policy over the buckets of `shared`, whose names begin with `prefix`.
    #[must_use]
    #[expect(private_interfaces, reason = "sealed")]
    fn fresh(&self, shared: &Arc<Shared>, prefix: &str) -> Self;
}

/// A bucket for each key; see [`RateLayer::keyed`](super::RateLayer::keyed).
pub struct Keyed<K, F> {
    key: F,
    table: Arc<Table<K>>,
}

// === impl Single ===

impl Build for Single<Limiter> {
    #[expect(private_interfaces, reason = "sealed")]
    fn fresh(&self, shared: &Arc<Shared>, prefix: &str) -> Self {
        Self::new(Limiter::new(Arc::clone(shared), prefix.to_owned()).into())
    }
}

impl<F: Clone, P: Build> Build for Costly<F, P> {
    #[expect(private_interfaces, reason = "sealed")]
    fn fresh(&self, shared: &Arc<Shared>, prefix: &str) -> Self {
        self.map(|policy| policy.fresh(shared, prefix))
    }
}

// === impl Keyed ===

impl<K, F> Keyed<K, F> {
    pub(crate) fn new(key: F, shared: &Arc<Shared>, prefix: &str, max_keys: usize) -> Self {
        let table = Table::new(Arc::clone(shared), prefix.to_owned(), max_keys);
        Self { key, table: Arc::new(table) }
    }
}

impl<K, F: Clone> Build for Keyed<K, F> {
    #[expect(private_interfaces, reason = "sealed")]
    fn fresh(&self, shared: &Arc<Shared>, prefix: &str) -> Self {
        Self::new(self.key.clone(), shared, prefix, self.table.max_keys())
    }
}

impl<K, F> Policy for Keyed<K, F> {
    type Handle = RateHandle;
    type Limiter = Limiter;

    fn handle(&self) -> RateHandle {
        Limiter::handle(self.table.overflow())
    }

    fn rejected(&self, reason: Reason) -> Rejected {
        self.table.overflow().rejected(reason)
    }
}

impl<K, F, Req> PolicyFor<Req> for Keyed<K, F>
where
    K: Hash + Eq + Clone + fmt::Display,
    F: Fn(&Req) -> K,
{
    fn admit(&self, request: &Req, cost: Option<NonZeroU32>) -> Admission<Waiter> {
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
        f.debug_struct("Keyed").field("max_keys", &self.table.max_keys()).finish_non_exhaustive()
    }
}
