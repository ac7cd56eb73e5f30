//! When a server wants to be asked again.

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, HeaderValue,
    header::{DATE, RETRY_AFTER},
};

/// The time until the `Retry-After` of `headers`, which may be seconds or a date (RFC 9110, section 10.2.3).
///
/// A date counts from the answer's own `Date` where it has one, since the server's clock may be off, and from
/// `now` otherwise. A date that has passed is zero. Some servers send a fraction of a second, which is rounded
/// up to whole seconds. Of several hints the longest counts, in several headers as in one that a proxy has made of them.
/// There is none if the header is missing, or neither a number nor a date.
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
    let hints = headers.get_all(RETRY_AFTER).into_iter().filter_map(text);
    hints.filter_map(|hint| longest(hint).or_else(|| until(hint, headers, now))).max()
}

fn text(value: &HeaderValue) -> Option<&str> {
    Some(value.to_str().ok()?.trim_matches([' ', '\t']))
}

/// Seconds, or the most of them in a list.
fn longest(hint: &str) -> Option<Duration> {
    hint.split(',').filter_map(|one| seconds(one.trim_matches([' ', '\t']))).max()
}

/// Whole seconds, or a fraction of them, rounded up.
fn seconds(hint: &str) -> Option<Duration> {
    let (whole, fraction) = hint.split_once('.').unwrap_or((hint, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return None;
    }
    // More digits than fit mean more seconds than anybody waits.
    let whole: u64 = whole.parse().unwrap_or(u64::MAX);
    let up = u64::from(fraction.bytes().any(|digit| digit != b'0'));
    Some(Duration::from_secs(whole.saturating_add(up)))
}

fn until(hint: &str, headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let date = httpdate::parse_http_date(hint).ok()?;
    Some(date.duration_since(sent_at(headers).unwrap_or(now)).unwrap_or(Duration::ZERO))
}

/// When an answer was sent, by the clock of the server: its `Date`.
pub(super) fn sent_at(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(DATE).and_then(text)?).ok()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

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
    fn a_fraction_of_a_second_is_rounded_up() {
        assert_eq!(at_example(b"299.997"), Some(Duration::from_secs(300)));
        assert_eq!(at_example(b"0.001"), Some(Duration::from_secs(1)));
        assert_eq!(at_example(b"7.000"), Some(Duration::from_secs(7)));
    }

    #[test]
    fn of_two_hints_the_longer_counts() {
        let mut headers = HeaderMap::new();
        for hint in ["5", "nonsense", "9", "7"] {
            headers.append(RETRY_AFTER, HeaderValue::from_static(hint));
        }
        assert_eq!(retry_after(&headers, UNIX_EPOCH), Some(Duration::from_secs(9)));
    }

    #[test]
    fn of_two_hints_that_a_proxy_has_joined_the_longer_counts() {
        assert_eq!(at_example(b"5, 9"), Some(Duration::from_secs(9)));
        assert_eq!(at_example(b"9,nonsense"), Some(Duration::from_secs(9)));
    }

    #[test]
    fn a_date_counts_from_the_date_of_the_answer() {
        let mut headers = HeaderMap::new();
        let (told, until) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:47 GMT");
        headers.insert(DATE, HeaderValue::from_static(told));
        headers.insert(RETRY_AFTER, HeaderValue::from_static(until));
        // The clock here is four minutes off, either way.
        for now in [784_111_777 - 240, 784_111_777 + 240] {
            let now = UNIX_EPOCH + Duration::from_secs(now);
            assert_eq!(retry_after(&headers, now), Some(Duration::from_secs(10)));
        }
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
        for value in [
            &b""[..],
            b"-1",
            b"+1",
            b"1.",
            b".5",
            b"1e30",
            b"1.5.2",
            b"tomorrow",
            b"Sun, 99 Nov 1994 08:49:37 GMT",
            b"\xff",
        ] {
            assert_eq!(at_example(value), None, "{value:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), UNIX_EPOCH), None);
    }
}
