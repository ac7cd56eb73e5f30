//! One way to judge a result, for retry and breaker alike.

use std::time::Duration;

use crate::LayerError;

/// What a result means for the layers that act on results.
///
/// `after` is a hint from the server: do not come back earlier than that.
///
/// | class | retry | breaker |
/// |---|---|---|
/// | `Success` | no | success |
/// | `Permanent` | no | success: the service answered, the request was wrong |
/// | `Transient` | if the request may be repeated | failure |
/// | `Overload` | if the request may be repeated | failure |
/// | `Unsent` | always | failure, unless a layer inside refused: then it is ignored |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The call did what it was to do.
    Success,
    /// The call failed, and would fail again.
    Permanent,
    /// The call failed, and may succeed at another time. It may have had an effect.
    Transient {
        /// The earliest time to try again, as the server told it.
        after: Option<Duration>,
    },
    /// The service has more to do than it can.
    Overload {
        /// The earliest time to try again, as the server told it.
        after: Option<Duration>,
    },
    /// The call never reached the service, so repeating it is always safe.
    Unsent {
        /// The earliest time to try again.
        after: Option<Duration>,
    },
}

impl Class {
    /// The hint that came with the result: do not try again earlier than that.
    pub const fn after(self) -> Option<Duration> {
        match self {
            Self::Success | Self::Permanent => None,
            Self::Transient { after } | Self::Overload { after } | Self::Unsent { after } => after,
        }
    }
}

/// Judges results. Closures `Fn(Result<&T, &E>) -> Class` do.
///
/// # Example
///
/// ```
/// use stockade_core::{Class, Classify};
///
/// let by_status = |result: Result<&u16, &std::io::Error>| match result {
///     Ok(429 | 503) => Class::Overload { after: None },
///     Ok(500..) | Err(_) => Class::Transient { after: None },
///     Ok(400..) => Class::Permanent,
///     Ok(_) => Class::Success,
/// };
/// assert_eq!(by_status.classify(Ok(&404)), Class::Permanent);
/// ```
pub trait Classify<T, E> {
    /// The class of `result`.
    fn classify(&self, result: Result<&T, &E>) -> Class;
}

impl<F, T, E> Classify<T, E> for F
where
    F: Fn(Result<&T, &E>) -> Class,
{
    fn classify(&self, result: Result<&T, &E>) -> Class {
        self(result)
    }
}

/// The default: `Ok` is a success; a refusal by a layer inside is [`Unsent`](Class::Unsent) with its
/// `retry_after`, or [`Transient`](Class::Transient) where the call may have run; any other error is
/// `Transient`.
#[derive(Clone, Copy, Debug, Default)]
pub struct DefaultClassify;

impl<T, E: LayerError> Classify<T, E> for DefaultClassify {
    fn classify(&self, result: Result<&T, &E>) -> Class {
        let Err(error) = result else { return Class::Success };
        match error.rejected() {
            Some(rejected) if !rejected.may_have_run() => {
                Class::Unsent { after: rejected.retry_after() }
            }
            _ => Class::Transient { after: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, Reason, Rejected};

    #[test]
    fn a_refusal_is_unsent_unless_the_call_may_have_run() {
        let class = |error: Error<()>| DefaultClassify.classify(Err::<&(), _>(&error));
        let after = Duration::from_millis(3);
        let open = Rejected::new(&"breaker", Reason::Open).with_retry_after(after);
        assert_eq!(class(open.into()), Class::Unsent { after: Some(after) });
        for reason in [Reason::Elapsed, Reason::Panicked, Reason::Cancelled] {
            let rejected = Rejected::new(&"test", reason);
            assert_eq!(class(rejected.into()), Class::Transient { after: None });
        }
        assert_eq!(class(Error::Service(())), Class::Transient { after: None });
        let ok: Result<&(), &Error<()>> = Ok(&());
        assert_eq!(DefaultClassify.classify(ok), Class::Success);
    }
}
