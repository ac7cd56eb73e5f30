//! What a server tells of a quota.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName};

use super::reset::until;
use crate::http::sent_at;

/// The headers in which a server tells one quota.
///
/// # Example
///
/// ```
/// use stockade_clients::http::QuotaHeaders;
///
/// let requests = QuotaHeaders::of("requests"); // x-ratelimit-limit-requests, …
/// let tokens = QuotaHeaders::of("tokens");
/// # drop((requests, tokens));
/// ```
#[derive(Clone, Debug)]
pub struct QuotaHeaders {
    limit: HeaderName,
    remaining: HeaderName,
    reset: HeaderName,
    /// Whether nothing passes until the reset once nothing remains.
    is_window: bool,
    /// Whether it may also be told as items with parameters, in `RateLimit` and `RateLimit-Policy`.
    has_items: bool,
}

/// What a server has told of one quota, as far as it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// How much there is in each period.
    pub(super) limit: Option<u32>,
    /// The period, where it is told.
    pub(super) per: Option<Duration>,
    pub(super) remaining: Option<u32>,
    /// Until all of it is there again.
    pub(super) reset: Option<Duration>,
    /// Not before this, because nothing remains.
    pub(super) pause: Option<Duration>,
}

// === impl QuotaHeaders ===

impl QuotaHeaders {
    /// Those of `draft-ietf-httpapi-ratelimit-headers`. Once nothing remains, nothing passes until the reset.
    ///
    /// `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset`, with a window in the limit or in
    /// `RateLimit-Policy`, as of its versions up to 6: `100;w=60`. Or all in `RateLimit`, as of version 7:
    /// `limit=100, remaining=50, reset=30`. Or the first item of `RateLimit` and of `RateLimit-Policy`, as of those after
    /// that: `"default";r=50;t=30` and `"default";q=100;w=60`.
    pub const fn standard() -> Self {
        let limit = HeaderName::from_static("ratelimit-limit");
        let remaining = HeaderName::from_static("ratelimit-remaining");
        let reset = HeaderName::from_static("ratelimit-reset");
        let mut standard = Self::new(limit, remaining, reset).window();
        standard.has_items = true;
        standard
    }

    /// `x-ratelimit-limit-…`, `x-ratelimit-remaining-…` and `x-ratelimit-reset-…`, as OpenAI and others have them for
    /// `requests` and `tokens`.
    ///
    /// # Panics
    ///
    /// If `what` cannot be a part of a header's name.
    #[track_caller]
    pub fn of(what: &str) -> Self {
        let name = |kind| part("QuotaHeaders::of", what, format!("x-ratelimit-{kind}-{what}"));
        Self::new(name("limit"), name("remaining"), name("reset"))
    }

    /// `anthropic-ratelimit-…-limit`, `anthropic-ratelimit-…-remaining` and `anthropic-ratelimit-…-reset`, as Anthropic has
    /// them for `requests`, `tokens`, `input-tokens` and `output-tokens`.
    ///
    /// # Panics
    ///
    /// If `what` cannot be a part of a header's name.
    #[track_caller]
    pub fn anthropic(what: &str) -> Self {
        let name = |kind| {
            let name = format!("anthropic-ratelimit-{what}-{kind}");
            part("QuotaHeaders::anthropic", what, name)
        };
        Self::new(name("limit"), name("remaining"), name("reset"))
    }

    /// `x-ratelimit-limit`, `x-ratelimit-remaining` and `x-ratelimit-reset`, as GitHub and many others have them. Once nothing
    /// remains, nothing passes until the reset.
    pub const fn github() -> Self {
        let limit = HeaderName::from_static("x-ratelimit-limit");
        let remaining = HeaderName::from_static("x-ratelimit-remaining");
        let reset = HeaderName::from_static("x-ratelimit-reset");
        Self::new(limit, remaining, reset).window()
    }

    /// Headers of other names.
    ///
    /// The reset may be a duration: seconds, or `1m30s` and the like. Or it may be an instant, which counts from the
    /// answer's own `Date`, so that clocks that differ do no harm: `2026-01-27T02:31:00Z` (RFC 3339), a date as HTTP has
    /// them, or the seconds or milliseconds since 1970. One that has passed is zero. Any other is ignored.
    pub const fn new(limit: HeaderName, remaining: HeaderName, reset: HeaderName) -> Self {
        Self { limit, remaining, reset, is_window: false, has_items: false }
    }

    /// Once nothing remains, nothing passes until the reset. Without this what is used comes back bit by bit.
    #[must_use]
    pub const fn window(mut self) -> Self {
        self.is_window = true;
        self
    }

    pub(super) fn read(&self, headers: &HeaderMap) -> Told {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let item = |name| if self.has_items { text(name) } else { None };
        let (limit, policy) = (text(self.limit.as_str()), item("ratelimit-policy"));
        let of_policy = |key| policy.and_then(|policy| parameter(policy, key));
        let of_state = |key| item("ratelimit").and_then(|state| parameter(state, key));
        let read = |name: &HeaderName| text(name.as_str()).map(str::trim);

        let window = limit.and_then(|limit| parameter(limit, "w")).or_else(|| of_policy("w"));
        let remaining = read(&self.remaining).and_then(leading);
        let remaining = remaining.or_else(|| of_state("r")).or_else(|| of_state("remaining"));
        let in_seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let now = || sent_at(headers).unwrap_or_else(SystemTime::now);
        let reset = read(&self.reset).and_then(|reset| until(reset, now));
        let of_item = || of_state("t").or_else(|| of_state("reset")).map(in_seconds);
        let reset = reset.or_else(of_item);
        let pause = if self.is_window && remaining == Some(0) { reset } else { None };
        let limit = limit.map(str::trim).and_then(leading);
        Told {
            limit: limit.or_else(|| of_policy("q")).or_else(|| of_state("limit")),
            per: window.filter(|window| *window > 0).map(in_seconds),
            remaining,
            reset,
            pause,
        }
    }
}

#[track_caller]
fn part(setter: &str, what: &str, name: String) -> HeaderName {
    match HeaderName::try_from(name) {
        Ok(name) => name,
        Err(_) => panic!("{setter}: {what:?} is no part of a header's name"),
    }
}

/// The number at the start, rounded down, which may have more behind it.
fn leading(text: &str) -> Option<u32> {
    let is_digit = |c: char| c.is_ascii_digit();
    let end = text.find(|c| !is_digit(c)).unwrap_or(text.len());
    let rest = &text[end..];
    let rest =
        rest.strip_prefix('.').map_or(rest, |fraction| fraction.trim_start_matches(is_digit));
    let rest = rest.trim_start();
    let is_whole = rest.is_empty() || rest.starts_with([',', ';']);
    if end == 0 || !is_whole {
        return None;
    }
    Some(text[..end].parse().unwrap_or(u32::MAX))
}

/// The first parameter of this name: the 60 of `100;w=60`, of `100, 100;w=60` and of `"default";q=100;w=60`.
fn parameter(text: &str, name: &str) -> Option<u32> {
    let value = |part: &str| leading(part.trim().strip_prefix(name)?.strip_prefix('=')?);
    text.split([',', ';']).find_map(value)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http::HeaderValue;

    use super::*;

    fn told(headers: &QuotaHeaders, values: [&str; 3]) -> Told {
        let names = [&headers.limit, &headers.remaining, &headers.reset];
        let values = values.map(|value| value.parse().unwrap());
        headers.read(&names.into_iter().cloned().zip(values).collect())
    }

    #[test]
    fn a_quota_is_read_as_its_server_spells_it() {
        let seconds = |n| Some(Duration::from_secs(n));
        let all = Told { limit: Some(100), remaining: Some(7), ..Told::default() };
        for (limit, reset, per, until) in [
            ("100", "30", None, seconds(30)),
            ("100, 100;w=60", "30", seconds(60), seconds(30)),
            ("100;w=60", "6m0s", seconds(60), seconds(360)),
            ("100", "1.5s", None, Some(Duration::from_millis(1_500))),
            ("100", "20ms", None, Some(Duration::from_millis(20))),
            ("100.0", "6m0s", None, seconds(360)),
            ("100;w=0", "", None, None),
        ] {
            let expected = Told { per, reset: until, ..all };
            assert_eq!(told(&QuotaHeaders::of("requests"), [limit, "7", reset]), expected);
        }
    }

    fn read(quota: &QuotaHeaders, headers: &[(&'static str, &'static str)]) -> Told {
        let header = |&(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        quota.read(&headers.iter().map(header).collect())
    }

    #[test]
    fn the_standard_is_read_in_its_older_and_in_its_newer_forms() {
        let until_6 = [
            ("ratelimit-limit", "100"),
            ("ratelimit-policy", "100;w=60"),
            ("ratelimit-remaining", "50"),
            ("ratelimit-reset", "30"),
        ];
        let of_7 =
            [("ratelimit-policy", "100;w=60"), ("ratelimit", "limit=100, remaining=50, reset=30")];
        let since_8 = [
            ("ratelimit-policy", r#""default";q=100;w=60, "day";q=9000;w=86400"#),
            ("ratelimit", r#""default";r=50;t=30"#),
        ];
        let expected = Told {
            limit: Some(100),
            per: Some(Duration::from_secs(60)),
            remaining: Some(50),
            reset: Some(Duration::from_secs(30)),
            pause: None,
        };
        for headers in [&until_6[..], &of_7, &since_8] {
            assert_eq!(read(&QuotaHeaders::standard(), headers), expected, "{headers:?}");
        }
    }

    const DATE: (&str, &str) = ("date", "Tue, 27 Jan 2026 02:30:00 GMT");

    #[test]
    fn of_each_vendor_a_reset_that_is_an_instant_counts_from_the_date_of_the_answer() {
        let in_a_minute = Some(Duration::from_secs(60));
        let anthropic = [DATE, ("anthropic-ratelimit-tokens-reset", "2026-01-27T02:31:00Z")];
        assert_eq!(read(&QuotaHeaders::anthropic("tokens"), &anthropic).reset, in_a_minute);
        // The seconds since 1970, milliseconds as OpenRouter has them, and a fraction as Discord has it.
        for reset in ["1769481060", "1769481060000", "1769481060.000"] {
            let github = [DATE, ("x-ratelimit-reset", reset)];
            assert_eq!(read(&QuotaHeaders::github(), &github).reset, in_a_minute, "{reset}");
        }
        let gitlab = [DATE, ("ratelimit-reset", "1769481060")];
        assert_eq!(read(&QuotaHeaders::standard(), &gitlab).reset, in_a_minute);
        let date = [DATE, ("ratelimit-reset", "Tue, 27 Jan 2026 02:31:00 GMT")];
        assert_eq!(read(&QuotaHeaders::standard(), &date).reset, in_a_minute);
    }

    #[test]
    fn the_seconds_since_1970_count_from_the_date_of_the_answer() {
        let github = QuotaHeaders::of("requests");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let in_a_minute = told(&github, ["", "", &(now + 60).to_string()]).reset.unwrap();
        assert!((50..=60).contains(&in_a_minute.as_secs()), "{in_a_minute:?}");
        // A server whose clock is far behind.
        let sent = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let reset = ("x-ratelimit-reset-requests", "784111837");
        assert_eq!(read(&github, &[sent, reset]).reset, Some(Duration::from_secs(60)));
    }

    #[test]
    fn each_quota_has_names_of_its_own() {
        let tokens = QuotaHeaders::anthropic("input-tokens");
        assert_eq!(tokens.remaining, "anthropic-ratelimit-input-tokens-remaining");
        let told = told(&tokens, ["40000", "7", "soon"]);
        assert_eq!((told.limit, told.remaining, told.reset), (Some(40_000), Some(7), None));
        assert_eq!(QuotaHeaders::of("tokens").limit, "x-ratelimit-limit-tokens");
        assert_eq!(QuotaHeaders::github().limit, "x-ratelimit-limit");
    }

    #[test]
    #[should_panic(expected = "QuotaHeaders::of: \"a b\" is no part of a header's name")]
    fn a_quota_whose_name_is_no_header_panics() {
        let _ = QuotaHeaders::of("a b");
    }

    #[test]
    fn nonsense_tells_nothing() {
        for nonsense in ["", "-1", "1e9", "soon", "7x", "µ", "..s"] {
            let told = told(&QuotaHeaders::standard(), [nonsense; 3]);
            assert_eq!(told, Told::default(), "{nonsense}");
        }
        assert_eq!(told(&QuotaHeaders::standard(), ["99999999999", "", ""]).limit, Some(u32::MAX));
    }

    #[test]
    fn of_a_window_nothing_passes_until_the_reset_once_nothing_remains() {
        let pause = |headers, remaining| told(&headers, ["9", remaining, "30"]).pause;
        assert_eq!(pause(QuotaHeaders::standard(), "0"), Some(Duration::from_secs(30)));
        assert_eq!(pause(QuotaHeaders::standard(), "1"), None);
        assert_eq!(pause(QuotaHeaders::of("tokens"), "0"), None);
    }
}
