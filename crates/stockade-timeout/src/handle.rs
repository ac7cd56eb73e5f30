use std::{fmt, sync::Arc, time::Duration};

use stockade_core::{ConfigError, Reason, config::check};

use crate::{config::LIMITS, shared::Lease};

/// Shows a timeout, and changes it while it runs.
///
/// What it sets holds for calls that begin after that.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use stockade_timeout::TimeoutLayer;
///
/// let (layer, handle) = TimeoutLayer::new(Duration::from_secs(2)).name("search").with_handle();
/// handle.set(Duration::from_secs(5)).unwrap();
/// assert_eq!(handle.limit(), Duration::from_secs(5));
/// assert!(handle.set(Duration::ZERO).is_err());
/// # drop(layer);
/// ```
#[derive(Clone)]
pub struct TimeoutHandle(pub(crate) Arc<Lease>);

stockade_core::switch!(TimeoutHandle);

// === impl TimeoutHandle ===

impl TimeoutHandle {
    /// A call may take `limit` from now on.
    ///
    /// # Errors
    ///
    /// If `limit` is not from a nanosecond to ten years. Then nothing changes.
    pub fn set(&self, limit: Duration) -> Result<(), ConfigError> {
        self.0.set_limit(check("TimeoutHandle::set", limit, LIMITS)?);
        Ok(())
    }

    /// How long a call may take.
    pub fn limit(&self) -> Duration {
        self.0.limit()
    }

    /// How many calls it has ended for `reason`, which is [`Elapsed`](Reason::Elapsed): there is no other.
    pub fn refused(&self, reason: Reason) -> u64 {
        if reason == Reason::Elapsed { self.0.elapsed() } else { 0 }
    }

    /// The name in refusals and events.
    pub fn name(&self) -> Option<&'static str> {
        self.0.name
    }
}

impl fmt::Debug for TimeoutHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutHandle")
            .field("name", &self.name())
            .field("limit", &self.limit())
            .field("elapsed", &self.refused(Reason::Elapsed))
            .finish()
    }
}
