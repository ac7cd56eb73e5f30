//! What a server tells of a quota.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName};

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
    /// `RateLimit-Policy`, as of its versions 3 to 7: `100;w=60`. Or the first item of `RateLimit` and of
    /// `RateLimit-Policy`, as of those after that: `"default";r=50;t=30` and `"default";q=100;w=60`.
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

    /// `anthropic-ratelimit-…-limit` and `anthropic-ratelimit-…-remaining`, as Anthropic has them for `requests`,
    /// `tokens`, `input-tokens` and `output-tokens`. Its reset is a date, and is ignored: its 429 has a `Retry-After`.
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

    /// Headers of other names. The reset may be a number of seconds, a duration such as `1m30s`, or the seconds since
    /// 1970, which count from the answer's own `Date`; any other is ignored.
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
        let remaining = read(&self.remaining).and_then(leading).or_else(|| of_state("r"));
        let in_seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let now = || sent_at(headers).unwrap_or_else(SystemTime::now);
        let reset = read(&self.reset).and_then(|reset| until(reset, now));
        let reset = reset.or_else(|| of_state("t").map(in_seconds));
        let pause = if self.is_window && remaining == Some(0) { reset } else { None };
        Told {
            limit: limit.map(str::trim).and_then(leading).or_else(|| of_policy("q")),
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

/// The number at the start, which may have more behind it.
fn leading(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let rest = text[end..].trim_start();
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

/// Seconds, a duration with units, or the seconds since 1970.
fn until(text: &str, now: impl FnOnce() -> SystemTime) -> Option<Duration> {
    /// No duration from now on is as long.
    const YEARS: u64 = 500_000_000;
    if let Ok(seconds) = text.parse::<u64>() {
        if seconds < YEARS {
            return Some(Duration::from_secs(seconds));
        }
        let now = now().duration_since(UNIX_EPOCH).unwrap_or_default();
        return Some(Duration::from_secs(seconds).saturating_sub(now));
    }
    let (mut sum, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let value: f64 = rest[..number].parse().ok()?;
        rest = &rest[number..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" | "" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        sum = sum.checked_add(Duration::try_from_secs_f64(value * unit).ok()?)?;
        rest = &rest[end..];
    }
    (!text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
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
            ("100", "2024-01-27T02:31:00Z", None, None),
            ("100;w=0", "", None, None),
        ] {
            let expected = Told { per, reset: until, ..all };
            assert_eq!(told(&QuotaHeaders::of("requests"), [limit, "7", reset]), expected);
        }
    }

    #[test]
    fn the_standard_is_read_in_its_older_and_in_its_newer_form() {
        let read = |headers: &[(&'static str, &'static str)]| {
            let header = |&(name, value): &(&'static str, &'static str)| {
                (HeaderName::from_static(name), value.parse().unwrap())
            };
            QuotaHeaders::standard().read(&headers.iter().map(header).collect())
        };
        let older = [
            ("ratelimit-limit", "100"),
            ("ratelimit-policy", "100;w=60"),
            ("ratelimit-remaining", "50"),
            ("ratelimit-reset", "30"),
        ];
        let newer = [
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
        assert_eq!((read(&older), read(&newer)), (expected, expected));
    }

    #[test]
    fn the_seconds_since_1970_count_from_the_date_of_the_answer() {
        let github = QuotaHeaders::of("requests");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let in_a_minute = told(&github, ["", "", &(now + 60).to_string()]).reset.unwrap();
        assert!((50..=60).contains(&in_a_minute.as_secs()), "{in_a_minute:?}");
        // A server whose clock is far behind.
        let sent = ("date", "Sun, 06 Nov 1994 08:49:37 GMT".to_owned());
        let reset = ("x-ratelimit-reset-requests", "784111837".to_owned());
        let headers = [sent, reset].map(|(name, value)| {
            (HeaderName::from_static(name), value.parse::<HeaderValue>().unwrap())
        });
        assert_eq!(
            github.read(&headers.into_iter().collect()).reset,
            Some(Duration::from_secs(60))
        );
    }

    #[test]
    fn each_quota_has_names_of_its_own() {
        let tokens = QuotaHeaders::anthropic("input-tokens");
        assert_eq!(tokens.remaining, "anthropic-ratelimit-input-tokens-remaining");
        let told = told(&tokens, ["40000", "7", "2026-01-27T02:31:00Z"]);
        assert_eq!((told.limit, told.remaining, told.reset), (Some(40_000), Some(7), None));
        assert_eq!(QuotaHeaders::of("tokens").limit, "x-ratelimit-limit-tokens");
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
