//! The refusal: one small `Copy` value for all layers.

use std::{fmt, time::Duration};

use crate::LayerError;

/// A refusal: a layer did not let a call through, or ended it.
///
/// It says which [layer](Self::layer) refused, the [name](Self::name) that the user gave it, and the
/// [reason](Self::reason); and if the layer knows, when to try again ([`retry_after`](Self::retry_after)). It is
/// `Copy`, has 32 bytes, and making one allocates nothing.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use stockade_core::{Reason, Rejected};
///
/// let rejected = Rejected::new(&"rate", Reason::RateLimited)
///     .with_name(Some("search"))
///     .with_retry_after(Duration::from_millis(20));
/// assert_eq!(rejected.layer(), "rate");
/// assert_eq!(rejected.to_string(), "rate `search`: rate limited, retry after 20ms");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rejected {
    // A pointer to the layer's name, because two whole `&str` would leave no room for the rest.
    layer: &'static &'static str,
    name: Option<&'static str>,
    // The reason in the low byte, above it the duration in nanoseconds (all ones: none).
    packed: u64,
}

const REASON_BITS: u32 = 8;
const NO_DURATION: u64 = u64::MAX >> REASON_BITS;

/// Why a layer refused a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Reason {
    /// There is no place, and none in the queue: it is full, or there is no queue, as with `.queue(0)`.
    QueueFull,
    /// The call waited as long as it was allowed to, or would have had to wait longer.
    WaitExceeded,
    /// The rate limit has no token left, and the call was not allowed to wait.
    RateLimited,
    /// The call costs more tokens than the rate limit can ever hold.
    TooCostly,
    /// The call took longer than its timeout.
    Elapsed,
    /// The circuit breaker is open.
    BreakerOpen,
    /// The circuit breaker is held open by hand.
    ForcedOpen,
    /// What the call needs is closed: the pool (also when its runtime has ended), a limit, or another layer that can be. The
    /// layer says which, as in "limit `db`: closed".
    ///
    /// The call has not been started. A pool says this of one that it never accepted, and of one whose request a drain has
    /// handed back; `Job::accepted` tells them apart.
    PoolClosed,
    /// The call panicked.
    Panicked,
    /// The call was cancelled while it ran.
    Cancelled,
    /// The deadline of the call has passed, or the call could not have met it.
    Expired,
    /// The call was shed because the system is overloaded, or it gave way to one that matters more.
    Shed,
    /// A store that the layer needs, such as a Redis, cannot be reached.
    Unavailable,
}

impl Reason {
    /// Every reason, in the order of their discriminants. Hidden, because it grows.
    #[doc(hidden)]
    pub const ALL: [Self; 13] = [
        Self::QueueFull,
        Self::WaitExceeded,
        Self::RateLimited,
        Self::TooCostly,
        Self::Elapsed,
        Self::BreakerOpen,
        Self::ForcedOpen,
        Self::PoolClosed,
        Self::Panicked,
        Self::Cancelled,
        Self::Expired,
        Self::Shed,
        Self::Unavailable,
    ];
}

crate::spellings! { Reason:
    QueueFull "queue full" "queue_full",
    WaitExceeded "wait exceeded" "wait_exceeded",
    RateLimited "rate limited" "rate_limited",
    TooCostly "too costly" "too_costly",
    Elapsed "timed out" "timed_out",
    BreakerOpen "circuit open" "circuit_open",
    ForcedOpen "circuit forced open" "circuit_forced_open",
    PoolClosed "closed" "closed",
    Panicked "panicked" "panicked",
    Cancelled "cancelled" "cancelled",
    Expired "deadline expired" "deadline_expired",
    Shed "shed" "shed",
    Unavailable "unavailable" "unavailable",
}

// === impl Rejected ===

impl Rejected {
    /// A refusal by `layer`. Its name is a reference to a literal: `&"limit"`.
    pub const fn new(layer: &'static &'static str, reason: Reason) -> Self {
        Self { layer, name: None, packed: pack(reason, NO_DURATION) }
    }

    /// The name that the user gave to this instance of the layer, if any.
    #[must_use]
    pub const fn with_name(mut self, name: Option<&'static str>) -> Self {
        self.name = name;
        self
    }

    /// With the time after which to try again, in nanoseconds. More than 833 days become 833 days.
    #[must_use]
    pub fn with_retry_after(self, after: Duration) -> Self {
        self.with_duration(after)
    }

    /// With the time limit that the call exceeded, for [`Reason::Elapsed`].
    #[must_use]
    pub fn with_limit(self, limit: Duration) -> Self {
        self.with_duration(limit)
    }

    fn with_duration(mut self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.packed = pack(self.reason(), nanos.min(NO_DURATION - 1));
        self
    }

    /// Why the call was refused.
    pub const fn reason(&self) -> Reason {
        Reason::ALL[(self.packed & 0xff) as usize]
    }

    /// The layer that refused: `"limit"`, `"rate"`, `"timeout"`, `"breaker"`, `"pool"`, or the name of another
    /// crate's layer.
    pub const fn layer(&self) -> &'static str {
        self.layer
    }

    /// The name of the instance, if the user gave it one.
    pub const fn name(&self) -> Option<&'static str> {
        self.name
    }

    /// The time after which to try again, if the layer knows it.
    pub fn retry_after(&self) -> Option<Duration> {
        if self.reason() == Reason::Elapsed { None } else { self.duration() }
    }

    /// The time limit that the call exceeded, if the reason is [`Reason::Elapsed`].
    pub fn limit(&self) -> Option<Duration> {
        if self.reason() == Reason::Elapsed { self.duration() } else { None }
    }

    fn duration(&self) -> Option<Duration> {
        let nanos = self.packed >> REASON_BITS;
        (nanos != NO_DURATION).then(|| Duration::from_nanos(nanos))
    }

    /// Whether the layer refused what it was asked to pass on. A timeout is no refusal: the call may have run if the reason
    /// is [`Elapsed`](Reason::Elapsed), [`Panicked`](Reason::Panicked) or [`Cancelled`](Reason::Cancelled).
    ///
    /// Inside a retry, what is refused is one attempt. An attempt before it may have reached the service and ended with an
    /// answer that counts as a failure, such as a status 500.
    pub const fn is_refusal(&self) -> bool {
        !matches!(self.reason(), Reason::Elapsed | Reason::Panicked | Reason::Cancelled)
    }

    /// Whether the same call could pass later. It cannot after [`TooCostly`](Reason::TooCostly), [`PoolClosed`](Reason::PoolClosed),
    /// [`ForcedOpen`](Reason::ForcedOpen) and [`Expired`](Reason::Expired).
    pub const fn may_pass_later(&self) -> bool {
        use Reason::{Expired, ForcedOpen, PoolClosed, TooCostly};
        !matches!(self.reason(), TooCostly | PoolClosed | ForcedOpen | Expired)
    }

    pub(crate) const fn packed(&self) -> u64 {
        self.packed
    }

    pub(crate) const fn with_packed(mut self, packed: u64) -> Self {
        self.packed = packed;
        self
    }

    /// The refusal as an error of a stack. With the feature `tracing` this emits the event of the refusal, so layers
    /// make all their errors here.
    pub fn into_error<E: LayerError>(self) -> E {
        self.tell();
        E::from_rejected(self)
    }

    /// Emits the event of a refusal that does not become an error, because the caller gets the request back. Does
    /// nothing without the feature `tracing`.
    ///
    /// The message says what happened: `refused`, or `timed out`, `panicked` or `cancelled` for a call that was let
    /// through.
    pub fn tell(&self) {
        #[cfg(feature = "tracing")]
        tracing::debug!(
            target: "stockade",
            layer = self.layer(),
            name = self.name,
            reason = self.reason().label(),
            retry_after = self.retry_after().map(tracing::field::debug),
            limit = self.limit().map(tracing::field::debug),
            "{}",
            if self.is_refusal() { "refused" } else { self.reason().as_str() }
        );
    }
}

const fn pack(reason: Reason, nanos: u64) -> u64 {
    nanos << REASON_BITS | reason as u64
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.layer())?;
        if let Some(name) = self.name {
            write!(f, " `{name}`")?;
        }
        write!(f, ": {}", self.reason())?;
        if let Some(after) = self.retry_after() {
            write!(f, ", retry after {:?}", rounded(after))?;
        }
        if let Some(limit) = self.limit() {
            write!(f, " after {limit:?}")?;
        }
        Ok(())
    }
}

/// To three significant figures, and never less.
fn rounded(duration: Duration) -> Duration {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let unit = 10_u64.pow(nanos.checked_ilog10().unwrap_or(0).saturating_sub(2));
    Duration::from_nanos(nanos.div_ceil(unit).saturating_mul(unit))
}

impl fmt::Debug for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected")
            .field("layer", &self.layer())
            .field("name", &self.name)
            .field("reason", &self.reason())
            .field("retry_after", &self.retry_after())
            .field("limit", &self.limit())
            .finish()
    }
}

impl std::error::Error for Rejected {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_copy_and_at_most_32_bytes() {
        fn copy<T: Copy + Send + Sync + 'static>() {}
        copy::<Rejected>();
        assert!(size_of::<Rejected>() <= 32);
        assert!(size_of::<Result<(), Rejected>>() <= 32, "the name leaves a niche");
    }

    #[test]
    fn keeps_every_reason_and_the_duration() {
        for reason in Reason::ALL {
            let plain = Rejected::new(&"test", reason);
            assert_eq!(plain.reason(), reason);
            assert_eq!(reason.label().replace('_', " "), reason.as_str());
            assert_eq!(plain.retry_after(), None);
            assert_eq!(plain.limit(), None);
            let after = plain.with_retry_after(Duration::from_nanos(7));
            assert_eq!(after.reason(), reason);
            let said = after.retry_after().or(after.limit());
            assert_eq!(said, Some(Duration::from_nanos(7)));
        }
    }

    #[test]
    fn a_duration_that_does_not_fit_saturates() {
        let rejected = Rejected::new(&"test", Reason::BreakerOpen).with_retry_after(Duration::MAX);
        let after = rejected.retry_after().unwrap();
        assert!(after > Duration::from_secs(800 * 86_400), "{after:?}");
        assert_eq!(rejected.reason(), Reason::BreakerOpen);
    }

    #[test]
    fn says_who_refused_and_why() {
        let elapsed = Rejected::new(&"timeout", Reason::Elapsed).with_limit(Duration::from_secs(1));
        assert_eq!(elapsed.to_string(), "timeout: timed out after 1s");
        assert_eq!(elapsed.limit(), Some(Duration::from_secs(1)));
        assert_eq!(elapsed.retry_after(), None);
        let full = Rejected::new(&"limit", Reason::QueueFull).with_name(Some("db"));
        assert_eq!(full.to_string(), "limit `db`: queue full");
        let closed = |layer| Rejected::new(layer, Reason::PoolClosed).with_name(Some("db"));
        assert_eq!(closed(&"limit").to_string(), "limit `db`: closed");
        assert_eq!(closed(&"pool").to_string(), "pool `db`: closed");
    }

    #[test]
    fn says_when_to_come_back_in_three_figures_and_never_too_early() {
        let open = Rejected::new(&"breaker", Reason::BreakerOpen);
        for (nanos, said) in [
            (0, "0ns"),
            (999, "999ns"),
            (4_447_123_456, "4.45s"),
            (4_440_000_001, "4.45s"),
            (20_000_000, "20ms"),
            (999_500_000, "1s"),
            (61_040_000_000, "61.1s"),
        ] {
            let rejected = open.with_retry_after(Duration::from_nanos(nanos));
            assert_eq!(rejected.to_string(), format!("breaker: circuit open, retry after {said}"));
            assert_eq!(rejected.retry_after(), Some(Duration::from_nanos(nanos)), "as it was told");
        }
        let longest = open.with_retry_after(Duration::MAX).to_string();
        assert!(longest.starts_with("breaker: circuit open, retry after 721"), "{longest}");
    }
}
