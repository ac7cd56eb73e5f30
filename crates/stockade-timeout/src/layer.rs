use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use stockade_core::{
    Reason, Rejected,
    config::{MAX_DURATION, MIN_DURATION, allow},
    deadline::Nanos,
};
use tower_layer::Layer;

use crate::{Fixed, Timeout};

/// Ends a call that takes longer than its limit.
///
/// The limit counts from the first poll of the response future, or from when a layer inside asked for the
/// deadline. Of the limit of the layer, that of the [request](Self::per_request) and the deadline that is set
/// outside, the earliest holds.
///
/// Nothing is shared between its services but the coarse timer, which all timeouts of a runtime share.
///
/// # Example
///
/// ```
/// use std::{fmt, sync::{Mutex, PoisonError}, time::Duration};
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
pub struct TimeoutLayer<P = Fixed> {
    settings: Settings,
    per_request: P,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) limit: Nanos,
    /// Where it is kept, and not the name itself: every call carries it about.
    name: Option<&'static &'static str>,
}

/// All names that timeouts were given, each once. They are never freed, nor are the names.
static NAMES: Mutex<Vec<&'static &'static str>> = Mutex::new(Vec::new());

// === impl TimeoutLayer ===

impl TimeoutLayer {
    /// A call may take `limit`; after that it is dropped, and its answer is
    /// [`Reason::Elapsed`], which carries the limit.
    ///
    /// # Panics
    ///
    /// If `limit` is not from a nanosecond to ten years.
    #[track_caller]
    pub fn new(limit: Duration) -> Self {
        let limit = allow("TimeoutLayer::new", limit, MIN_DURATION..=MAX_DURATION);
        let settings = Settings { limit: Nanos::new(limit), name: None };
        Self { settings, per_request: Fixed }
    }
}

impl<P> TimeoutLayer<P> {
    /// Gives single requests a limit of their own; `None` leaves them the one of the layer.
    ///
    /// The shorter one holds: a request cannot take itself more time than the layer gives, so any duration is
    /// taken as it comes. With zero a call has to be answered when it is first polled, and the layers inside
    /// refuse it where it would have to wait.
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
    #[must_use]
    pub fn per_request<Req, F>(self, limit: F) -> TimeoutLayer<F>
    where
        F: Fn(&Req) -> Option<Duration>,
    {
        TimeoutLayer { settings: self.settings, per_request: limit }
    }

    /// A name for refusals and events.
    #[must_use]
    pub fn name(mut self, name: &'static str) -> Self {
        self.settings.name = Some(kept(name));
        self
    }
}

impl<S, P: Clone> Layer<S> for TimeoutLayer<P> {
    type Service = Timeout<S, P>;

    fn layer(&self, inner: S) -> Timeout<S, P> {
        Timeout::new(inner, self.settings, self.per_request.clone())
    }
}

/// Without the closure, which cannot be shown.
impl<P> fmt::Debug for TimeoutLayer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutLayer")
            .field("limit", &self.settings.limit.get())
            .field("name", &self.settings.name())
            .finish_non_exhaustive()
    }
}

// === impl Settings ===

impl Settings {
    pub(crate) fn name(&self) -> Option<&'static str> {
        self.name.copied()
    }

    pub(crate) fn elapsed(&self) -> Rejected {
        Rejected::new(&"timeout", Reason::Elapsed)
            .with_name(self.name())
            .with_limit(self.limit.get())
    }
}

/// The place of `name` among all names.
fn kept(name: &'static str) -> &'static &'static str {
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.iter().find(|known| **known == &name) {
        return known;
    }
    let new: &'static &'static str = Box::leak(Box::new(name));
    names.push(new);
    new
}
