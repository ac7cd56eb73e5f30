//! A bad status as an error, for layers that look at errors alone.

use std::{error::Error as StdError, fmt, time::SystemTime};

use http::StatusCode;
use stockade_core::{BoxError, Class};

use super::{Answer, class, retry_after};

/// The server answered with a status that says that it failed. Made by [`status_to_error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadStatus {
    status: StatusCode,
    class: Class,
}

/// Makes an error of an answer whose status says that the server failed, for `ServiceBuilder::map_result`.
///
/// To a client an answer with the status 500 is an answer, `Ok`, and a layer that looks at errors alone does not see
/// it, such as a fallback. Put this right below that layer, and above the retry layer and the breaker, which judge
/// answers themselves.
///
/// The statuses are those for which [`class`] says neither `Success` nor `Permanent`: 408, 421, 425, 429 and most 5xx.
/// A 404 stays an answer. The body is dropped.
///
/// # Errors
///
/// That of the call, or a [`BadStatus`], boxed.
///
/// # Example
///
/// ```
/// use http::Response;
/// use stockade_clients::http::{BadStatus, status_to_error};
/// use stockade_core::BoxError;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let svc = ServiceBuilder::new()
///     .map_result(status_to_error)
///     .service_fn(async |status: u16| {
///         Ok::<_, BoxError>(Response::builder().status(status).body(()).unwrap())
///     });
/// assert!(svc.clone().oneshot(404).await.is_ok());
/// let error = svc.oneshot(500).await.unwrap_err();
/// assert_eq!(error.to_string(), "the server answered 500 Internal Server Error");
/// assert_eq!(error.downcast_ref::<BadStatus>().unwrap().status(), 500);
/// # }
/// ```
pub fn status_to_error<A: Answer, E: Into<BoxError>>(result: Result<A, E>) -> Result<A, BoxError> {
    let answer = result.map_err(E::into)?;
    let status = answer.status();
    match class(status, None) {
        Class::Success | Class::Permanent => Ok(answer),
        _ => {
            let after = retry_after(answer.headers(), SystemTime::now());
            Err(BadStatus { status, class: class(status, after) }.into())
        }
    }
}

// === impl BadStatus ===

impl BadStatus {
    /// The status.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// What it means, with the answer's `Retry-After`.
    pub const fn class(&self) -> Class {
        self.class
    }
}

impl fmt::Display for BadStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {}", self.status)
    }
}

impl StdError for BadStatus {}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::atomic::{AtomicU32, Ordering::Relaxed},
        time::Duration,
    };

    use http::{Request, Response, header::RETRY_AFTER};
    use stockade_core::{Classify, Error};
    use stockade_fallback::FallbackLayer;
    use tower::{ServiceBuilder, ServiceExt};

    use super::*;
    use crate::http::{Http, retry};

    #[tokio::test(start_paused = true)]
    async fn a_fallback_answers_a_500_that_retry_gave_up_on_and_leaves_a_404_alone() {
        let calls = AtomicU32::new(0);
        let answer = |status: u16| Response::builder().status(status).body("from the server");
        let stack = ServiceBuilder::new()
            .layer(FallbackLayer::new(async |_: BoxError| Ok(Response::new("as yesterday"))))
            .map_result(status_to_error)
            .layer(retry::<u16>(3))
            .map_err(Error::Service)
            .service_fn(|request: Request<u16>| {
                calls.fetch_add(1, Relaxed);
                let status = *request.body();
                async move { Ok::<_, io::Error>(answer(status).unwrap()) }
            });
        let said = stack.clone().oneshot(Request::new(500)).await.unwrap();
        assert_eq!((*said.body(), calls.load(Relaxed)), ("as yesterday", 3));
        for status in [200, 404] {
            let said = stack.clone().oneshot(Request::new(status)).await.unwrap();
            assert_eq!(*said.body(), "from the server", "{status}");
        }
    }

    #[test]
    fn a_status_means_the_same_as_an_error() {
        let answer = Response::builder().status(503).header(RETRY_AFTER, "7").body(()).unwrap();
        let error = status_to_error(Ok::<_, io::Error>(answer)).unwrap_err();
        let class = Class::Overload { after: Some(Duration::from_secs(7)), processed: true };
        assert_eq!(error.downcast_ref::<BadStatus>().unwrap().class(), class);
        assert_eq!(Http::new().classify(Err::<&Response<()>, _>(&error)), class);
    }

    #[cfg(feature = "reqwest")]
    #[test]
    fn answers_of_reqwest_become_errors_as_well() {
        let answer = Response::builder().status(502).body("").unwrap();
        let answer = reqwest::Response::from(answer);
        let error = status_to_error(Ok::<_, reqwest::Error>(answer)).unwrap_err();
        assert_eq!(error.to_string(), "the server answered 502 Bad Gateway");
    }
}
