//! The way back: a layer's refusal as a server's answer.

use std::time::Duration;

use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use stockade_core::{LayerError, Reason, Rejected};

/// When to come back, for a 429 or a 503 by a layer that does not know it: after a second.
///
/// A full limit does not know when a place will be free. Without a time clients come back at once, all of them.
pub const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The answer of a server whose own layers ended a request with `error`. The table is on the
/// [module's](super) page. [`RespondLayer`](super::RespondLayer) does this for all requests of a server.
///
/// The body says in a few words why, without the name or kind of the layer. It says nothing about an error that is not a
/// refusal, because that may contain what strangers must not see: log it.
///
/// # Example
///
/// ```
/// use axum::{body::Body, response::Response};
/// use stockade_clients::http;
/// use stockade_core::{Error, Reason, Rejected};
///
/// // What a stack around a client returned to a handler.
/// let error: Error<std::io::Error> = Rejected::new(&"limit", Reason::QueueFull).into();
/// let answer: Response = http::refusal(&error);
/// assert_eq!(answer.status(), 503);
/// assert_eq!(answer.headers()["retry-after"], "1");
/// ```
pub fn refusal<B, E>(error: &E) -> Response<B>
where
    B: From<&'static str>,
    E: LayerError,
{
    Answers::default().respond(error.rejected())
}

/// The status for a refusal. The table is on the [module's](super) page.
pub fn refusal_status(rejected: &Rejected) -> StatusCode {
    match rejected.reason() {
        Reason::RateLimited | Reason::TooCostly => StatusCode::TOO_MANY_REQUESTS,
        Reason::QueueFull | Reason::WaitExceeded if rejected.layer() == "rate" => {
            StatusCode::TOO_MANY_REQUESTS
        }
        Reason::Elapsed | Reason::Expired => StatusCode::GATEWAY_TIMEOUT,
        Reason::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// When to come back after a refusal, if that makes sense: as the layer says, or after `otherwise`.
pub(crate) fn come_back_after(rejected: &Rejected, otherwise: Duration) -> Option<Duration> {
    match rejected.reason() {
        Reason::TooCostly | Reason::Panicked => None,
        Reason::Elapsed | Reason::Expired => rejected.retry_after(),
        _ => Some(rejected.retry_after().unwrap_or(otherwise)),
    }
}

/// How refusals are answered as HTTP; set by [`RespondLayer`](super::RespondLayer). It is there to be named in types.
#[derive(Clone, Copy, Debug)]
pub struct Answers {
    pub(super) retry_after: Duration,
    /// How many requests are allowed in which time.
    pub(super) quota: Option<(u32, Duration)>,
}

// === impl Answers ===

impl Answers {
    /// The answer to a refusal; to any other error if there is none.
    pub(super) fn respond<B: From<&'static str>>(&self, refusal: Option<&Rejected>) -> Response<B> {
        let (status, text) = match refusal {
            Some(rejected) => (refusal_status(rejected), rejected.reason().as_str()),
            None => (StatusCode::INTERNAL_SERVER_ERROR, "internal server error"),
        };
        let mut response = Response::new(B::from(text));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        let after = refusal.and_then(|rejected| come_back_after(rejected, self.retry_after));
        let after = after.map(whole_seconds);
        if let Some(after) = after {
            headers.insert(RETRY_AFTER, after.into());
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            self.tell_rate(headers, after);
        }
        response
    }

    /// The fields of `draft-ietf-httpapi-ratelimit-headers`, as of its versions 3 to 6, which most clients know.
    fn tell_rate(&self, headers: &mut HeaderMap, after: Option<u64>) {
        let mut tell = |name, value| headers.insert(HeaderName::from_static(name), value);
        if let Some((n, per)) = self.quota {
            tell("ratelimit-limit", n.into());
            let policy = format!("{n};w={}", whole_seconds(per));
            if let Ok(policy) = HeaderValue::try_from(policy) {
                tell("ratelimit-policy", policy);
            }
        }
        if let Some(after) = after {
            tell("ratelimit-remaining", 0.into());
            tell("ratelimit-reset", after.into());
        }
    }
}

impl Default for Answers {
    fn default() -> Self {
        Self { retry_after: DEFAULT_RETRY_AFTER, quota: None }
    }
}

/// Rounded up, so that nobody comes back too early.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use stockade_core::Error;

    use super::*;

    fn answer(error: Error<std::io::Error>) -> Response<String> {
        refusal(&error)
    }

    #[test]
    fn each_refusal_has_the_status_of_the_table() {
        use Reason::*;
        let row = |layer, reasons: &[Reason], status, after: Option<&str>| {
            for &reason in reasons {
                let answer = answer(Rejected::new(layer, reason).into());
                assert_eq!(answer.status(), status, "{layer} {reason:?}");
                assert_eq!(answer.body(), reason.as_str());
                let told = answer.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap());
                assert_eq!(told, after, "{layer} {reason:?}");
            }
        };
        row(&"rate", &[RateLimited, QueueFull, WaitExceeded], 429, Some("1"));
        row(&"rate", &[TooCostly], 429, None);
        row(&"limit", &[QueueFull, WaitExceeded, Shed], 503, Some("1"));
        row(&"pool", &[QueueFull, PoolClosed, Cancelled, Shed], 503, Some("1"));
        row(&"breaker", &[BreakerOpen, ForcedOpen], 503, Some("1"));
        row(&"rate", &[Unavailable], 503, Some("1"));
        row(&"timeout", &[Elapsed], 504, None);
        row(&"rate", &[Expired], 504, None);
        row(&"pool", &[Panicked], 500, None);
    }

    /// The rows of the table in the documentation for refusals by `layer`: reasons, status and `Retry-After`.
    fn table(layer: &str) -> impl Iterator<Item = (Vec<Reason>, &'static str, &'static str)> {
        let is_rate = layer == "rate";
        let cells = move |line: &'static str| {
            let row = line.strip_prefix("//! | ")?;
            let mut cells = row.split('|').map(str::trim);
            let is_meant = match cells.next()? {
                "any layer" => true,
                "rate limit" => is_rate,
                "any other layer" => !is_rate,
                _ => false,
            };
            let (reasons, status, after) = (cells.next()?, cells.next()?, cells.next()?);
            let is_named = |reason: &Reason| reasons.contains(&format!("`{reason:?}`"));
            let reasons = Reason::ALL.into_iter().filter(is_named).collect();
            is_meant.then_some((reasons, status, after))
        };
        include_str!("../http.rs").lines().filter_map(cells)
    }

    #[test]
    fn the_table_of_the_documentation_has_each_reason_once_and_is_true() {
        const LAYERS: [&&str; 6] = [&"rate", &"limit", &"pool", &"breaker", &"timeout", &"extract"];
        let all = LAYERS.into_iter().flat_map(|layer| Reason::ALL.map(|reason| (layer, reason)));
        for (layer, reason) in all {
            let mut rows = table(layer).filter(|(reasons, ..)| reasons.contains(&reason));
            let (_, status, after) = rows.next().expect("a row");
            assert!(rows.next().is_none(), "{layer} {reason:?} is there twice");
            let silent = Rejected::new(layer, reason);
            for rejected in [silent, silent.with_retry_after(Duration::from_secs(7))] {
                let answer = answer(rejected.into());
                assert_eq!(answer.status().as_str(), status, "{layer} {reason:?}");
                let says = rejected.retry_after().map(|after| after.as_secs());
                let expected = match after {
                    "always" => Some(says.unwrap_or(1)),
                    "if the layer says so" => says,
                    "" => None,
                    _ => panic!("{after}"),
                };
                let told = answer.headers().get(RETRY_AFTER);
                assert_eq!(told, expected.map(HeaderValue::from).as_ref(), "{layer} {reason:?}");
                assert!(status != "503" || told.is_some(), "a 503 always says when to come back");
                let rate_is_told = status == "429" && told.is_some();
                for header in ["ratelimit-remaining", "ratelimit-reset"] {
                    assert_eq!(answer.headers().contains_key(header), rate_is_told, "{reason:?}");
                }
            }
        }
    }

    #[test]
    fn the_time_to_come_back_is_rounded_up_to_whole_seconds() {
        for (millis, seconds) in
            [(0, "0"), (1, "1"), (999, "1"), (1_000, "1"), (1_001, "2"), (60_000, "60")]
        {
            let after = Duration::from_millis(millis);
            let rejected = Rejected::new(&"breaker", Reason::BreakerOpen).with_retry_after(after);
            assert_eq!(answer(rejected.into()).headers()[RETRY_AFTER], seconds);
        }
    }

    #[test]
    fn a_429_says_that_nothing_remains_and_until_when() {
        let after = Duration::from_millis(14_001);
        let rejected = Rejected::new(&"rate", Reason::RateLimited).with_retry_after(after);
        let answers = Answers { quota: Some((4, Duration::from_secs(60))), ..Answers::default() };
        let answer: Response<String> = answers.respond(Some(&rejected));
        for (name, value) in [
            ("ratelimit-limit", "4"),
            ("ratelimit-policy", "4;w=60"),
            ("ratelimit-remaining", "0"),
            ("ratelimit-reset", "15"),
            ("retry-after", "15"),
        ] {
            assert_eq!(answer.headers()[name], value, "{name}");
        }
        let full = Rejected::new(&"limit", Reason::QueueFull);
        let answer: Response<String> = answers.respond(Some(&full));
        assert!(!answer.headers().contains_key("ratelimit-remaining"), "it is no rate");
    }

    #[test]
    fn an_error_of_the_service_itself_is_not_told() {
        let answer = answer(Error::Service(std::io::Error::other("password: hunter2")));
        assert_eq!(answer.status(), 500);
        assert_eq!(answer.body(), "internal server error");
    }

    #[test]
    fn the_limit_of_a_timeout_is_no_time_to_come_back() {
        let limit = Duration::from_secs(2);
        let rejected = Rejected::new(&"timeout", Reason::Elapsed).with_limit(limit);
        assert!(!answer(rejected.into()).headers().contains_key(RETRY_AFTER));
    }
}
