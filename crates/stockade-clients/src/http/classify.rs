//! The classifier.

use std::{
    error::Error as StdError,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, Response, StatusCode, header::RETRY_AFTER};
use stockade_core::{Class, Classify};

use super::{BadStatus, class, retry_after};
use crate::{Cause, MAX_RETRY_AFTER, judge};

/// Judges the results of HTTP clients, for `RetryLayer::classify` and `BreakerLayer::classify`.
///
/// What it makes of which result is in the table on the [module's](super) page. It reads the clock only for an
/// answer with a `Retry-After`.
///
/// # Example
///
/// ```
/// use http::{Request, Response};
/// use stockade_breaker::BreakerLayer;
/// use stockade_clients::http::{Http, idempotent};
/// use stockade_core::Error;
/// use stockade_retry::RetryLayer;
/// use tower::ServiceBuilder;
///
/// let retry = RetryLayer::max_attempts(3).classify(Http::new()).idempotent(idempotent::<String>);
/// let client = ServiceBuilder::new()
///     .layer(retry)
///     .layer(BreakerLayer::new().classify(Http::new()))
///     .map_err(Error::Service)
///     .service_fn(async |_: Request<String>| Ok::<_, std::io::Error>(Response::new("hello")));
/// # fn check(_: &impl tower::Service<Request<String>>) {}
/// # check(&client);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http {
    max_retry_after: Duration,
    hint_means_unprocessed: bool,
    ignore_rate_limited: bool,
}

/// An answer to an HTTP request, by its status and headers.
///
/// Implement it for a response type of your own to have [`Http`] judge it.
pub trait Answer {
    /// Its status.
    fn status(&self) -> StatusCode;
    /// Its headers.
    fn headers(&self) -> &HeaderMap;
}

// === impl Http ===

impl Http {
    /// With hints of up to [`MAX_RETRY_AFTER`].
    pub const fn new() -> Self {
        Self {
            max_retry_after: MAX_RETRY_AFTER,
            hint_means_unprocessed: false,
            ignore_rate_limited: false,
        }
    }

    /// Takes a 503 with a `Retry-After` for a request that the server has not begun to process, so that it is
    /// repeated whatever its method.
    ///
    /// RFC 9110 does not say so, but load balancers and admission control mean it: say so where that is what
    /// answers.
    #[must_use]
    pub const fn hint_means_unprocessed(mut self) -> Self {
        self.hint_means_unprocessed = true;
        self
    }

    /// Ignores a 429: for the breaker around a client that many callers share, where the server limits each of them.
    ///
    /// Such a 429 says that one caller asks too often, and nothing about the server. If it counted as a failure, one
    /// greedy caller would open the breaker for all. The retry layer keeps a classifier without this: it repeats
    /// nothing that is ignored.
    ///
    /// # Example
    ///
    /// ```
    /// use stockade_breaker::BreakerLayer;
    /// use stockade_clients::http::Http;
    ///
    /// let breaker = BreakerLayer::new().classify(Http::new().ignore_rate_limited());
    /// # let _ = breaker;
    /// ```
    #[must_use]
    pub const fn ignore_rate_limited(mut self) -> Self {
        self.ignore_rate_limited = true;
        self
    }

    /// Cuts longer hints to this.
    #[must_use]
    pub const fn max_retry_after(mut self, max: Duration) -> Self {
        self.max_retry_after = max;
        self
    }

    fn answer(self, answer: &impl Answer) -> Class {
        let status = answer.status();
        if self.ignores(status) {
            return Class::Ignored;
        }
        let headers = answer.headers();
        let after = if headers.contains_key(RETRY_AFTER) {
            retry_after(headers, SystemTime::now()).map(|after| after.min(self.max_retry_after))
        } else {
            None
        };
        match class(status, after) {
            Class::Overload { after: Some(after), .. } if self.hint_means_unprocessed => {
                Class::Overload { after: Some(after), processed: false }
            }
            class => class,
        }
    }

    fn ignores(self, status: StatusCode) -> bool {
        self.ignore_rate_limited && status == StatusCode::TOO_MANY_REQUESTS
    }

    /// What the errors of the clients say about themselves.
    fn failure(self, error: &(dyn StdError + 'static)) -> Option<Class> {
        // First, because to the clients it is a connection that could not be made.
        if judge::is_about_a_certificate(error) {
            return Some(Class::Permanent);
        }
        if let Some(bad) = judge::find::<BadStatus>(error) {
            return Some(if self.ignores(bad.status()) { Class::Ignored } else { bad.class() });
        }
        #[cfg(feature = "reqwest")]
        if let Some(error) = judge::find::<reqwest::Error>(error) {
            if error.status().is_some_and(|status| self.ignores(status)) {
                return Some(Class::Ignored);
            }
            if let Some(class) = crate::reqwest::failure(error) {
                return Some(class);
            }
        }
        #[cfg(feature = "hyper-util")]
        if let Some(error) = judge::find::<hyper_util::client::legacy::Error>(error)
            && error.is_connect()
        {
            return Some(Class::NoEffect { after: None });
        }
        let not_begun = judge::refused(error).or_else(|| judge::never_sent(error));
        not_begun.or_else(|| judge::sent_back(error))
    }
}

impl Default for Http {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Answer, E: Cause> Classify<T, E> for Http {
    fn classify(&self, result: Result<&T, &E>) -> Class {
        match result {
            Ok(answer) => self.answer(answer),
            Err(error) => judge::error(error, |error| self.failure(error)),
        }
    }
}

// === impl Answer ===

impl<B> Answer for Response<B> {
    fn status(&self) -> StatusCode {
        self.status()
    }

    fn headers(&self) -> &HeaderMap {
        self.headers()
    }
}

#[cfg(feature = "reqwest")]
impl Answer for reqwest::Response {
    fn status(&self) -> StatusCode {
        self.status()
    }

    fn headers(&self) -> &HeaderMap {
        self.headers()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use stockade_breaker::{BreakerLayer, State};
    use stockade_core::{BoxError, Error, LayerError, Reason, Rejected};
    use tower::{ServiceBuilder, ServiceExt};

    use super::*;

    fn answer(status: u16, hint: Option<&str>) -> Response<()> {
        let builder = Response::builder().status(status);
        let builder = hint.into_iter().fold(builder, |b, hint| b.header(RETRY_AFTER, hint));
        builder.body(()).unwrap()
    }

    fn of_answer(http: Http, status: u16, hint: Option<&str>) -> Class {
        http.classify(Ok::<_, &Error<io::Error>>(&answer(status, hint)))
    }

    fn of_error<E: Cause>(error: E) -> Class {
        Http::new().classify(Err::<&Response<()>, _>(&error))
    }

    #[test]
    fn the_hint_comes_with_the_answer_up_to_the_cap() {
        let http = Http::new();
        let hint = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(
            of_answer(http, 429, Some("7")),
            Class::Overload { after: hint(7), processed: false }
        );
        assert_eq!(of_answer(http, 502, Some("7")), Class::Transient { after: hint(7) });
        assert_eq!(of_answer(http, 503, None), Class::OVERLOAD);
        let long = Some("Fri, 31 Dec 9999 23:59:59 GMT");
        for hint in [Some("301"), long] {
            let capped = Class::Overload { after: Some(MAX_RETRY_AFTER), processed: true };
            assert_eq!(of_answer(http, 503, hint), capped);
        }
        let http = http.max_retry_after(Duration::from_secs(2));
        assert_eq!(
            of_answer(http, 503, Some("3")),
            Class::Overload { after: hint(2), processed: true }
        );
        let unprocessed = Class::Overload { after: hint(2), processed: false };
        assert_eq!(of_answer(http.hint_means_unprocessed(), 503, Some("3")), unprocessed);
        assert_eq!(of_answer(http.hint_means_unprocessed(), 503, None), Class::OVERLOAD);
        let past = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(of_answer(http, 503, past), Class::Overload { after: hint(0), processed: true });
    }

    #[test]
    fn a_429_counts_for_nothing_where_it_is_ignored_and_all_else_as_before() {
        let http = Http::new().ignore_rate_limited();
        assert_eq!(of_answer(http, 429, None), Class::Ignored);
        assert_eq!(of_answer(http.hint_means_unprocessed(), 429, Some("7")), Class::Ignored);
        for status in [200, 403, 404, 500, 503] {
            let (with, without) =
                (of_answer(http, status, Some("7")), of_answer(Http::new(), status, Some("7")));
            assert_eq!(with, without, "{status}");
        }
    }

    #[cfg(feature = "reqwest")]
    #[test]
    fn a_429_that_was_made_an_error_is_ignored_as_well() {
        let answer = Response::builder().status(429).body("").unwrap();
        let error = reqwest::Response::from(answer).error_for_status().unwrap_err();
        let error = Error::Service(error);
        let class = |http: Http| http.classify(Err::<&Response<()>, _>(&error));
        assert_eq!(class(Http::new().ignore_rate_limited()), Class::Ignored);
        assert_eq!(class(Http::new()), Class::Overload { after: None, processed: false });
    }

    #[tokio::test(start_paused = true)]
    async fn one_greedy_tenant_opens_no_breaker_where_its_429_is_ignored() {
        for (http, state) in
            [(Http::new(), State::Open), (Http::new().ignore_rate_limited(), State::Closed)]
        {
            let (breaker, handle) = BreakerLayer::new().consecutive(3).classify(http).with_handle();
            let server = async |greedy: bool| {
                let status = if greedy { 429 } else { 200 };
                Ok::<_, io::Error>(answer(status, Some("1")))
            };
            let stack = ServiceBuilder::new().layer(breaker).map_err(Error::Service);
            let stack = stack.service_fn(server);
            for _ in 0..5 {
                let _ = stack.clone().oneshot(true).await;
            }
            assert_eq!(handle.state(), state);
            assert_eq!(stack.oneshot(false).await.is_ok(), state == State::Closed);
        }
    }

    #[test]
    fn a_hint_that_makes_no_sense_leaves_the_class_as_it_is_without_one() {
        let rows = [
            ("0", Some(Duration::ZERO)),
            ("-1", None),
            ("0.2", Some(Duration::from_secs(1))),
            // 10 to the power of 30.
            ("1000000000000000000000000000000", Some(MAX_RETRY_AFTER)),
            ("1e30", None),
            ("tomorrow", None),
            ("NaN", None),
            ("", None),
        ];
        for (hint, after) in rows {
            let overload = |processed| Class::Overload { after, processed };
            assert_eq!(of_answer(Http::new(), 429, Some(hint)), overload(false), "{hint}");
            assert_eq!(of_answer(Http::new(), 503, Some(hint)), overload(true), "{hint}");
            let transient = Class::Transient { after };
            assert_eq!(of_answer(Http::new(), 500, Some(hint)), transient, "{hint}");
            // What is refused for good is refused for a time where there is one.
            let refused = if after.is_some() { overload(false) } else { Class::Permanent };
            assert_eq!(of_answer(Http::new(), 403, Some(hint)), refused, "{hint}");
        }
    }

    #[test]
    fn a_redirect_with_a_hint_is_a_success() {
        assert_eq!(of_answer(Http::new(), 301, Some("7")), Class::Success);
    }

    #[test]
    fn a_refused_connection_has_no_effect_wherever_it_is_in_the_error() {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let no_effect = Class::NoEffect { after: None };
        assert_eq!(of_error(Error::Service(refused())), no_effect);
        assert_eq!(of_error(Error::Service(io::Error::other(refused()))), no_effect);
        assert_eq!(of_error(BoxError::from(refused())), no_effect);
        assert_eq!(
            of_error(BoxError::from(Error::Service(io::Error::other(refused())))),
            no_effect
        );
    }

    #[test]
    fn an_enum_of_ones_own_is_judged_by_the_cause_that_it_tells() {
        enum AppError {
            Refused(Rejected),
            Client(io::Error),
            NoSuchUser,
        }

        impl From<Rejected> for AppError {
            fn from(rejected: Rejected) -> Self {
                Self::Refused(rejected)
            }
        }

        impl LayerError for AppError {
            fn rejected(&self) -> Option<&Rejected> {
                match self {
                    Self::Refused(rejected) => Some(rejected),
                    Self::Client(_) | Self::NoSuchUser => None,
                }
            }
        }

        impl Cause for AppError {
            fn cause(&self) -> Option<&(dyn StdError + 'static)> {
                match self {
                    Self::Client(error) => Some(error),
                    Self::Refused(_) | Self::NoSuchUser => None,
                }
            }
        }

        let no_effect = Class::NoEffect { after: None };
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(of_error(AppError::Client(refused)), no_effect);
        assert_eq!(of_error(AppError::from(Rejected::new(&"limit", Reason::QueueFull))), no_effect);
        assert_eq!(of_error(AppError::NoSuchUser), Class::Transient { after: None });
    }

    #[test]
    fn any_other_error_is_transient() {
        for kind in
            [io::ErrorKind::ConnectionReset, io::ErrorKind::UnexpectedEof, io::ErrorKind::TimedOut]
        {
            assert_eq!(
                of_error(Error::Service(io::Error::from(kind))),
                Class::Transient { after: None }
            );
        }
    }

    #[test]
    fn refusals_of_layers_inside_are_judged_as_by_default() {
        let after = Duration::from_millis(5);
        let open = Rejected::new(&"breaker", Reason::BreakerOpen).with_retry_after(after);
        assert_eq!(
            of_error(Error::<io::Error>::from(open)),
            Class::NoEffect { after: Some(after) }
        );
        assert_eq!(of_error(BoxError::from(open)), Class::NoEffect { after: Some(after) });
        let elapsed = Rejected::new(&"timeout", Reason::Elapsed);
        assert_eq!(of_error(Error::<io::Error>::from(elapsed)), Class::Transient { after: None });
    }
}
