//! The layer and its setters.

use std::{fmt, hash::Hash, sync::Arc, time::Duration};

use stockade_core::{
    Configured, Name,
    config::{allow, checked},
};
use stockade_rate::{Bypass, Costly, Policy, Rate};
use tower_layer::Layer;

use super::{
    Config, Keyed, Outage, Single, config,
    limiter::Limiter,
    shared::{Plan, Shared},
};
use crate::Redis;

/// Bounds the rate of calls of a whole fleet with a token bucket in Redis.
///
/// It is the rate limit of `stockade-rate` with the bucket elsewhere: the same setters, refusals and waits. It does
/// not bound how many calls run at the same time.
///
/// All layers with the same Redis, key and rate share one bucket, in whatever process they are. The bucket is full at
/// first: [`burst`](Self::burst) calls pass at once, then one per period. Over any time `w` at most
/// `burst + n * w / per` calls of the fleet pass, and with [leases](Self::lease) `nodes * (k - 1)` more. A Redis that has
/// lost the bucket, by a restart or an eviction, learns it from the next node that knows it.
///
/// A call costs a round trip, or shares one: while one question is on its way, the calls that come are put together in
/// the next one. Calls of one node wait in their order. Nodes take turns, and none gets more than one call ahead. The
/// time is the server's, so the clock of a node makes no difference. If the server's clock steps back, the bucket is
/// moved along with it. If it steps forward, the bucket is full once more, until a node that knows better asks.
///
/// When the Redis is away, or slower than its [patience](Redis::patience), this node goes on [alone](Self::outage). The
/// [handle](Self::with_handle) shows it, and with the feature `tracing` there is one event for each change. When the
/// Redis is back, the tokens that were given out as a share are taken out of its bucket first. This node also keeps to
/// its share until every other node has had the time to come back: the longest pause between two probes, 250 ms, and the
/// [time to connect](Redis::connect_timeout).
///
/// A setter makes a layer with a queue of its own, so clone the layer after the last one. Calls that wait reach a rate
/// `r` above 1,000 a second only if the burst is at least `r * 10 ms`; by default it is `n`.
///
/// # Example
///
/// ```no_run
/// use stockade_core::Error;
/// use stockade_fleet::{Redis, rate::{Outage, RateLayer}};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let redis = Redis::new("redis://127.0.0.1:6379")?;
/// let service = ServiceBuilder::new()
///     .layer(RateLayer::per_second(&redis, "geocoder", 50).outage(Outage::Share(4)))
///     .service(service_fn(|n: u32| async move { Ok::<_, Error<std::io::Error>>(n + 1) }));
/// assert_eq!(service.oneshot(1).await?, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RateLayer<P = Single> {
    plan: Plan,
    policy: P,
}

// === impl RateLayer ===

impl RateLayer {
    /// Up to `n` calls a second, of all layers together that share `key` in this Redis.
    ///
    /// # Panics
    ///
    /// Unless `n` is from 1 to 1,000,000,000.
    #[track_caller]
    pub fn per_second(redis: &Redis, key: impl Into<String>, n: u32) -> Self {
        let n = allow("RateLayer::per_second", n, 1..=1_000_000_000);
        Self::every(redis, key, n, Duration::from_secs(1))
    }

    /// Up to `n` calls in the time `per`, of all layers together that share `key` in this Redis.
    ///
    /// # Panics
    ///
    /// Unless `per` is from 1 ns to ten days, and `n` from 1 to the number of nanoseconds in `per`.
    #[track_caller]
    pub fn new(redis: &Redis, key: impl Into<String>, n: u32, per: Duration) -> Self {
        Self::every(redis, key, n, per)
    }

    /// Gives each key a bucket and a queue of its own: `key` reads it from the request, and its text, after the name of
    /// the layer's key and a colon, is the name in Redis. A bucket that is full takes no room there.
    ///
    /// A node keeps at most `max_keys` queues. Where as many keys have calls under way, further ones share one queue,
    /// and one bucket.
    ///
    /// # Panics
    ///
    /// If `max_keys` is zero.
    #[track_caller]
    #[must_use]
    pub fn keyed<K, F>(self, key: F, max_keys: usize) -> RateLayer<Keyed<K, F>>
    where
        K: Hash + Eq + Clone + fmt::Display,
    {
        let max_keys = allow("RateLayer::keyed, max_keys", max_keys, 1..=usize::MAX);
        RateLayer { policy: Keyed::new(key, self.plan.clone(), max_keys), plan: self.plan }
    }

    #[track_caller]
    fn every(redis: &Redis, key: impl Into<String>, n: u32, per: Duration) -> Self {
        let config = Config::new(n, per);
        checked(config.check_rate("RateLayer::new, n", "RateLayer::new, per"));
        let shared = Arc::new(Shared::new(redis.clone(), config));
        Self::of(Plan { shared, key: key.into() })
    }

    pub(crate) fn of(plan: Plan) -> Self {
        Self { policy: Single::new(&plan), plan }
    }
}

impl<P: Policy<Limiter = Limiter>> RateLayer<P> {
    /// How many calls pass at once after a pause: the tokens that the bucket holds, `n` by default.
    ///
    /// # Panics
    ///
    /// Unless `burst` is at least 1, and as many periods are at most ten days.
    #[track_caller]
    #[must_use]
    pub fn burst(self, burst: u32) -> Self {
        let burst = checked(self.plan.shared.config.check_burst("RateLayer::burst", burst));
        self.set(|config| config.burst = Some(burst))
    }

    /// How many calls of this node may wait, 1,024 by default. With 0 none does: a call that finds no token is refused
    /// as soon as the Redis has said so.
    ///
    /// # Panics
    ///
    /// If `n` is above 4,294,967,294.
    #[track_caller]
    #[must_use]
    pub fn queue(self, n: usize) -> Self {
        let queue = checked(config::check_queue("RateLayer::queue", n));
        self.set(|config| config.queue = queue)
    }

    /// How long a call may wait for its token; not bounded by default. A call that would have to wait for longer is
    /// refused as soon as that is known.
    ///
    /// # Panics
    ///
    /// If `wait` is longer than ten years.
    #[track_caller]
    #[must_use]
    pub fn max_wait(self, wait: Duration) -> Self {
        let wait = checked(config::check_wait("RateLayer::max_wait", wait));
        self.set(|config| config.max_wait = Some(wait))
    }

    /// Fetches up to `k` tokens at a time, 1 by default, and keeps those that are not used at once for the next calls
    /// of this node: one round trip for `k` calls, where there are enough tokens. More than the [burst](Self::burst)
    /// means the burst.
    ///
    /// Each node may then have up to `k - 1` tokens that it uses later: over any time, `nodes * (k - 1)` more calls
    /// may pass than the rate allows.
    ///
    /// # Panics
    ///
    /// If `k` is zero.
    #[track_caller]
    #[must_use]
    pub fn lease(self, k: u32) -> Self {
        let lease = checked(config::check_lease("RateLayer::lease", k));
        self.set(|config| config.lease = lease)
    }

    /// What to do while the Redis is away; by default it is [`Outage::Closed`].
    ///
    /// # Panics
    ///
    /// If it is the share of one in zero nodes, or in more than 1,000,000.
    #[track_caller]
    #[must_use]
    pub fn outage(self, outage: Outage) -> Self {
        let outage = checked(config::check_outage("RateLayer::outage", outage));
        self.set(|config| config.outage = outage)
    }

    /// A name by which refusals and events tell this rate limit from others.
    ///
    /// # Panics
    ///
    /// If it is an owned name that is too long, or there are too many; see [`Name`].
    #[track_caller]
    #[must_use]
    pub fn name(self, name: impl Into<Name>) -> Self {
        let name = name.into();
        checked(name.clone().check("RateLayer::name"));
        self.set(|config| config.name = Some(name))
    }

    /// Lets a call take as many tokens as `cost` says, all at once. Set again, the last one counts.
    ///
    /// Calls of a node pass in the order in which they came, so a costly one lets its tokens gather while the cheap ones
    /// behind it wait. A call that costs more than the [burst](Self::burst) is refused at once as
    /// [`TooCostly`](stockade_core::Reason::TooCostly); one that costs 0 passes at once, and asks nobody.
    #[must_use]
    pub fn cost<F>(self, cost: F) -> RateLayer<Costly<F, P>> {
        RateLayer { plan: self.plan, policy: Costly::new(cost, self.policy) }
    }

    /// Lets requests pass by for which `passes_by` is true: they take no token, and ask nobody.
    #[must_use]
    pub fn bypass<Req, F>(self, passes_by: F) -> RateLayer<Costly<Bypass<F>, P>>
    where
        F: Fn(&Req) -> bool,
    {
        RateLayer { plan: self.plan, policy: Costly::new(Bypass::new(passes_by), self.policy) }
    }

    /// The layer, and a handle to what this node knows of it. It ends the setters.
    pub fn with_handle(self) -> (Configured<Self>, P::Handle) {
        let handle = self.policy.handle();
        (Configured::new(self), handle)
    }

    fn set(self, setter: impl FnOnce(&mut Config)) -> Self {
        let Plan { shared, key } = self.plan;
        let mut config = shared.config.clone();
        setter(&mut config);
        let plan = Plan { shared: Arc::new(Shared::new(shared.redis.clone(), config)), key };
        Self { policy: self.policy.fresh(&plan), plan }
    }
}

impl<S, P: Policy> Layer<S> for RateLayer<P> {
    type Service = Rate<S, P>;

    fn layer(&self, inner: S) -> Rate<S, P> {
        Rate::new(inner, self.policy.clone())
    }
}

impl<P: fmt::Debug> fmt::Debug for RateLayer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLayer")
            .field("key", &self.plan.key)
            .field("redis", &self.plan.shared.redis)
            .field("config", &self.plan.shared.config)
            .finish_non_exhaustive()
    }
}
