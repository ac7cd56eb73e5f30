//! One way to judge a result, for retry and breaker alike.

use std::time::Duration;

use crate::{LayerError, Reason, Rejected};

/// What a *result* means for the layers that act on results.
///
/// A layer's own refusal is no result of the service: retry and breaker recognise it by
/// [`LayerError::rejected`] before they ask a classifier (see [`Judged`]).
///
/// `after` is a hint from the server: the call must not be repeated earlier than that.
///
/// | class | retry | breaker |
/// |---|---|---|
/// | `Success` | no | success |
/// | `Permanent` | no | success: the service answered, the request was wrong |
/// | `Transient` | if the request may be repeated | failure |
/// | `Overload`, processed | if the request may be repeated | failure |
/// | `Overload`, not processed | always | failure |
/// | `NoEffect` | always | failure |
/// | `Ignored` | no | counts for nothing |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The call succeeded.
    Success,
    /// The call failed, and would fail again.
    Permanent,
    /// The call failed, and may succeed at another time. It may have had an effect.
    Transient {
        /// The earliest time to try again, as the server told it.
        after: Option<Duration>,
    },
    /// The service has more work than it can do.
    Overload {
        /// The earliest time to try again, as the server told it.
        after: Option<Duration>,
        /// Whether the call may have had an effect. With `false` the server refused it before it did
        /// anything, as an HTTP 429 says, so repeating it is always safe.
        processed: bool,
    },
    /// The call certainly had no effect, for instance because no connection could be made. Repeating it is
    /// always safe.
    NoEffect {
        /// The earliest time to try again.
        after: Option<Duration>,
    },
    /// The result says nothing about the service, for instance because the caller cancelled the call.
    Ignored,
}

/// What a result is to a layer that acts on results: a refusal of the stack itself, or a result of the
/// service with its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// A layer inside refused the call: it never reached the service.
    Refused(Rejected),
    /// The service was asked.
    Answered(Class),
}

impl Class {
    /// An overload that may have had an effect, without a hint.
    pub const OVERLOAD: Self = Self::Overload { after: None, processed: true };

    /// A failure that may pass, without a hint.
    pub const TRANSIENT: Self = Self::Transient { after: None };

    /// The hint that came with the result: the call must not be repeated earlier than that.
    pub const fn after(self) -> Option<Duration> {
        match self {
            Self::Success | Self::Permanent | Self::Ignored => None,
            Self::Transient { after } | Self::Overload { after, .. } | Self::NoEffect { after } => {
                after
            }
        }
    }

    /// That of an error by default.
    fn of_error<E: LayerError>(error: &E) -> Self {
        match error.rejected() {
            Some(rejected) if rejected.is_refusal() => {
                Self::NoEffect { after: rejected.retry_after() }
            }
            _ => Self::TRANSIENT,
        }
    }

    /// Whether the call certainly had no effect, so that it may be repeated whatever it asks for.
    pub const fn had_no_effect(self) -> bool {
        matches!(self, Self::NoEffect { .. } | Self::Overload { processed: false, .. })
    }
}

impl Judged {
    /// Judges `result`: a refusal by a layer inside is recognised first, and `classify` is asked about
    /// everything else. A call that was cancelled inside the stack is [`Transient`](Class::Transient).
    pub fn of<T, E, C>(classify: &C, result: Result<&T, &E>) -> Self
    where
        E: LayerError,
        C: Classify<T, E>,
    {
        if let Err(error) = result
            && let Some(judged) = Self::unasked(error)
        {
            return judged;
        }
        Self::Answered(classify.classify(result))
    }

    /// What no classifier is asked about.
    #[cold]
    fn unasked<E: LayerError>(error: &E) -> Option<Self> {
        let rejected = error.rejected()?;
        if rejected.is_refusal() {
            return Some(Self::Refused(*rejected));
        }
        (rejected.reason() == Reason::Cancelled).then_some(Self::Answered(Class::TRANSIENT))
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
///     Ok(429 | 503) => Class::OVERLOAD,
///     Ok(500..) | Err(_) => Class::TRANSIENT,
///     Ok(400..) => Class::Permanent,
///     Ok(_) => Class::Success,
/// };
/// assert_eq!(by_status.classify(Ok(&404)), Class::Permanent);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot judge results of this stack",
    label = "expected a classifier of `Result<&{T}, &{E}>`",
    note = "a closure has to name the type of its parameter: `|result: Result<&{T}, &{E}>| ...`",
    note = "a classifier of `stockade-clients` looks for the error of its client: put `.map_err(stockade::Error::Service)` above a client with an error type of its own, and `.map_err(stockade::boxed)` above one whose errors are boxed"
)]
pub trait Classify<T, E> {
    /// The class of `result`.
    fn classify(&self, result: Result<&T, &E>) -> Class;
}

#[diagnostic::do_not_recommend]
impl<F, T, E> Classify<T, E> for F
where
    F: Fn(Result<&T, &E>) -> Class,
{
    fn classify(&self, result: Result<&T, &E>) -> Class {
        self(result)
    }
}

/// The default: `Ok` is a success; a refusal by a layer inside is [`NoEffect`](Class::NoEffect) with its
/// `retry_after`, or [`Transient`](Class::Transient) where the call may have run; any other error is
/// `Transient`.
#[derive(Clone, Copy, Debug, Default)]
pub struct DefaultClassify;

impl<T, E: LayerError> Classify<T, E> for DefaultClassify {
    fn classify(&self, result: Result<&T, &E>) -> Class {
        match result {
            Ok(_) => Class::Success,
            Err(error) => Class::of_error(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn a_refusal_has_no_effect_unless_the_call_may_have_run() {
        let class = |error: Error<()>| DefaultClassify.classify(Err::<&(), _>(&error));
        let after = Duration::from_millis(3);
        let open = Rejected::new(&"breaker", Reason::BreakerOpen).with_retry_after(after);
        assert_eq!(class(open.into()), Class::NoEffect { after: Some(after) });
        for reason in [Reason::Elapsed, Reason::Panicked, Reason::Cancelled] {
            let rejected = Rejected::new(&"test", reason);
            assert_eq!(class(rejected.into()), Class::Transient { after: None });
        }
        assert_eq!(class(Error::Service(())), Class::Transient { after: None });
        let ok: Result<&(), &Error<()>> = Ok(&());
        assert_eq!(DefaultClassify.classify(ok), Class::Success);
    }

    #[test]
    fn a_refusal_is_recognised_before_the_classifier_is_asked() {
        let everything_passes = |_: Result<&(), &Error<()>>| Class::Success;
        let judge = |error: Error<()>| Judged::of(&everything_passes, Err(&error));
        for reason in [Reason::BreakerOpen, Reason::QueueFull, Reason::PoolClosed, Reason::Expired]
        {
            let refused = Rejected::new(&"test", reason);
            assert_eq!(judge(refused.into()), Judged::Refused(refused));
        }
        let elapsed = Rejected::new(&"test", Reason::Elapsed);
        assert_eq!(judge(elapsed.into()), Judged::Answered(Class::Success), "the service's doing");
        let cancelled = Rejected::new(&"test", Reason::Cancelled);
        assert_eq!(judge(cancelled.into()), Judged::Answered(Class::TRANSIENT));
    }
}
