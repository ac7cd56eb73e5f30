//! When a server wants to be asked again, if at all.

use std::time::Duration;

use http::HeaderMap;
use tonic::Status;
use tonic_types::StatusExt;

/// Of gRPC's proposal A6, which has it in the trailing metadata.
pub(super) const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// What a server says about another try.
///
/// Of several, the one that puts off further counts, which is the order here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hint {
    /// Nothing.
    None,
    /// Not earlier than after this.
    After(Duration),
    /// None is wanted.
    Never,
}

// === impl Hint ===

impl Hint {
    pub(super) fn of_status(status: &Status) -> Self {
        let told = status.metadata().get_all(PUSHBACK);
        match pushback(told.iter().map(|value| value.as_encoded_bytes())) {
            Self::None => status
                .get_details_retry_info()
                .and_then(|info| info.retry_delay)
                .map_or(Self::None, Self::After),
            told => told,
        }
    }

    pub(super) fn of_headers(headers: &HeaderMap) -> Self {
        pushback(headers.get_all(PUSHBACK).iter().map(|value| value.as_bytes()))
    }
}

fn pushback<'a>(values: impl Iterator<Item = &'a [u8]>) -> Hint {
    let hints = values.map(|value| {
        let millis = str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
        millis.map_or(Hint::Never, |millis| Hint::After(Duration::from_millis(millis)))
    });
    hints.max().unwrap_or(Hint::None)
}

#[cfg(test)]
mod tests {
    use tonic::{Code, metadata::MetadataMap};
    use tonic_types::ErrorDetails;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn with(pushback: Option<&str>, retry_info: Option<Duration>) -> Hint {
        let mut metadata = MetadataMap::new();
        if let Some(pushback) = pushback {
            metadata.insert(PUSHBACK, pushback.parse().unwrap());
        }
        let mut details = ErrorDetails::new();
        if let Some(delay) = retry_info {
            details.set_retry_info(Some(delay));
        }
        let code = Code::Unavailable;
        Hint::of_status(&Status::with_error_details_and_metadata(code, "", details, metadata))
    }

    #[test]
    fn a_pushback_is_a_number_of_milliseconds() {
        assert_eq!(with(Some("1000"), None), Hint::After(SECOND));
        assert_eq!(with(Some("0"), None), Hint::After(Duration::ZERO));
    }

    #[test]
    fn a_pushback_that_is_negative_or_no_number_wants_no_other_try() {
        for value in ["-1", "soon", "", "1.5", "tomorrow", "1000000000000000000000000000000"] {
            assert_eq!(with(Some(value), None), Hint::Never, "{value:?}");
            assert_eq!(with(Some(value), Some(SECOND)), Hint::Never, "{value:?}");
        }
    }

    #[test]
    fn of_two_pushbacks_the_one_that_puts_off_further_counts() {
        for (values, expected) in [
            (["5", "1000"], Hint::After(SECOND)),
            (["1000", "5"], Hint::After(SECOND)),
            (["1000", "-1"], Hint::Never),
            (["soon", "5"], Hint::Never),
        ] {
            let (mut metadata, mut headers) = (MetadataMap::new(), HeaderMap::new());
            for value in values {
                metadata.append(PUSHBACK, value.parse().unwrap());
                headers.append(PUSHBACK, value.parse().unwrap());
            }
            let status = Status::with_metadata(Code::Unavailable, "", metadata);
            assert_eq!(Hint::of_status(&status), expected, "{values:?}");
            assert_eq!(Hint::of_headers(&headers), expected, "{values:?}");
        }
    }

    #[test]
    fn retry_info_counts_where_there_is_no_pushback() {
        assert_eq!(with(None, Some(SECOND)), Hint::After(SECOND));
        assert_eq!(with(Some("5"), Some(SECOND)), Hint::After(Duration::from_millis(5)));
        assert_eq!(with(None, None), Hint::None);
    }

    #[test]
    fn details_that_are_nonsense_are_no_hint() {
        let status = Status::with_details(Code::Unavailable, "", vec![255; 9].into());
        assert_eq!(Hint::of_status(&status), Hint::None);
    }
}
