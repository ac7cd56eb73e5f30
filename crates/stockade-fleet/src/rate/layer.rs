//! The layer, which is the configuration.

use std::{fmt, hash::Hash, sync::Arc, time::Duration};

use stockade_core::config::{MAX_DURATION, MIN_DURATION, allow};
use tower_layer::Layer;

use super::{
    Away, Costly, Keyed, Policy, Rate, RateHandle, Single,
    bucket::{self, MAX_FILL, Quota},
    gate::{Office, Rules},
    status::Status,
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
/// lost the bucket, by a restart or an eviction, is told by the next node that knows it.
///
/// A call costs a round trip, or shares one: while one question is on its way, the calls that come meanwhile are put
/// together in the next. Calls of one node wait in their order; between nodes each takes its turn, and no node gets
/// more than one call ahead. The time is the server's: it makes no difference how wrong the clock of a node is.
///
/// When the Redis is away, or slower than its [patience](Redis::patience), this node goes on [alone](Self::away). The
/// [handle](Self::handle) shows it, and with the feature `tracing` one event tells each change. When it is back, the
/// tokens that were given out as a share are taken out of its bucket first, and this node keeps to its share as well
/// until the last one has had the time to come back: the longest pause between two probes, 250 ms, and the
/// [time to connect](Redis::connect_timeout).
///
/// A setter makes a layer with a queue of its own, so clone the layer and take its handle after the last one. A rate
/// above 1,000 calls a second is not reached by calls that wait unless the burst is at least `r * 10 ms`: by default
/// it is `n`.
///
/// # Example
///
/// ```no_run
/// use stockade_core::Error;
/// use stockade_fleet::{Redis, rate::{Away, RateLayer}};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let redis = Redis::new("redis://127.0.0.1:6379")?;
/// let service = ServiceBuilder::new()
///     .layer(RateLayer::per_second(&redis, "geocoder", 50).away(Away::Share(4)))
///     .service(service_fn(|n: u32| async move { Ok::<_, Error<std::io::Error>>(n + 1) }));
/// assert_eq!(service.oneshot(1).await?, 2);
/// # Ok(())
/// # }
/// ```
pub struct RateLayer<P = Single> {
    office: Arc<Office>,
    key: String,
    policy: P,
}

// === impl RateLayer ===

impl RateLayer {
    /// Up to `n` calls a second of all who share `key` in this Redis.
    ///
    /// # Panics
    ///
    /// Unless `n` is from 1 to 1,000,000,000.
    #[track_caller]
    pub fn per_second(redis: &Redis, key: impl Into<String>, n: u32) -> Self {
        let n = allow("RateLayer::per_second", n, 1..=1_000_000_000);
        Self::every(redis, key.into(), n, Duration::from_secs(1))
    }

    /// Up to `n` calls in the time `per` of all who share `key` in this Redis.
    ///
    /// # Panics
    ///
    /// Unless `per` is from 1 ns to ten days, and `n` from 1 to the number of nanoseconds in `per`.
    #[track_caller]
    pub fn new(redis: &Redis, key: impl Into<String>, n: u32, per: Duration) -> Self {
        let per = allow("RateLayer::new, per", per, MIN_DURATION..=MAX_FILL);
        let most = u32::try_from(per.as_nanos()).unwrap_or(u32::MAX);
        let n = allow("RateLayer::new, n", n, 1..=most);
        Self::every(redis, key.into(), n, per)
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
        let policy = Keyed::new(key, &self.office, &self.key, max_keys);
        RateLayer { office: self.office, key: self.key, policy }
    }

    fn every(redis: &Redis, key: String, n: u32, per: Duration) -> Self {
        // Rounded up, so that never more pass than promised.
        let period = per.as_nanos().div_ceil(u128::from(n));
        let period = u64::try_from(period).expect("at most ten days in nanoseconds");
        let rules = Rules {
            quota: Quota { period, burst: n },
            queue: 1024,
            max_wait: None,
            lease: 1,
            away: Away::Closed,
            name: None,
        };
        let office = Arc::new(Office::new(redis.clone(), rules));
        let policy = Single::new(&office, &key);
        Self { office, key, policy }
    }
}

impl<P: Policy> RateLayer<P> {
    /// How many calls pass at once after a pause: the tokens that the bucket holds, `n` by default.
    ///
    /// # Panics
    ///
    /// Unless `burst` is at least 1, as many periods are at most ten days, and a [lease](Self::lease) that was set
    /// is no more.
    #[track_caller]
    #[must_use]
    pub fn burst(self, burst: u32) -> Self {
        let period = u128::from(self.office.rules.quota.period);
        let most = u32::try_from(MAX_FILL.as_nanos() / period).unwrap_or(u32::MAX);
        let burst = allow("RateLayer::burst", burst, 1..=most);
        allow("RateLayer::lease", self.office.rules.lease, 1..=burst);
        self.set(|rules| rules.quota.burst = burst)
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
        let queue = allow("RateLayer::queue", n, 0..=(u32::MAX - 1) as usize);
        self.set(|rules| rules.queue = queue)
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
        let wait = allow("RateLayer::max_wait", wait, Duration::ZERO..=MAX_DURATION);
        self.set(|rules| rules.max_wait = Some(wait))
    }

    /// Fetches up to `k` tokens at a time, 1 by default, and keeps those that are not used at once for the next calls
    /// of this node: one round trip for `k` calls, where there are enough tokens.
    ///
    /// Each node may then have up to `k - 1` tokens that it uses later: over any time, `nodes * (k - 1)` more calls
    /// may pass than the rate allows.
    ///
    /// # Panics
    ///
    /// Unless `k` is from 1 to the [burst](Self::burst).
    #[track_caller]
    #[must_use]
    pub fn lease(self, k: u32) -> Self {
        let lease = allow("RateLayer::lease", k, 1..=self.office.rules.quota.burst);
        self.set(|rules| rules.lease = lease)
    }

    /// What to do while the Redis is away; by default it is [`Away::Closed`].
    ///
    /// # Panics
    ///
    /// If it is the share of one in zero nodes, or in more than 1,000,000.
    #[track_caller]
    #[must_use]
    pub fn away(self, away: Away) -> Self {
        if let Away::Share(nodes) = away {
            allow("RateLayer::away, Away::Share", nodes, 1..=1_000_000);
        }
        self.set(|rules| rules.away = away)
    }

    /// A name by which refusals and events tell this rate limit from others.
    #[must_use]
    pub fn name(self, name: &'static str) -> Self {
        self.set(|rules| rules.name = Some(name))
    }

    /// Lets a call take as many tokens as `cost` says, all at once. Set again, the last one counts.
    ///
    /// Calls of a node pass in the order in which they came, so a costly one lets its tokens gather while the cheap ones
    /// behind it wait. A call that costs more than the [burst](Self::burst) is refused at once as
    /// [`TooCostly`](stockade_core::Reason::TooCostly); one that costs 0 passes at once, and asks nobody.
    #[must_use]
    pub fn cost<F>(self, cost: F) -> RateLayer<Costly<F, P>> {
        let Self { office, key, policy } = self;
        RateLayer { office, key, policy: Costly::new(cost, policy) }
    }

    /// What there is to see of it on this node.
    pub fn handle(&self) -> RateHandle {
        RateHandle::new(Arc::clone(&self.office))
    }

    fn set(self, setter: impl FnOnce(&mut Rules)) -> Self {
        let mut rules = self.office.rules.clone();
        setter(&mut rules);
        let office = Arc::new(Office::new(self.office.redis.clone(), rules));
        let policy = self.policy.afresh(&office, &self.key);
        Self { office, key: self.key, policy }
    }
}

impl<S, P: Policy + Clone> Layer<S> for RateLayer<P> {
    type Service = Rate<S, P>;

    fn layer(&self, inner: S) -> Rate<S, P> {
        Rate::new(inner, self.policy.clone())
    }
}

impl<P: Clone> Clone for RateLayer<P> {
    fn clone(&self) -> Self {
        let Self { office, key, policy } = self;
        Self { office: Arc::clone(office), key: key.clone(), policy: policy.clone() }
    }
}

impl<P: fmt::Debug> fmt::Debug for RateLayer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLayer")
            .field("key", &self.key)
            .field("redis", &self.office.redis)
            .field("rules", &self.office.rules)
            .finish_non_exhaustive()
    }
}

// === impl Office ===

impl Office {
    fn new(redis: Redis, rules: Rules) -> Self {
        let status = Status::new(rules.name);
        Self { redis, script: bucket::script(), rules, status }
    }
}
