//! Whether a request may be repeated, and how to copy it.

use http::{HeaderMap, Method, Request, Uri, uri::Authority};
use http_body::Body;
use stockade_retry::{Policy, RetryLayer};

use super::Http;

/// A retry layer for HTTP requests: at most `max_attempts` attempts of one call, the first one included.
///
/// It judges results by [`Http`], and repeats what may have had an effect only if it is [`idempotent`]. A request is
/// copied by its `Clone`; where its body has none, add [`clone_request`] or the like, as below. The other setters are
/// still there, and so is each of these: a later one replaces what is set here.
///
/// # Panics
///
/// If `max_attempts` is zero.
///
/// # Example
///
/// ```
/// use axum::body::Body;
/// use stockade_clients::http;
///
/// let in_memory = http::retry::<String>(3);
/// let streamed = http::retry::<Body>(3).clone_request(http::clone_request::<Body>);
/// # let _ = (in_memory, streamed);
/// ```
#[track_caller]
pub fn retry<B>(max_attempts: u32) -> RetryLayer<RetryPolicy<B>> {
    let idempotent: fn(&_) -> _ = idempotent;
    RetryLayer::max_attempts(max_attempts).classify(Http::new()).idempotent(idempotent)
}

/// What [`retry`] sets.
pub type RetryPolicy<B> = Policy<Http, fn(&Request<B>) -> bool>;

/// Whether a request may be repeated although it may have had an effect, for `RetryLayer::idempotent`.
///
/// # Example
///
/// ```
/// use http::Request;
/// use stockade_clients::http::idempotent;
/// use stockade_retry::RetryLayer;
///
/// let retry = RetryLayer::max_attempts(3).idempotent(idempotent::<String>);
///
/// let order = Request::post("/orders").header("idempotency-key", "8e03978e");
/// assert!(idempotent(&order.body(String::new()).unwrap()));
/// # let _ = retry;
/// ```
pub fn idempotent<B>(request: &Request<B>) -> bool {
    may_repeat(request.method(), request.headers())
}

/// A copy of a request without a body; one that has a body is not copied, and so not repeated. For
/// `RetryLayer::clone_request`.
///
/// This is for bodies that may be streams, and so are not `Clone`. A request whose body is `Clone`, as
/// `Full<Bytes>` is, needs no such function: the retry layer clones it.
///
/// # Example
///
/// ```
/// use stockade_clients::http;
/// use stockade_retry::RetryLayer;
///
/// let retry = RetryLayer::max_attempts(3)
///     .idempotent(http::idempotent::<axum::body::Body>)
///     .clone_request(http::clone_request::<axum::body::Body>);
/// # let _ = retry;
/// ```
pub fn clone_request<B: Body + Default>(request: &Request<B>) -> Option<Request<B>> {
    request.body().is_end_stream().then(|| copy(request, B::default()))
}

/// A copy of a request whose body is copied by `clone_body`, if it can be. For `RetryLayer::clone_request`.
///
/// This is for the bodies of clients that can copy what is in memory, as those of kube and octocrab:
/// `clone_request_with(Body::try_clone)`.
pub fn clone_request_with<B>(
    clone_body: impl Fn(&B) -> Option<B> + Clone,
) -> impl Fn(&Request<B>) -> Option<Request<B>> + Clone {
    move |request| Some(copy(request, clone_body(request.body())?))
}

/// The request with another body.
pub(super) fn copy<B>(request: &Request<B>, body: B) -> Request<B> {
    let mut copy = Request::new(body);
    request.method().clone_into(copy.method_mut());
    request.uri().clone_into(copy.uri_mut());
    *copy.version_mut() = request.version();
    request.headers().clone_into(copy.headers_mut());
    request.extensions().clone_into(copy.extensions_mut());
    copy
}

/// The request without user and password in its URI, for `ServiceBuilder::map_request` right above the client.
///
/// hyper does not log in with them, but its client's connection pool logs them.
pub fn without_credentials<B>(mut request: Request<B>) -> Request<B> {
    let authority = request.uri().authority().map(Authority::as_str);
    if let Some((_, host)) = authority.and_then(|authority| authority.rsplit_once('@')) {
        let mut parts = request.uri().clone().into_parts();
        parts.authority = host.parse().ok();
        // What is left may be no URI, and then it is not one to be sent to either.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    }
    request
}

/// By method (RFC 9110, section 9.2.2), or because the server can tell a repetition by its key.
pub(crate) fn may_repeat(method: &Method, headers: &HeaderMap) -> bool {
    method.is_idempotent() || headers.contains_key("idempotency-key")
}

#[cfg(test)]
mod tests {
    use axum::body::Body as AxumBody;
    use http::{Version, header::ACCEPT};

    use super::*;

    #[test]
    fn a_request_may_be_repeated_by_its_method_or_its_key() {
        let rows = [
            ("GET", true),
            ("HEAD", true),
            ("OPTIONS", true),
            ("TRACE", true),
            ("PUT", true),
            ("DELETE", true),
            ("POST", false),
            ("PATCH", false),
            ("CONNECT", false),
            ("BREW", false),
        ];
        for (method, expected) in rows {
            let request = || Request::builder().method(method).uri("/");
            assert_eq!(idempotent(&request().body(()).unwrap()), expected, "{method}");
            let with_key = request().header("Idempotency-Key", "1").body(()).unwrap();
            assert!(idempotent(&with_key), "{method}");
        }
    }

    #[test]
    fn a_request_without_credentials_is_otherwise_the_same() {
        for (before, after) in [
            ("http://me:pass@host:80/a?b=c@d", "http://host:80/a?b=c@d"),
            ("http://me@[::1]/", "http://[::1]/"),
            ("http://host:80/a@b", "http://host:80/a@b"),
            ("/a@b?c", "/a@b?c"),
        ] {
            let request = without_credentials(Request::post(before).body(7).unwrap());
            assert_eq!((request.uri(), request.body()), (&after.parse().unwrap(), &7));
            assert_eq!(request.method(), Method::POST);
        }
    }

    #[test]
    fn a_request_without_a_body_is_copied_with_all_that_it_has() {
        let request = Request::put("/a?b=c")
            .version(Version::HTTP_2)
            .header(ACCEPT, "text/plain")
            .extension(7_u8)
            .body(AxumBody::empty())
            .unwrap();
        let copy = clone_request(&request).unwrap();
        assert_eq!((copy.method(), copy.uri()), (&Method::PUT, &"/a?b=c".parse().unwrap()));
        assert_eq!((copy.version(), copy.headers()), (Version::HTTP_2, request.headers()));
        assert_eq!(copy.extensions().get(), Some(&7_u8));
        assert!(copy.body().is_end_stream());
    }

    #[test]
    fn a_body_is_copied_by_what_its_client_has_for_that() {
        let clone = clone_request_with(|body: &Option<u8>| body.map(|_| Some(8)));
        let request = |body| Request::post("/a").header(ACCEPT, "text/plain").body(body).unwrap();
        let copy = clone(&request(Some(7))).unwrap();
        assert_eq!((copy.method(), copy.body()), (&Method::POST, &Some(8)));
        assert_eq!(copy.headers()[ACCEPT], "text/plain");
        assert!(clone(&request(None)).is_none());
    }

    #[test]
    fn a_request_with_a_body_is_not_copied() {
        let stream =
            AxumBody::from_stream(futures_util::stream::iter([Ok::<_, std::io::Error>("a")]));
        for body in [AxumBody::from("whole"), stream] {
            assert!(clone_request(&Request::new(body)).is_none());
        }
    }
}
