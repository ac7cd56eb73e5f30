//! The layer and its setters.

use std::{hash::Hash, time::Duration};

use stockade_core::{
    BackpressureLayer, Fresh, Name,
    config::{allow, checked},
};
use tower_layer::Layer;

use crate::{
    Bypass, Config, Costly, Keyed, Policy, Rate, Single, config::MAX_QUEUE, shared::Shared,
};

/// Bounds the rate of calls with a token bucket.
///
/// It does not bound how many calls run at the same time, nor for how long: those are other layers.
///
/// The bucket is full at first: [`burst`](Self::burst) calls pass at once, then one per period, which is `per / n`,
/// rounded up to whole nanoseconds. Over any time `w` at most `burst + n * w / per` calls pass, and one more if tokens
/// are taken late. A call that finds no token waits in a [queue](Self::queue), or is refused; see [`Rate`] for
/// `poll_ready`, `call` and the errors.
///
/// Every clone of the layer, every service it makes and every clone of those share one bucket and one queue. A setter
/// makes a layer with a bucket of its own, so clone the layer after the last one. [`with_handle`](Self::with_handle)
/// and [`per_service`](Self::per_service) end the setters.
///
/// Time is tokio's, so a test with a paused clock sees the rate limit follow it. Calls that wait are woken by the
/// runtime's timer, to the millisecond. A token that was waited for is taken as of the instant at which it was due, up
/// to one period ago, and the bucket keeps what came since: so the rate is reached as long as no call is woken later
/// than `burst` periods. Calls that wait reach a rate `r` above 1,000 a second only if the burst is at least `r * 1 ms`,
/// rounded up, plus one. Where the machine is busy and wakes later, a larger burst makes up for it.
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
#[must_use = "a setter returns the layer that it has changed"]
pub struct RateLayer<P = Single> {
    config: Config,
    policy: P,
}

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
        Self::of(Config::new(n, Duration::from_secs(1)))
    }

    /// Up to `n` calls in the time `per`.
    ///
    /// # Panics
    ///
    /// Unless `per` is from 1 ns to ten years, and `n` from 1 to the number of nanoseconds in `per`.
    #[track_caller]
    pub fn new(n: u32, per: Duration) -> Self {
        let config = Config::new(n, per);
        checked(config.check_rate("RateLayer::new, n", "RateLayer::new, per"));
        Self::of(config)
    }

    pub(crate) fn of(config: Config) -> Self {
        Self { policy: Single::new(&config), config }
    }

    /// Gives each key a bucket and a queue of its own: a user, a tenant, an address. `key` is called once per call.
    ///
    /// Write it before [`cost`](Self::cost) and [`bypass`](Self::bypass); after them there is no `keyed`.
    ///
    /// There are at most `max_keys` buckets. When half of the places are taken, new keys evict idle ones, whose bucket
    /// is full again, which changes nothing for those. Where no place is free, a new key shares one further bucket, of
    /// the same rate, with all others that found none. So memory is bounded whatever keys come, and a client that
    /// invents keys gets one bucket's rate for all of them beyond `max_keys`. A key takes 16 bytes, its own size twice,
    /// and a place in a hash table; a queue is added only while calls of the key wait.
    ///
    /// Calls of one key wait in their order, and do not delay those of another. The [queue](Self::queue) bounds each
    /// key's alone. A key is never part of a name. A call takes a short lock, which all keys share, and hashes its key;
    /// one with a new key allocates. `key`, and the hash and the comparison of what it returns, should be quick; if one
    /// panics, `call` does.
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
    pub fn keyed<K, F>(self, key: F, max_keys: usize) -> RateLayer<Keyed<K, F>>
    where
        K: Hash + Eq + Clone,
    {
        let max_keys = allow("RateLayer::keyed, max_keys", max_keys, 1..=MAX_QUEUE);
        RateLayer { policy: Keyed::new(key, self.config.clone(), max_keys), config: self.config }
    }

    /// Waits in `poll_ready`, and not in the response future: for callers that decide by readiness, such as a
    /// `Balance`, a load shed, a loop that fetches work or the workers of a pool. See
    /// [`Backpressure`](stockade_core::Backpressure). The service inside need not be `Clone`.
    ///
    /// An instance takes its token when it becomes ready, not when it is called: for each instance that is kept ready,
    /// one call more may pass than the rate allows.
    ///
    /// It is the last setter, and not available with [`cost`](Self::cost), [`bypass`](Self::bypass) or
    /// [`keyed`](Self::keyed), because in `poll_ready` there is no request to look at. It shares the bucket and the
    /// queue with the layer it is made from. For a handle, take [`with_handle`](Self::with_handle) first.
    ///
    /// ```
    /// use stockade_core::Error;
    /// use stockade_rate::RateLayer;
    /// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let start = tokio::time::Instant::now();
    /// let mut service = ServiceBuilder::new()
    ///     .layer(RateLayer::per_second(10).burst(1).backpressure())
    ///     .service(service_fn(|n: u32| async move { Ok::<_, Error<()>>(n) }));
    /// for n in 0..3 {
    ///     service.ready().await.unwrap().call(n).await.unwrap();
    /// }
    /// assert_eq!(start.elapsed().as_millis(), 200);
    /// # }
    /// ```
    ///
    /// ```compile_fail
    /// # use stockade_rate::RateLayer;
    /// # use tower::{Layer, Service, service_fn};
    /// # let inner = service_fn(|n: u32| async move { Ok::<_, stockade_core::Error<()>>(n) });
    /// RateLayer::per_second(10).cost(|rows: &u32| *rows).backpressure().layer(inner);
    /// ```
    #[must_use]
    pub fn backpressure(self) -> BackpressureLayer<Self> {
        BackpressureLayer::new(self)
    }
}

impl<P: Policy<Limiter = Shared>> RateLayer<P> {
    /// Lets a call take as many tokens as `cost` says, all at once: so many rows, bytes, or units of a provider. If it
    /// is set again, the last one counts. For a cost that is known only afterwards, see
    /// [`RateHandle::settle`](crate::RateHandle::settle).
    ///
    /// Calls pass in the order in which they came, so a costly one lets its tokens gather while the cheap ones behind
    /// it wait, and a predicted wait is the sum of the costs ahead. A call that costs more than the
    /// [burst](Self::burst) is refused at once as [`TooCostly`](stockade_core::Reason::TooCostly). One that costs 0
    /// takes no tokens and passes at once, even while others wait.
    ///
    /// `cost` is called once per call. If it panics, `call` does, and no token is taken.
    ///
    /// ```
    /// use stockade_core::Error;
    /// use stockade_rate::RateLayer;
    /// use tower::{ServiceBuilder, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let layer = RateLayer::per_second(1_000).cost(|rows: &Vec<u8>| rows.len() as u32);
    /// let (layer, handle) = layer.with_handle();
    /// let service = ServiceBuilder::new().layer(layer).service(service_fn(
    ///     |rows: Vec<u8>| async move { Ok::<_, Error<std::io::Error>>(rows) },
    /// ));
    /// service.oneshot(vec![7; 300]).await.unwrap();
    /// assert!(handle.available() <= 701);
    /// # }
    /// ```
    pub fn cost<F>(self, cost: F) -> RateLayer<Costly<F, P>> {
        RateLayer { config: self.config, policy: Costly::new(cost, self.policy) }
    }

    /// Lets requests pass by for which `passes_by` is true, such as health checks: they take no token, and do not
    /// wait. If it panics, `call` does.
    pub fn bypass<Req, F>(self, passes_by: F) -> RateLayer<Costly<Bypass<F>, P>>
    where
        F: Fn(&Req) -> bool,
    {
        RateLayer { config: self.config, policy: Costly::new(Bypass::new(passes_by), self.policy) }
    }

    #[track_caller]
    fn changed(self) -> Self {
        checked(self.config.check("RateLayer"));
        self.fresh()
    }
}

impl<P: Policy> RateLayer<P> {
    fn handle(&self) -> P::Handle {
        self.policy.handle()
    }
}

stockade_core::setters! { RateLayer<P: Policy<Limiter = Shared>>:
    /// How many calls pass at once after a pause: the tokens that the bucket holds, `n` by default. A burst that is
    /// set here stays when the [rate changes](crate::RateHandle::set_rate).
    ///
    /// # Panics
    ///
    /// Unless `burst` is at least 1, and as many periods take at most twenty years.
    burst(burst: u32) => burst = Some(burst);

    /// Keeps the last `n` tokens of the [burst](Self::burst) for calls whose [priority](stockade_core::priority) is Critical
    /// (default 0). One token is always there for all, whatever `n` is.
    ///
    /// Other calls pass while there are more than `n` tokens, and wait or are refused below that. A critical call takes
    /// from the reserve what it does not find elsewhere, even while others wait, and waits before them. What it took
    /// comes back before the others go on. So the rate and the burst of all together stay what they are. During a
    /// [penalty](crate::RateHandle::penalize) there is no reserve.
    ///
    /// ```
    /// use stockade_core::{Error, priority::{self, Priority}};
    /// use stockade_rate::RateLayer;
    /// use tower::{ServiceBuilder, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let service = ServiceBuilder::new()
    ///     .layer(RateLayer::per_second(3).queue(0).reserve(1))
    ///     .service(service_fn(|n: u32| async move { Ok::<_, Error<()>>(n) }));
    /// assert!(service.clone().oneshot(1).await.is_ok());
    /// assert!(service.clone().oneshot(2).await.is_ok());
    /// assert!(service.clone().oneshot(3).await.is_err());
    /// let critical = priority::scope(Priority::Critical, service.oneshot(4));
    /// assert!(critical.await.is_ok());
    /// # }
    /// ```
    reserve(n: u32) => reserve = n;

    /// How many calls may wait, 1,024 by default. With 0 none does: a call that finds no token is refused at once.
    ///
    /// # Panics
    ///
    /// If `n` is above 4,294,967,294.
    queue(n: usize) => queue = n;

    /// How long a call may wait for its tokens, not bounded by default. With zero it does not wait.
    ///
    /// The wait is known when the call comes, so a call that would have to wait for longer is refused then. The wait
    /// of a call that was let into the queue is not limited: it grows if the rate is lowered or a penalty imposed.
    ///
    /// # Panics
    ///
    /// If `wait` is longer than ten years.
    max_wait(wait: Duration) => max_wait = Some(wait);

    /// A name by which refusals tell this rate limit from others.
    ///
    /// # Panics
    ///
    /// If it is an owned name that is too long, or there are too many; see [`Name`].
    name(name: impl Into<Name>) => name = Some(name.into());
}

stockade_core::endings!(RateLayer<P: Policy> => P::Handle);

impl<P: Policy<Limiter = Shared>> Fresh for RateLayer<P> {
    fn fresh(&self) -> Self {
        Self { config: self.config.clone(), policy: self.policy.fresh(&self.config) }
    }
}

impl<S, P: Policy> Layer<S> for RateLayer<P> {
    type Service = Rate<S, P>;

    fn layer(&self, inner: S) -> Rate<S, P> {
        Rate::new(inner, self.policy.clone())
    }
}
