//! What is special about reqwest: its errors and its requests.
//!
//! Its results are judged by [`http::Http`](crate::http::Http), whose page has the table. A
//! `reqwest::Client` is a `tower` service on its own, so it goes into `ServiceBuilder` as it is. Switch off what
//! it would repeat by itself, and let [`Failure`](crate::Failure) have the URLs of its errors without
//! passwords:
//!
//! ```
//! use std::time::Duration;
//! use stockade_clients::{Failure, http::Http, reqwest as requests};
//! use stockade_core::Error;
//! use stockade_retry::RetryLayer;
//! use tower::ServiceBuilder;
//!
//! # fn main() -> Result<(), reqwest::Error> {
//! let client = reqwest::Client::builder()
//!     .retry(reqwest::retry::never())
//!     .redirect(reqwest::redirect::Policy::none())
//!     .connect_timeout(Duration::from_secs(2))
//!     .build()?;
//! let retry = RetryLayer::new(3)
//!     .classify(Http::new())
//!     .idempotent(requests::idempotent)
//!     .clone_request(requests::clone_request);
//! let stack = ServiceBuilder::new()
//!     .layer(retry)
//!     .map_err(|error| Error::Service(Failure::of(error)))
//!     .service(client);
//! # fn check(_: &impl tower::Service<reqwest::Request>) {}
//! # check(&stack);
//! # Ok(())
//! # }
//! ```
//!
//! Its `Request` keeps the user and password of a URL that it is made from with `Request::new`, and sends
//! neither; `RequestBuilder` turns them into a header.

use reqwest::{Error, Request};
use stockade_core::Class;

use crate::http;

/// Whether a request may be repeated although it may have had an effect, for `RetryLayer::idempotent`: by its
/// method or its `Idempotency-Key`.
pub fn idempotent(request: &Request) -> bool {
    http::may_repeat(request.method(), request.headers())
}

/// A copy of a request, for `RetryLayer::clone_request`. None if its body is a stream, which cannot be sent
/// twice.
pub fn clone_request(request: &Request) -> Option<Request> {
    request.try_clone()
}

/// What `error` says on its own, whatever its sources are.
pub(crate) fn failure(error: &Error) -> Option<Class> {
    if let Some(status) = error.status() {
        Some(http::class(status, None))
    } else if error.is_connect() {
        Some(Class::Unsent { after: None })
    } else if error.is_builder() || error.is_redirect() {
        Some(Class::Permanent)
    } else {
        None
    }
}
