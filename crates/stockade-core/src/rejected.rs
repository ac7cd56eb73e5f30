//! The refusal: one small `Copy` value for all layers.

use std::{fmt, time::Duration};

use crate::LayerError;

/// A refusal: a layer did not let a call through, or ended it.
///
/// It is `Copy`, 32 bytes, and making one allocates nothing. It says which [layer](Self::layer)
/// refused, under which [name](Self::name), for what [reason](Self::reason), and where the layer
/// can tell, after what time another try makes sense ([`retry_after`](Self::retry_after)).
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
    // A pointer to the name of the layer, because two whole `&str` would not leave room for the rest.
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
    /// The queue in front of the layer is full.
    QueueFull,
    /// The call waited for as long as it was allowed to, or would have had to wait for longer.
    WaitExceeded,
    /// The rate limit has no token left, and the call was not to wait.
    RateLimited,
    /// The call costs more than the rate limit can ever hold at once.
    TooCostly,
    /// The call took longer than its timeout.
    Elapsed,
    /// The circuit breaker is open.
    BreakerOpen,
    /// The circuit breaker is held open by hand.
    ForcedOpen,
    /// The pool is closed, or its runtime has ended.
    PoolClosed,
    /// The call panicked.
    Panicked,
    /// The call was cancelled while it ran.
    Cancelled,
    /// The deadline of the call has passed, or could not have been kept.
    Expired,
    /// The call was shed because the system is overloaded.
    Shed,
    /// A store that the layer needs, such as a Redis, cannot be reached.
    Unavailable,
}

impl Reason {
    /// Every reason, in the order of their discriminants.
    pub(crate) const ALL: [Self; 13] = [
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

    /// A few words that say what happened, lower case, for messages and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue full",
            Self::WaitExceeded => "wait exceeded",
            Self::RateLimited => "rate limited",
            Self::TooCostly => "too costly",
            Self::Elapsed => "timed out",
            Self::BreakerOpen => "circuit open",
            Self::ForcedOpen => "circuit forced open",
            Self::PoolClosed => "pool closed",
            Self::Panicked => "panicked",
            Self::Cancelled => "cancelled",
            Self::Expired => "deadline expired",
            Self::Shed => "shed",
            Self::Unavailable => "unavailable",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Rejected ===

impl Rejected {
    /// A refusal by `layer`, whose name is given as a reference to a literal: `&"limit"`.
    pub const fn new(layer: &'static &'static str, reason: Reason) -> Self {
        Self { layer, name: None, packed: pack(reason, NO_DURATION) }
    }

    /// The name that the user gave to this instance of the layer, if any.
    #[must_use]
    pub const fn with_name(mut self, name: Option<&'static str>) -> Self {
        self.name = name;
        self
    }

    /// The time after which another try makes sense. Kept in nanoseconds up to 833 days, the longest
    /// it can say.
    #[must_use]
    pub fn with_retry_after(self, after: Duration) -> Self {
        self.with_duration(after)
    }

    /// For [`Reason::Elapsed`]: the limit that was exceeded.
    #[must_use]
    pub fn with_limit(self, limit: Duration) -> Self {
        self.with_duration(limit)
    }

    /// The same, put together anew. What is moved as a whole stays in memory, on the paths that do not have it
    /// too; what is put together from words need not.
    #[doc(hidden)]
    #[inline(always)]
    #[must_use]
    pub fn in_words(&self) -> Self {
        let mut anew = Self { layer: self.layer, name: None, packed: self.packed };
        if let Some(name) = self.name {
            anew.name = Some(name);
        }
        anew
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

    /// The layer that refused: `"limit"`, `"rate"`, `"timeout"`, `"breaker"`, `"retry"` or `"pool"`,
    /// or what a layer from elsewhere calls itself.
    pub const fn layer(&self) -> &'static str {
        self.layer
    }

    /// The name of the instance, if the user gave it one.
    pub const fn name(&self) -> Option<&'static str> {
        self.name
    }

    /// After what time another try makes sense, where the layer can tell.
    pub fn retry_after(&self) -> Option<Duration> {
        if self.reason() == Reason::Elapsed { None } else { self.duration() }
    }

    /// The limit that was exceeded, if the reason is [`Reason::Elapsed`].
    pub fn limit(&self) -> Option<Duration> {
        if self.reason() == Reason::Elapsed { self.duration() } else { None }
    }

    fn duration(&self) -> Option<Duration> {
        let nanos = self.packed >> REASON_BITS;
        (nanos != NO_DURATION).then(|| Duration::from_nanos(nanos))
    }

    /// Whether a layer refused the call before it reached the service. Otherwise it may have run: the reason
    /// is [`Elapsed`](Reason::Elapsed), [`Panicked`](Reason::Panicked) or [`Cancelled`](Reason::Cancelled).
    pub const fn is_refusal(&self) -> bool {
        !matches!(self.reason(), Reason::Elapsed | Reason::Panicked | Reason::Cancelled)
    }

    /// Whether the same call could be let through later. It could not after
    /// [`TooCostly`](Reason::TooCostly), [`PoolClosed`](Reason::PoolClosed),
    /// [`ForcedOpen`](Reason::ForcedOpen) and [`Expired`](Reason::Expired).
    pub const fn may_pass_later(&self) -> bool {
        use Reason::{Expired, ForcedOpen, PoolClosed, TooCostly};
        !matches!(self.reason(), TooCostly | PoolClosed | ForcedOpen | Expired)
    }

    /// The same refusal for another reason, without a duration.
    #[must_use]
    pub const fn with_reason(mut self, reason: Reason) -> Self {
        self.packed = pack(reason, NO_DURATION);
        self
    }

    /// The refusal as the error type of a stack. With the feature `tracing` this is where the event
    /// of a refusal is emitted, so layers make their errors here and nowhere else.
    pub fn into_error<E: LayerError>(self) -> E {
        self.tell();
        E::from_rejected(self)
    }

    /// Emits the event of a refusal that becomes no error, because the caller gets the request back. Without the
    /// feature `tracing` it does nothing.
    ///
    /// The message says what happened: `refused`, or `timed out`, `panicked` or `cancelled` for a call that was let
    /// through.
    pub fn tell(&self) {
        #[cfg(feature = "tracing")]
        tracing::debug!(
            target: "stockade",
            layer = self.layer(),
            name = self.name,
            reason = self.reason().as_str(),
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
            write!(f, ", retry after {after:?}")?;
        }
        if let Some(limit) = self.limit() {
            write!(f, " after {limit:?}")?;
        }
        Ok(())
    }
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
    }
}
