use std::{borrow::Cow, fmt, sync::Arc};

use stockade_core::internal::{lock, sync::Mutex};

use crate::family::{About, AnyGroup, Export, Group, Readable};

/// A list of handles, each with a name, that are read when somebody asks for metrics.
///
/// `render` makes the text that Prometheus scrapes; a registry of `prometheus-client` takes it as a collector. A
/// clone is the same list.
///
/// A handle of a layer stays in the list until it is [removed](Self::remove). It keeps the state of the layer alive,
/// and no service. A pool is not kept alive: it leaves the list when it is gone. To scrape its last numbers after a
/// drain, keep a handle of it until then.
///
/// # Example
///
/// ```
/// use stockade_metrics::Metrics;
/// use stockade_retry::RetryLayer;
///
/// # fn main() -> Result<(), stockade_metrics::NameTaken> {
/// let metrics = Metrics::new();
/// let (retry, handle) = RetryLayer::max_attempts(3).with_handle();
/// metrics.retry("search", handle.clone())?;
/// assert!(metrics.retry("search", handle).is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Metrics {
    groups: Arc<Mutex<Groups>>,
}

/// There is a handle of this kind and name already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameTaken {
    kind: &'static str,
    name: Cow<'static, str>,
}

#[derive(Default)]
struct Groups {
    #[cfg(feature = "measure")]
    calls: Group<crate::MeasureHandle>,
    #[cfg(feature = "limit")]
    limits: Group<stockade_limit::LimitHandle>,
    #[cfg(feature = "rate")]
    rates: Group<stockade_rate::RateHandle>,
    #[cfg(feature = "rate")]
    keyed: Group<crate::rate::AnyKeyed>,
    #[cfg(feature = "keyed")]
    stacks: Group<crate::keyed::AnyKeyed>,
    #[cfg(feature = "retry")]
    retries: Group<stockade_retry::RetryHandle>,
    #[cfg(feature = "timeout")]
    timeouts: Group<stockade_timeout::TimeoutHandle>,
    #[cfg(feature = "breaker")]
    breakers: Group<stockade_breaker::BreakerHandle>,
    #[cfg(feature = "pool")]
    pools: Group<crate::pool::AnyPool>,
}

/// Makes the method that adds a handle of a type.
macro_rules! methods {
    ($($feature:literal $doc:literal $method:ident($handle:ty) => $group:ident;)*) => {
        impl Metrics {$(
            #[doc = $doc]
            ///
            /// # Errors
            ///
            /// [`NameTaken`] if there is a handle of this kind and name already, which stays.
            #[cfg(feature = $feature)]
            pub fn $method(
                &self,
                name: impl Into<Cow<'static, str>>,
                handle: $handle,
            ) -> Result<(), NameTaken> {
                self.add(name, handle, |groups| &mut groups.$group)
            }
        )*}
    };
}

// === impl Metrics ===

methods! {
    "limit" "Adds a concurrency limit." limit(stockade_limit::LimitHandle) => limits;
    "rate" "Adds a rate limit." rate(stockade_rate::RateHandle) => rates;
    "retry" "Adds a retry." retry(stockade_retry::RetryHandle) => retries;
    "timeout" "Adds a timeout." timeout(stockade_timeout::TimeoutHandle) => timeouts;
    "breaker" "Adds a circuit breaker." breaker(stockade_breaker::BreakerHandle) => breakers;
    "measure" "Adds calls that a [`MeasureLayer`](crate::MeasureLayer) measures."
        measure(crate::MeasureHandle) => calls;
}

impl Metrics {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the handles of a whole stack, all with its name: a tuple of them, from the outside in, or those of a stack from
    /// a file.
    ///
    /// Of two timeouts the second is the one of each attempt, and is added as `<name> attempt`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use stockade_limit::LimitLayer;
    /// use stockade_metrics::Metrics;
    /// use stockade_timeout::TimeoutLayer;
    ///
    /// # fn main() -> Result<(), stockade_metrics::NameTaken> {
    /// let (total, of_total) = TimeoutLayer::new(Duration::from_secs(9)).with_handle();
    /// let (limit, of_limit) = LimitLayer::new(64).with_handle();
    /// let (attempt, of_attempt) = TimeoutLayer::new(Duration::from_secs(2)).with_handle();
    /// let metrics = Metrics::new();
    /// metrics.stack("orders", (of_total, of_limit, of_attempt))?;
    ///
    /// let page = metrics.render();
    /// assert!(page.contains(r#"stockade_limit_max{name="orders"} 64"#));
    /// assert!(page.contains(r#"stockade_timeout_limit_seconds{name="orders"} 9"#));
    /// assert!(page.contains(r#"stockade_timeout_limit_seconds{name="orders attempt"} 2"#));
    /// # drop((total, limit, attempt));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`NameTaken`] if there is a handle of one of the kinds with this name already. Those before it have been added.
    pub fn stack(&self, name: &str, handles: impl crate::Handles) -> Result<(), NameTaken> {
        handles.add_to(self, name)
    }

    /// Adds a rate limit with keys: the number of its keys, and the bucket that keys without one share. No key has a
    /// series of its own, because there may be any number of keys.
    ///
    /// # Errors
    ///
    /// [`NameTaken`] if there is a handle of this kind and name already, which stays.
    #[cfg(feature = "rate")]
    pub fn keyed_rate<K>(
        &self,
        name: impl Into<Cow<'static, str>>,
        handle: stockade_rate::KeyedHandle<K>,
    ) -> Result<(), NameTaken>
    where
        K: std::hash::Hash + Eq + Clone + Send + 'static,
    {
        self.add(name, crate::rate::AnyKeyed::new(handle), |groups| &mut groups.keyed)
    }

    /// Adds stacks per key: the number of keys, and how busy the ten busiest are. No key has a series of its own, because
    /// there may be any number of keys: the busiest are told apart by their rank.
    ///
    /// # Errors
    ///
    /// [`NameTaken`] if there is a handle of this kind and name already, which stays.
    #[cfg(feature = "keyed")]
    pub fn keyed<K, H>(
        &self,
        name: impl Into<Cow<'static, str>>,
        handle: stockade_keyed::KeyedHandle<K, H>,
    ) -> Result<(), NameTaken>
    where
        K: Clone + 'static,
        H: Clone + 'static,
    {
        self.add(name, crate::keyed::AnyKeyed::new(handle), |groups| &mut groups.stacks)
    }

    /// Adds a pool, without keeping it alive.
    ///
    /// # Errors
    ///
    /// [`NameTaken`] if there is a handle of this kind and name already, which stays.
    #[cfg(feature = "pool")]
    pub fn pool<Req, T, E>(
        &self,
        name: impl Into<Cow<'static, str>>,
        handle: stockade_pool::PoolHandle<Req, T, E>,
    ) -> Result<(), NameTaken>
    where
        Req: Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let pool = crate::pool::AnyPool::new(handle.downgrade());
        self.add(name, pool, |groups| &mut groups.pools)
    }

    /// Removes the handles of this name, of every kind, and the timeout `<name> attempt` of a [stack](Self::stack).
    /// Returns false if there is none.
    pub fn remove(&self, name: &str) -> bool {
        let mut groups = lock(&self.groups);
        let removed = groups.all().into_iter().filter_map(|group| group.remove(name).then_some(()));
        let removed = removed.count() > 0;
        #[cfg(feature = "timeout")]
        let removed = groups.timeouts.remove(&crate::stack::of_attempt(name)) || removed;
        removed
    }

    /// Every metric that there may be.
    #[allow(dead_code, reason = "not every exporter asks")]
    pub(crate) fn about(&self) -> Vec<About> {
        lock(&self.groups).all().iter().flat_map(|group| group.about()).collect()
    }

    #[allow(dead_code, reason = "without an exporter nobody asks")]
    pub(crate) fn export(&self, to: &mut dyn Export) -> fmt::Result {
        let mut groups = lock(&self.groups);
        groups.all().into_iter().try_for_each(|group| group.export(to))
    }

    #[cfg(feature = "dashboard")]
    pub(crate) fn rows(
        &self,
        now: crate::family::Now,
        show: &mut dyn FnMut(&crate::family::Row<'_>),
    ) {
        lock(&self.groups).all().into_iter().for_each(|group| group.rows(now, show));
    }

    /// How to follow an order: `None` if there is no such handle, and none inside if its kind does not know the order.
    #[cfg(feature = "dashboard")]
    pub(crate) fn order(
        &self,
        kind: &str,
        name: &str,
        order: crate::family::Order,
    ) -> Option<Option<crate::family::Action>> {
        lock(&self.groups).all().iter().find_map(|group| group.order(kind, name, order))
    }

    #[allow(dead_code, reason = "without a kind there is nothing to add")]
    fn add<H: Readable>(
        &self,
        name: impl Into<Cow<'static, str>>,
        handle: H,
        group: fn(&mut Groups) -> &mut Group<H>,
    ) -> Result<(), NameTaken> {
        let name = name.into();
        if group(&mut lock(&self.groups)).add(name.clone(), handle) {
            Ok(())
        } else {
            Err(NameTaken { kind: H::KIND, name })
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut groups = lock(&self.groups);
        f.debug_set().entries(groups.all().iter().flat_map(|group| group.names())).finish()
    }
}

// === impl Groups ===

impl Groups {
    fn all(&mut self) -> Vec<&mut dyn AnyGroup> {
        #[allow(dead_code, reason = "without a kind there is no group")]
        fn any(group: &mut impl AnyGroup) -> &mut dyn AnyGroup {
            group
        }
        Vec::from([
            #[cfg(feature = "measure")]
            any(&mut self.calls),
            #[cfg(feature = "limit")]
            any(&mut self.limits),
            #[cfg(feature = "rate")]
            any(&mut self.rates),
            #[cfg(feature = "rate")]
            any(&mut self.keyed),
            #[cfg(feature = "keyed")]
            any(&mut self.stacks),
            #[cfg(feature = "retry")]
            any(&mut self.retries),
            #[cfg(feature = "timeout")]
            any(&mut self.timeouts),
            #[cfg(feature = "breaker")]
            any(&mut self.breakers),
            #[cfg(feature = "pool")]
            any(&mut self.pools),
        ])
    }
}

// === impl NameTaken ===

impl fmt::Display for NameTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is a {} `{}` already", self.kind, self.name)
    }
}

impl std::error::Error for NameTaken {}
