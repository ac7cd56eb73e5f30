//! What is special about reqwest: its errors and its requests.
//!
//! Its results are judged by [`http::Http`], whose page has the table. A
//! `reqwest::Client` is a `tower` service on its own, so it goes into `ServiceBuilder` as it is. Switch off what
//! it would repeat by itself, have answers [read to their end](read_to_end) inside the layers, and their errors
//! [without passwords](crate::Failure):
//!
//! ```
//! use std::time::Duration;
//! use stockade_breaker::BreakerLayer;
//! use stockade_clients::{Failure, http::Http, reqwest as requests};
//! use stockade_core::Error;
//! use tower::ServiceBuilder;
//!
//! # fn main() -> Result<(), reqwest::Error> {
//! let client = reqwest::Client::builder()
//!     .retry(reqwest::retry::never())                // the retry layer does that
//!     .redirect(reqwest::redirect::Policy::none())   // a redirected POST could be sent twice: see below
//!     .connect_timeout(Duration::from_secs(2))       // no connection: repeated even for a POST
//!     .build()?;
//! let stack = ServiceBuilder::new()
//!     .layer(requests::retry(3))
//!     .layer(BreakerLayer::new().classify(Http::new()))
//!     .map_err(|error| Error::Service(Failure::of(error)))
//!     .and_then(requests::read_to_end)
//!     .map_request(requests::without_credentials)
//!     .service(client);
//! # fn check(_: &impl tower::Service<reqwest::Request>) {}
//! # check(&stack);
//! # Ok(())
//! # }
//! ```
//!
//! [`retry`] is a `RetryLayer` that knows what a status means and sends no POST twice. Without its setters, a
//! `RetryLayer` takes every answer for a success, and repeats every request.
//!
//! # Redirects
//!
//! Switch them off where a POST must not be sent twice. When the connection to the second server fails, the error looks as if
//! no connection had been made at all, so the POST is sent again, although the first server has had it. A GET can follow
//! redirects, since it may be repeated in any case.
//!
//! # Passwords in URLs
//!
//! A `RequestBuilder`, and so `Client::get`, takes user and password out of a URL and sends them as a header. A
//! `Request` made by `Request::new` keeps them in the URL and sends neither, but they get into its errors, and into
//! what the client's connection pool logs: [`without_credentials`] and [`Failure`](crate::Failure) keep them out.

use std::mem;

use ::http::{HeaderMap, header::CONTENT_LENGTH};
use bytes::Bytes;
use reqwest::{Error, Request, Response, Url};
use stockade_core::{Class, KeyOf};
use stockade_retry::{Policy, RetryLayer};

use crate::http::{self, HostKey, HostRef, Http};

/// Reads the host that a `reqwest::Request` goes to, for the key of a `KeyedLayer`: a breaker and a limit for each host.
/// Looking a host up allocates nothing.
///
/// # Example
///
/// ```
/// use stockade_clients::reqwest::ByHost;
/// use stockade_core::KeyOf;
///
/// let request = reqwest::Client::new().get("https://example.com/a").build().unwrap();
/// assert_eq!(ByHost.key_of(&request).to_key().to_string(), "https://example.com:443");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ByHost;

impl KeyOf<Request> for ByHost {
    type Key = HostKey;
    type Found<'a> = HostRef<'a>;

    fn key_of<'a>(&self, request: &'a Request) -> HostRef<'a> {
        let url = request.url();
        HostRef::new(url.scheme(), url.host_str().unwrap_or(""), url.port())
    }
}

/// A retry layer for requests of reqwest: at most `max_attempts` attempts of one call, the first one included.
///
/// It judges results by [`Http`], repeats what may have had an effect only if it is [`idempotent`], and copies requests
/// by [`clone_request`]. The other setters are still there, and so are these three: a later one replaces what is set
/// here.
///
/// # Panics
///
/// If `max_attempts` is zero.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use stockade_clients::{http::Http, reqwest::retry};
///
/// let layer = retry(3).max_elapsed(Duration::from_secs(10));
/// let patient = retry(3).classify(Http::new().max_retry_after(Duration::from_secs(3_600)));
/// # let _ = (layer, patient);
/// ```
#[track_caller]
pub fn retry(max_attempts: u32) -> RetryLayer<RetryPolicy> {
    let (idempotent, clone_request): (fn(&_) -> _, fn(&_) -> _) = (idempotent, clone_request);
    RetryLayer::max_attempts(max_attempts)
        .classify(Http::new())
        .idempotent(idempotent)
        .clone_request(clone_request)
}

/// What [`retry`] sets.
pub type RetryPolicy = Policy<Http, fn(&Request) -> bool, fn(&Request) -> Option<Request>>;

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

/// The request without user and password in its URL, for `ServiceBuilder::map_request` right above the client.
///
/// reqwest would not log in with them, but its connection pool logs them.
pub fn without_credentials(mut request: Request) -> Request {
    strip(request.url_mut());
    request
}

/// Takes user and password out of `url`.
pub(crate) fn strip(url: &mut Url) {
    // They fail for URLs that cannot have any.
    let _ = (url.set_username(""), url.set_password(None));
}

/// Reads an answer to its end, for `ServiceBuilder::and_then` right above the client.
///
/// A `Response` is there as soon as its headers are, and what happens to its body is seen by no layer. Read
/// like this, an answer that is cut or stalls midway is a failed call, which can time out and be repeated, and
/// which holds its place in a limit to its end.
///
/// The answer can be handed on to a client of one's own: the headers that belong to the connection on which it came are
/// [removed](http::remove_hop_by_hop), and so is a `Content-Length` that is not that of the body. That of an answer
/// without a body stays, since an answer to `HEAD` tells the length that a `GET` would have. Trailers are lost.
///
/// # Errors
///
/// When the body does not come whole.
pub async fn read_to_end(mut response: Response) -> Result<::http::Response<Bytes>, Error> {
    // The error of a body does not know where it came from.
    let url = response.url().clone();
    let mut whole = ::http::Response::new(Bytes::new());
    *whole.status_mut() = response.status();
    *whole.version_mut() = response.version();
    *whole.headers_mut() = mem::take(response.headers_mut());
    *whole.extensions_mut() = mem::take(response.extensions_mut());
    *whole.body_mut() = response.bytes().await.map_err(|error| error.with_url(url))?;
    http::remove_hop_by_hop(whole.headers_mut());
    let length = whole.body().len();
    if length > 0 && told_length(whole.headers()) != Some(length) {
        whole.headers_mut().remove(CONTENT_LENGTH);
    }
    Ok(whole)
}

fn told_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What `error` says on its own, whatever its sources are.
pub(crate) fn failure(error: &Error) -> Option<Class> {
    if let Some(status) = error.status() {
        Some(http::class(status, None))
    } else if error.is_connect() {
        Some(Class::NoEffect { after: None })
    } else if error.is_builder() || error.is_redirect() {
        Some(Class::Permanent)
    } else {
        None
    }
}
