//! The layer, which is the configuration.

use std::{hash::Hash, num::NonZeroU32, time::Duration};

use governor::Quota;
use stockade_core::config::{MAX_DURATION, MIN_DURATION, allow};
use tower_layer::Layer;

use crate::{
    BackpressureLayer, Costly, Keyed, Policy, Rate, Single,
    bucket::{self, MAX_FILL},
    gate::Rules,
};

/// Bounds the rate of calls with a token bucket.
///
/// It does not bound how many calls run at the same time, nor for how long: those are other layers.
///
/// The bucket is full at first: [`burst`](Self::burst) calls pass at once, then one per period, which is
/// `per / n`, rounded up to whole nanoseconds. Over any time `w` at most `burst + n * w / per` calls pass,
/// and one more if tokens are taken late. A call that finds no token waits in a [queue](Self::queue), or is
/// refused; see [`Rate`] for what happens in `poll_ready` and `call`, and for the errors.
///
/// Every clone of the layer, every service it makes and every clone of those share one bucket and one
/// queue, unless the layer is [`per_service`](Self::per_service). A setter makes a layer with a bucket of its
/// own, so clone the layer and take its [`handle`](Self::handle) after the last setter.
///
/// The timer, on which calls wait, is a millisecond coarse. A token that was waited for is taken as of
/// the instant at which it was due, up to one period ago, and a burst keeps what came meanwhile: so the rate
/// is reached as long as nobody is woken later than `burst` periods. A rate `r` above 1,000 calls a second
/// is not reached by calls that wait unless the burst is at least `r * 1 ms`, rounded up, plus one; where
/// the machine is busy and wakes later, a larger burst makes up for it.
///
/// The first layer of a process calibrates the clock, which takes up to 200 ms; with the feature `test-util`
/// time is tokio's, so that a paused clock is followed.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use stockade_core::Error;
/// use stockade_rate::RateLayer;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let layer = RateLayer::new(600, Duration::from_secs(60)).burst(20).max_wait(Duration::from_secs(2));
/// let service = ServiceBuilder::new()
///     .layer(layer.name("geocoder"))
///     .service(service_fn(|n: u32| async move { Ok::<_, Error<std::io::Error>>(n + 1) }));
/// assert_eq!(service.oneshot(1).await.unwrap(), 2);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RateLayer<P = Single> {
    quota: Quota,
    rules: Rules,
    per_service: bool,
    policy: P,
}

/// The longest queue, which still fits the keys of its places.
const MAX_QUEUE: usize = (u32::MAX - 1) as usize;

// === impl RateLayer ===

impl RateLayer {
    /// Up to `n` calls a second.
    ///
    /// # Panics
    ///
    /// Unless `n` is from 1 to 1,000,000,000, where the period is a nanosecond.
    #[track_caller]
    pub fn per_second(n: u32) -> Self {
        let n = allow("RateLayer::per_second", n, 1..=1_000_000_000);
        Self::every(n, Duration::from_secs(1))
    }

    /// Up to `n` calls in the time `per`.
    ///
    /// # Panics
    ///
    /// Unless `per` is from 1 ns to ten years, and `n` from 1 to the number of nanoseconds in `per`.
    #[track_caller]
    pub fn new(n: u32, per: Duration) -> Self {
        let per = allow("RateLayer::new, per", per, MIN_DURATION..=MAX_DURATION);
        let n = allow("RateLayer::new, n", n, 1..=saturate(per.as_nanos()));
        Self::every(n, per)
    }

    /// Gives each key a bucket and a queue of its own: a user, a tenant, an address. `key` is asked once a call.
    ///
    /// There are at most `max_keys` buckets. A key whose bucket is full is forgotten, which changes nothing
    /// for it, when new keys come and half the places are taken; where there is no place, a new key shares one further
    /// bucket, of the same rate, with all others that found none. So memory is bounded whatever keys come,
    /// and who invents keys gets one bucket's rate for all of them beyond `max_keys`; an idle user whom they
    /// have displaced shares that. A bucket takes about 300 bytes, and the key twice.
    ///
    /// Calls of one key wait in their order and those of another do not mind. The [queue](Self::queue) is
    /// so long for each key. A call takes a short lock, which all keys share, and hashes its key; one with a
    /// new key allocates. `key`, and the hash and the comparison of what it returns, should be
    /// quick; if one panics, `call` does.
    ///
    /// ```
    /// use stockade_core::Error;
    /// use stockade_rate::RateLayer;
    /// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let mut service = ServiceBuilder::new()
    ///     .layer(RateLayer::per_second(1).queue(0).keyed(|user: &u64| *user, 10_000))
    ///     .service(service_fn(|user: u64| async move { Ok::<_, Error<()>>(user) }));
    /// assert!(service.ready().await.unwrap().call(1).await.is_ok());
    /// assert!(service.ready().await.unwrap().call(1).await.is_err());
    /// assert!(service.ready().await.unwrap().call(2).await.is_ok());
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Unless `max_keys` is from 1 to 4,294,967,294.
    #[track_caller]
    #[must_use]
    pub fn keyed<K, F>(self, key: F, max_keys: usize) -> RateLayer<Keyed<K, F>>
    where
        K: Hash + Eq + Clone,
    {
        let max_keys = allow("RateLayer::keyed, max_keys", max_keys, 1..=MAX_QUEUE);
        let Self { quota, rules, per_service, policy: _ } = self;
        RateLayer { quota, rules, per_service, policy: Keyed::new(key, quota, rules, max_keys) }
    }

    /// Waits in `poll_ready`, and not in the response future: for whoever decides by readiness, such as a
    /// `Balance`, a load shed, a loop that fetches work or the workers of a pool. See
    /// [`Backpressure`](crate::Backpressure).
    ///
    /// It is the last setter, and not to be had with [`cost`](Self::cost) or [`keyed`](Self::keyed), because in
    /// `poll_ready` there is no request to look at. It shares the bucket and the queue with the layer it is
    /// made from and with its clones, unless it is [`per_service`](Self::per_service).
    ///
    /// ```compile_fail
    /// # use stockade_rate::RateLayer;
    /// RateLayer::per_second(10).cost(|rows: &u32| *rows).backpressure();
    /// ```
    #[must_use]
    pub fn backpressure(self) -> BackpressureLayer {
        BackpressureLayer::new(self.policy.into_gate(), self.per_service)
    }

    fn every(n: u32, per: Duration) -> Self {
        let quota = bucket::quota(bucket::period(n, per), non_zero(n));
        let rules = Rules { burst: None, queue: 1024, max_wait: None, name: None };
        Self { quota, rules, per_service: false, policy: Single::new(quota, rules) }
    }
}

impl<P: Policy> RateLayer<P> {
    /// How many calls pass at once after a pause: the tokens that the bucket holds, `n` by default. One that
    /// is set here stays when the [rate changes](crate::RateHandle::set_rate).
    ///
    /// # Panics
    ///
    /// Unless `burst` is at least 1, and as many periods are at most twenty years.
    #[track_caller]
    #[must_use]
    pub fn burst(self, burst: u32) -> Self {
        let most = saturate(MAX_FILL.as_nanos() / self.quota.replenish_interval().as_nanos());
        let burst = non_zero(allow("RateLayer::burst", burst, 1..=most));
        let rules = Rules { burst: Some(burst), ..self.rules };
        Self { quota: self.quota.allow_burst(burst), rules, ..self }.afresh()
    }

    /// How many calls may wait, 1,024 by default. With 0 none does: a call that finds no token is refused
    /// at once.
    ///
    /// # Panics
    ///
    /// If `n` is above 4,294,967,294.
    #[track_caller]
    #[must_use]
    pub fn queue(self, n: usize) -> Self {
        let queue = allow("RateLayer::queue", n, 0..=MAX_QUEUE);
        Self { rules: Rules { queue, ..self.rules }, ..self }.afresh()
    }

    /// How long a call may wait for its token; not bounded by default.
    ///
    /// The wait is known when the call comes, so a call that would have to wait for longer is refused
    /// then. A call that was let in is not timed: it may wait longer if one ahead of it is not polled.
    ///
    /// # Panics
    ///
    /// If `wait` is longer than ten years.
    #[track_caller]
    #[must_use]
    pub fn max_wait(self, wait: Duration) -> Self {
        let max_wait = Some(allow("RateLayer::max_wait", wait, Duration::ZERO..=MAX_DURATION));
        Self { rules: Rules { max_wait, ..self.rules }, ..self }.afresh()
    }

    /// A name by which refusals tell this rate limit from others.
    #[must_use]
    pub fn name(self, name: &'static str) -> Self {
        Self { rules: Rules { name: Some(name), ..self.rules }, ..self }.afresh()
    }

    /// Gives each service that the layer makes a bucket and a queue of its own. Its clones share them.
    #[must_use]
    pub fn per_service(self) -> Self {
        Self { per_service: true, ..self }.afresh()
    }

    /// Lets a call take as many tokens as `cost` says, all at once: so many rows, bytes, or units of a
    /// provider's. Set again, the last one counts.
    ///
    /// Calls pass in the order in which they came, so a costly one lets its tokens gather while the cheap
    /// ones behind it wait, and a predicted wait is the sum of the costs ahead. A call that costs more than
    /// the [burst](Self::burst) is refused at once as [`TooCostly`](stockade_core::Reason::TooCostly). One
    /// that costs 0 takes nothing from anybody: it passes at once, also while others wait.
    ///
    /// `cost` is asked once a call. If it panics, `call` does, and no token is taken.
    ///
    /// ```
    /// use stockade_core::Error;
    /// use stockade_rate::RateLayer;
    /// use tower::{ServiceBuilder, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let layer = RateLayer::per_second(1_000).cost(|rows: &Vec<u8>| rows.len() as u32);
    /// let handle = layer.handle();
    /// let service = ServiceBuilder::new().layer(layer).service(service_fn(
    ///     |rows: Vec<u8>| async move { Ok::<_, Error<std::io::Error>>(rows) },
    /// ));
    /// service.oneshot(vec![7; 300]).await.unwrap();
    /// assert!(handle.available() <= 701);
    /// # }
    /// ```
    #[must_use]
    pub fn cost<F>(self, cost: F) -> RateLayer<Costly<F, P>> {
        let Self { quota, rules, per_service, policy } = self;
        RateLayer { quota, rules, per_service, policy: Costly::new(cost, policy) }
    }

    /// What there is to see and to turn of the bucket and the queue that all services of this layer share.
    /// For those of an [`per_service`](Self::per_service) layer, ask each service: [`Rate::handle`].
    pub fn handle(&self) -> P::Handle {
        self.policy.handle()
    }

    fn afresh(self) -> Self {
        Self { policy: self.policy.afresh(self.quota, self.rules), ..self }
    }
}

impl<S, P: Policy + Clone> Layer<S> for RateLayer<P> {
    type Service = Rate<S, P>;

    fn layer(&self, inner: S) -> Rate<S, P> {
        let policy = if self.per_service {
            self.policy.afresh(self.quota, self.rules)
        } else {
            self.policy.clone()
        };
        Rate::new(inner, policy)
    }
}

pub(crate) fn saturate(n: u128) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

pub(crate) fn non_zero(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN)
}
