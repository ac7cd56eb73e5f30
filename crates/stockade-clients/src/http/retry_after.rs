//! When a server wants to be asked again.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header::RETRY_AFTER};

/// The time from `now` until the `Retry-After` of `headers`, which may be seconds or a date (RFC 9110, section
/// 10.2.3).
///
/// A date that has passed is zero. There is none if the header is missing, or neither a number nor a date.
///
/// # Example
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// use http::{HeaderMap, HeaderValue, header::RETRY_AFTER};
/// use stockade_clients::http::retry_after;
///
/// let mut headers = HeaderMap::new();
/// headers.insert(RETRY_AFTER, HeaderValue::from_static("Thu, 01 Jan 1970 00:01:00 GMT"));
/// let now = UNIX_EPOCH + Duration::from_secs(45);
/// assert_eq!(retry_after(&headers, now), Some(Duration::from_secs(15)));
/// ```
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim_matches([' ', '\t']);
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit mean more seconds than anybody waits.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http::HeaderValue;

    use super::*;

    /// Of `value`, at 08:49:37 on the day that RFC 9110 has for its examples.
    fn at_example(value: &[u8]) -> Option<Duration> {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        let value = HeaderValue::from_bytes(value).unwrap();
        retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value)]), now)
    }

    #[test]
    fn seconds_are_taken_as_they_are() {
        assert_eq!(at_example(b"120"), Some(Duration::from_secs(120)));
        assert_eq!(at_example(b"0"), Some(Duration::ZERO));
        assert_eq!(at_example(b" 7\t"), Some(Duration::from_secs(7)));
    }

    #[test]
    fn more_seconds_than_fit_are_as_many_as_fit() {
        let huge = Duration::from_secs(u64::MAX);
        assert_eq!(at_example(b"99999999999999999999999"), Some(huge));
    }

    #[test]
    fn a_date_counts_from_now_in_all_three_formats() {
        let later = Some(Duration::from_secs(23));
        assert_eq!(at_example(b"Sun, 06 Nov 1994 08:50:00 GMT"), later);
        assert_eq!(at_example(b"Sunday, 06-Nov-94 08:50:00 GMT"), later);
        assert_eq!(at_example(b"Sun Nov  6 08:50:00 1994"), later);
    }

    #[test]
    fn a_date_that_has_passed_is_zero() {
        assert_eq!(at_example(b"Sun, 06 Nov 1994 08:49:36 GMT"), Some(Duration::ZERO));
        assert_eq!(at_example(b"Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
    }

    #[test]
    fn what_is_neither_is_no_hint() {
        for value in
            [&b""[..], b"-1", b"+1", b"1.5", b"soon", b"Sun, 99 Nov 1994 08:49:37 GMT", b"\xff"]
        {
            assert_eq!(at_example(value), None, "{value:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), UNIX_EPOCH), None);
    }
}
