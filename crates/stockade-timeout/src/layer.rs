use std::time::Duration;

use stockade_core::{
    Reason, Rejected,
    config::{MAX_DURATION, MIN_DURATION, allow},
};
use tower_layer::Layer;

use crate::Timeout;

/// Ends a call that takes longer than its limit.
///
/// The limit counts from the first poll of the response future, or from when a layer inside asked for the
/// deadline. Inside another timeout the earlier deadline is the one that holds.
///
/// Nothing is shared between its services but the coarse timer, which all timeouts of a runtime share.
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
#[derive(Clone, Debug)]
pub struct TimeoutLayer {
    settings: Settings,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) limit: Duration,
    name: Option<&'static str>,
}

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
        Self { settings: Settings { limit, name: None } }
    }

    /// A name for refusals and events.
    #[must_use]
    pub fn name(mut self, name: &'static str) -> Self {
        self.settings.name = Some(name);
        self
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = Timeout<S>;

    fn layer(&self, inner: S) -> Timeout<S> {
        Timeout::new(inner, self.settings)
    }
}

// === impl Settings ===

impl Settings {
    pub(crate) fn elapsed(&self) -> Rejected {
        Rejected::new(&"timeout", Reason::Elapsed).with_name(self.name).with_limit(self.limit)
    }
}
