use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use stockade_core::{
    Fresh, Name, NoBypass,
    config::{allow, checked},
};
use tower_layer::Layer;

use crate::{
    Config, Fixed, Timeout, TimeoutHandle, config::LIMITS, readiness::Readiness, shared::Lease,
};

/// Ends a call that takes longer than its limit.
///
/// The limit counts from the first poll of the response future, or from when a layer inside asked for the deadline.
/// Of the limit of the layer, that of the [request](Self::per_request) and the deadline that is set outside, the
/// earliest holds.
///
/// All clones of a layer, all services it makes and their clones share one limit, which a
/// [handle](Self::with_handle) can change, unless it is [`per_service`](Self::per_service). Setters may come in any
/// order.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use stockade_core::Error;
/// use stockade_timeout::TimeoutLayer;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// let svc = ServiceBuilder::new()
///     .layer(TimeoutLayer::new(Duration::from_secs(2)).name("search"))
///     .map_err(Error::Service)
///     .service_fn(async |n: u32| Ok::<_, std::io::Error>(n + 1));
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// assert_eq!(svc.oneshot(1).await.unwrap(), 2);
/// # });
/// ```
#[derive(Clone)]
#[must_use = "a setter returns the layer that it has changed"]
pub struct TimeoutLayer<P = Fixed, B = NoBypass> {
    config: Config,
    per_request: P,
    bypass: B,
    lease: Arc<OnceLock<Arc<Lease>>>,
}

// === impl TimeoutLayer ===

impl TimeoutLayer {
    /// A call may take `limit`. After that it is dropped, and the caller gets
    /// [`Reason::Elapsed`](stockade_core::Reason::Elapsed), which carries the limit.
    ///
    /// # Panics
    ///
    /// If `limit` is not from a nanosecond to ten years. [`Config::try_build`] returns an error instead.
    #[track_caller]
    pub fn new(limit: Duration) -> Self {
        Self::from_config(Config::new(allow("TimeoutLayer::new", limit, LIMITS)))
    }

    pub(crate) fn from_config(config: Config) -> Self {
        Self { config, per_request: Fixed, bypass: NoBypass, lease: Arc::default() }
    }
}

impl<P, B> TimeoutLayer<P, B> {
    /// Gives single requests a limit of their own; `None` leaves them that of the layer.
    ///
    /// The shorter one holds: a request cannot take more time than the layer gives, so any duration is allowed. With
    /// zero a call has to be answered when it is first polled, and layers inside refuse it where it would wait.
    ///
    /// `limit` is asked once a call, in `call`. If it panics, that call panics, before anything is sent.
    ///
    /// ```
    /// use std::time::Duration;
    /// use stockade_core::Error;
    /// use stockade_timeout::TimeoutLayer;
    /// use tower::{ServiceBuilder, ServiceExt};
    ///
    /// struct Query { patience: Option<Duration> }
    ///
    /// let svc = ServiceBuilder::new()
    ///     .layer(TimeoutLayer::new(Duration::from_secs(30)).per_request(|q: &Query| q.patience))
    ///     .map_err(Error::Service)
    ///     .service_fn(async |_: Query| Ok::<_, std::io::Error>("found"));
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// svc.oneshot(Query { patience: Some(Duration::from_secs(2)) }).await.unwrap();
    /// # });
    /// ```
    pub fn per_request<Req, F>(self, limit: F) -> TimeoutLayer<F, B>
    where
        F: Fn(&Req) -> Option<Duration>,
    {
        self.with_limit(limit)
    }

    /// The same for what is no closure.
    #[doc(hidden)]
    pub fn with_limit<F>(self, per_request: F) -> TimeoutLayer<F, B> {
        let Self { config, bypass, .. } = self;
        TimeoutLayer { config, per_request, bypass, lease: Arc::default() }
    }

    /// Sets no limit and no deadline for the calls for which `passes_by` says so. For long polls, streams and the
    /// like.
    pub fn bypass<Req, F>(self, passes_by: F) -> TimeoutLayer<P, F>
    where
        F: Fn(&Req) -> bool,
    {
        let Self { config, per_request, .. } = self;
        TimeoutLayer { config, per_request, bypass: passes_by, lease: Arc::default() }
    }

    #[track_caller]
    fn changed(self) -> Self {
        checked(self.config.check("TimeoutLayer"));
        Self { lease: Arc::default(), ..self }
    }

    fn handle(&self) -> TimeoutHandle {
        TimeoutHandle(Arc::clone(self.lease.get_or_init(|| Arc::new(Lease::new(&self.config)))))
    }
}

stockade_core::setters! { TimeoutLayer<P, B>:
    /// Counts the time for which `poll_ready` is pending too, for a service that gets ready by connecting, or by
    /// waiting for others.
    ///
    /// If the service inside is not ready within the limit, `poll_ready` returns
    /// [`Reason::Elapsed`](stockade_core::Reason::Elapsed). What readiness took is subtracted from the limit of the
    /// next call. The time between being ready and being called does not count, nor does a wait that the caller gave up if the
    /// limit is over by the time it comes again and finds the service ready.
    readiness() => readiness = true;

    /// A name for refusals and events.
    ///
    /// # Panics
    ///
    /// If it is an owned name that is [too long, or one too many](stockade_core::name).
    name(name: impl Into<Name>) => name = Some(name.into());
}

stockade_core::endings!(TimeoutLayer<P, B> => TimeoutHandle);
stockade_core::shown!(TimeoutLayer<P, B>: config);

impl<P: Clone, B: Clone> Fresh for TimeoutLayer<P, B> {
    fn fresh(&self) -> Self {
        self.clone().changed()
    }
}

impl<S, P: Clone, B: Clone> Layer<S> for TimeoutLayer<P, B> {
    type Service = Timeout<S, P, B>;

    fn layer(&self, inner: S) -> Self::Service {
        Timeout {
            inner,
            lease: self.handle().0,
            per_request: self.per_request.clone(),
            bypass: self.bypass.clone(),
            readiness: Readiness::counted(self.config.readiness),
        }
    }
}
