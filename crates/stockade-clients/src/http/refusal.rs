//! The way back: a layer's refusal as a server's answer.

use std::time::Duration;

use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use stockade_core::{LayerError, Reason, Rejected};

/// The answer of a server whose own layers ended a request with `error`. The table is on the
/// [module's](super) page.
///
/// The body says in a few words why, without the name or kind of the layer. Of an error that is no refusal it
/// says nothing, because such a one may tell more than a stranger is to know: log it.
///
/// # Example
///
/// ```
/// use axum::{Router, body::Body, error_handling::HandleErrorLayer, routing::get};
/// use stockade_clients::http;
/// use stockade_core::{BoxError, Error};
/// use stockade_limit::LimitLayer;
/// use tower::ServiceBuilder;
///
/// let app: Router = Router::new().route("/", get("hello")).layer(
///     ServiceBuilder::new()
///         .layer(HandleErrorLayer::new(async |error: BoxError| http::refusal::<Body, _>(&error)))
///         .layer(LimitLayer::new(64).queue(0))
///         .map_err(BoxError::from),
/// );
/// ```
pub fn refusal<B, E>(error: &E) -> Response<B>
where
    B: From<&'static str>,
    E: LayerError,
{
    let (status, text, after) = match error.rejected() {
        Some(rejected) => {
            (refusal_status(rejected), rejected.reason().as_str(), rejected.retry_after())
        }
        None => (StatusCode::INTERNAL_SERVER_ERROR, "internal server error", None),
    };
    let mut response = Response::new(B::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if let Some(after) = after {
        headers.insert(RETRY_AFTER, whole_seconds(after).into());
    }
    response
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
        let rows: &[(&[(&'static &'static str, Reason)], u16)] = &[
            (&[(&"rate", Reason::RateLimited), (&"rate", Reason::TooCostly)], 429),
            (&[(&"rate", Reason::QueueFull), (&"rate", Reason::WaitExceeded)], 429),
            (&[(&"limit", Reason::QueueFull), (&"limit", Reason::WaitExceeded)], 503),
            (&[(&"pool", Reason::QueueFull), (&"pool", Reason::PoolClosed)], 503),
            (&[(&"breaker", Reason::BreakerOpen), (&"breaker", Reason::ForcedOpen)], 503),
            (&[(&"pool", Reason::Cancelled), (&"pool", Reason::Shed)], 503),
            (&[(&"timeout", Reason::Elapsed), (&"retry", Reason::Expired)], 504),
            (&[(&"rate", Reason::Expired), (&"pool", Reason::Expired)], 504),
            (&[(&"pool", Reason::Panicked)], 500),
        ];
        for (refusals, status) in rows {
            for &(layer, reason) in *refusals {
                let answer = answer(Rejected::new(layer, reason).into());
                assert_eq!(answer.status(), *status, "{layer} {reason:?}");
                assert_eq!(answer.body(), reason.as_str());
                assert!(!answer.headers().contains_key(RETRY_AFTER));
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
