//! The way back: a layer's refusal as a status.

use std::{error::Error as _, time::Duration};

use stockade_core::{Error, LayerError, Reason, Rejected};
use tonic::{Code, Status, TimeoutExpired, metadata::MetadataMap};
use tonic_types::{ErrorDetails, StatusExt};

use super::hint::PUSHBACK;
use crate::{
    http::{DEFAULT_RETRY_AFTER, come_back_after},
    judge,
};

/// The status of a server whose own layers ended a call with `error`. The table is on the [module's](super) page.
/// [`RespondLayer`](super::RespondLayer) does this for all calls of a server.
///
/// The message says in a few words why, without the name or kind of the layer. It says nothing about an error that is not a
/// refusal, because that may contain what strangers must not see: log it.
///
/// # Example
///
/// ```
/// use stockade_clients::grpc;
/// use stockade_core::{Error, Reason, Rejected};
/// use tonic::Code;
///
/// let error: Error<std::io::Error> = Rejected::new(&"breaker", Reason::BreakerOpen).into();
/// let status = grpc::refusal(&error);
/// assert_eq!(status.code(), Code::Unavailable);
/// assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "1000");
/// ```
pub fn refusal<E: LayerError>(error: &E) -> Status {
    of(error.rejected(), DEFAULT_RETRY_AFTER)
}

/// The status that a handler passes on: the one that the server behind it has sent, or that of a [refusal](refusal()) of
/// its own layers.
///
/// For `.map_err(grpc::into_status)` behind a call of a stack whose client's error is a `Status`. A call that tonic's own
/// client has ended when the time of its `grpc-timeout` was over, for which it says `CANCELLED`, is `DEADLINE_EXCEEDED`.
///
/// ```
/// use stockade_clients::grpc;
/// use stockade_core::Error;
/// use tonic::{Code, Status};
///
/// let behind: Error<Status> = Error::Service(Status::not_found("no such book"));
/// assert_eq!(grpc::into_status(behind).code(), Code::NotFound);
/// ```
pub fn into_status(error: Error<Status>) -> Status {
    let status = match error {
        Error::Service(status) => status,
        Error::Rejected(rejected) => return of(Some(&rejected), DEFAULT_RETRY_AFTER),
    };
    // What has ended the call before the server answered is in the status.
    let causes = || judge::chain(status.source());
    if let Some(rejected) = causes().find_map(judge::refusal) {
        return of(Some(rejected), DEFAULT_RETRY_AFTER);
    }
    if causes().any(|cause| cause.is::<TimeoutExpired>()) {
        return Status::deadline_exceeded(Reason::Elapsed.as_str());
    }
    status
}

/// The status of a refusal; of any other error if there is none.
pub(super) fn of(refusal: Option<&Rejected>, otherwise: Duration) -> Status {
    let Some(rejected) = refusal else { return Status::internal("internal error") };
    let (mut metadata, mut details) = (MetadataMap::new(), ErrorDetails::new());
    let after = come_back_after(rejected, otherwise);
    let millis = match after {
        Some(after) => Some(whole_millis(after)),
        None => (rejected.reason() == Reason::TooCostly).then_some(-1),
    };
    if let Some(millis) = millis {
        metadata.insert(PUSHBACK, millis.into());
    }
    if after.is_some() {
        details.set_retry_info(after);
    }
    let text = rejected.reason().as_str();
    if after.is_none() {
        return Status::with_metadata(code(rejected), text, metadata);
    }
    Status::with_error_details_and_metadata(code(rejected), text, details, metadata)
}

fn code(rejected: &Rejected) -> Code {
    match rejected.reason() {
        Reason::RateLimited | Reason::TooCostly | Reason::QueueFull | Reason::WaitExceeded => {
            Code::ResourceExhausted
        }
        Reason::Elapsed | Reason::Expired => Code::DeadlineExceeded,
        Reason::Panicked => Code::Internal,
        _ => Code::Unavailable,
    }
}

/// Rounded up, so that nobody comes back too early. The pushback is a signed number of 32 bits.
fn whole_millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::hint::Hint;

    const SECOND: Duration = Duration::from_secs(1);

    fn status(layer: &'static &'static str, reason: Reason) -> Status {
        into_status(Rejected::new(layer, reason).into())
    }

    #[test]
    fn each_refusal_has_the_code_and_the_hint_of_the_table() {
        use Reason::*;
        let rows: &[(&[Reason], Code, Hint)] = &[
            (&[RateLimited, QueueFull, WaitExceeded], Code::ResourceExhausted, Hint::After(SECOND)),
            (&[TooCostly], Code::ResourceExhausted, Hint::Never),
            (
                &[BreakerOpen, ForcedOpen, PoolClosed, Cancelled, Shed, Unavailable],
                Code::Unavailable,
                Hint::After(SECOND),
            ),
            (&[Elapsed, Expired], Code::DeadlineExceeded, Hint::None),
            (&[Panicked], Code::Internal, Hint::None),
        ];
        for (reasons, code, hint) in rows {
            for &reason in *reasons {
                let status = status(&"any", reason);
                assert_eq!((status.code(), status.message()), (*code, reason.as_str()));
                assert_eq!(Hint::of_status(&status), *hint, "{reason:?}");
            }
        }
    }

    #[test]
    fn the_time_to_come_back_is_there_twice_and_rounded_up() {
        let after = Duration::from_micros(120_001);
        let rejected = Rejected::new(&"rate", Reason::RateLimited).with_retry_after(after);
        let status = into_status(rejected.into());
        assert_eq!(status.metadata().get(PUSHBACK).unwrap(), "121");
        assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(after));
    }

    #[test]
    fn a_time_to_come_back_that_does_not_fit_is_as_long_as_fits() {
        let rejected = Rejected::new(&"breaker", Reason::BreakerOpen);
        for status in [
            of(Some(&rejected.with_retry_after(Duration::MAX)), SECOND),
            of(Some(&rejected), Duration::MAX),
        ] {
            assert_eq!(status.metadata().get(PUSHBACK).unwrap(), &i32::MAX.to_string());
            let delay = status.get_details_retry_info().unwrap().retry_delay.unwrap();
            assert!(delay > Duration::from_secs(800 * 86_400), "{delay:?}");
        }
    }

    #[test]
    fn a_refusal_by_a_layer_around_the_channel_is_told_as_what_it_is() {
        let expired = Error::<std::io::Error>::from(Rejected::new(&"inject", Reason::Expired));
        let status = Status::from_error(expired.into());
        assert_eq!(status.code(), Code::Unknown);
        assert_eq!(into_status(Error::Service(status)).code(), Code::DeadlineExceeded);
    }

    #[test]
    fn a_call_that_tonic_itself_has_ended_is_told_as_one_whose_time_was_up() {
        let status = Status::from_error(TimeoutExpired(()).into());
        assert_eq!(status.code(), Code::Cancelled);
        assert_eq!(into_status(Error::Service(status)).code(), Code::DeadlineExceeded);
        let by_the_server = Status::cancelled("the stream was reset");
        assert_eq!(into_status(Error::Service(by_the_server)).code(), Code::Cancelled);
    }

    /// The rows of the table in the documentation: reasons, code and hint.
    fn table() -> impl Iterator<Item = (Vec<Reason>, &'static str, &'static str)> {
        let cells = |line: &'static str| {
            let row = line.strip_prefix("//! | any layer | ")?;
            let mut cells = row.split('|').map(str::trim);
            let (reasons, code, hint) = (cells.next()?, cells.next()?, cells.next()?);
            let is_named = |reason: &Reason| reasons.contains(&format!("`{reason:?}`"));
            Some((Reason::ALL.into_iter().filter(is_named).collect(), code, hint))
        };
        include_str!("../grpc.rs").lines().filter_map(cells)
    }

    #[test]
    fn the_table_of_the_documentation_has_each_reason_once_and_is_true() {
        for reason in Reason::ALL {
            let mut rows = table().filter(|(reasons, ..)| reasons.contains(&reason));
            let (_, code, hint) = rows.next().expect("a row");
            assert!(rows.next().is_none(), "{reason:?} is there twice");
            let silent = Rejected::new(&"any", reason);
            for rejected in [silent, silent.with_retry_after(7 * SECOND)] {
                let status = into_status(rejected.into());
                let name = format!("`{:?}`", status.code()).to_uppercase();
                assert_eq!(code.replace('_', ""), name, "{reason:?}");
                let expected = match (hint, rejected.retry_after()) {
                    ("always", told) => Hint::After(told.unwrap_or(DEFAULT_RETRY_AFTER)),
                    ("if the layer says so", Some(told)) => Hint::After(told),
                    ("if the layer says so", None) | ("", _) => Hint::None,
                    ("not to come back", _) => Hint::Never,
                    _ => panic!("{hint}"),
                };
                assert_eq!(Hint::of_status(&status), expected, "{reason:?}");
                let delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
                let is_time = matches!(expected, Hint::After(_));
                assert_eq!(delay.map(Hint::After), is_time.then_some(expected), "{reason:?}");
            }
        }
    }

    #[test]
    fn an_error_of_the_service_itself_is_not_told() {
        let status = refusal(&Error::Service(std::io::Error::other("password: hunter2")));
        assert_eq!((status.code(), status.message()), (Code::Internal, "internal error"));
    }
}
