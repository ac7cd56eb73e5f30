//! The classifier.

use std::{
    error::Error as StdError,
    io,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use stockade_core::{Class, Classify};
use stockade_retry::{Policy, RetryLayer};
use tokio::time::error::Elapsed;
use tonic::{Code, ConnectError, Request, Response, Status};

use super::hint::Hint;
use crate::{Cause, MAX_RETRY_AFTER, http::retry_after, judge};

/// Judges the results of gRPC calls, for `RetryLayer::classify` and `BreakerLayer::classify`.
///
/// What it makes of which result is in the table on the [module's](super) page, with an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grpc {
    max_retry_after: Duration,
}

/// The answer to a gRPC call, in which there may be the status of one that failed.
///
/// Implement it for a response type of your own to have [`Grpc`] judge it.
pub trait Reply {
    /// The headers that may have a `grpc-status`, if that is where it is.
    fn status_headers(&self) -> Option<&HeaderMap>;

    /// The HTTP status of the answer, which counts where there is no `grpc-status`: a proxy may have answered in
    /// place of the server. By default there is none.
    fn http_status(&self) -> Option<StatusCode> {
        None
    }
}

// === impl Grpc ===

impl Grpc {
    /// With hints of up to [`MAX_RETRY_AFTER`].
    pub const fn new() -> Self {
        Self { max_retry_after: MAX_RETRY_AFTER }
    }

    /// Cuts longer hints to this.
    #[must_use]
    pub const fn max_retry_after(mut self, max: Duration) -> Self {
        self.max_retry_after = max;
        self
    }

    fn reply(self, reply: &impl Reply) -> Class {
        let Some(headers) = reply.status_headers() else { return Class::Success };
        match headers.get("grpc-status") {
            Some(code) => {
                self.class(Code::from_bytes(code.as_bytes()), "", Hint::of_headers(headers))
            }
            None => reply.http_status().map_or(Class::Success, |status| {
                let after = self.retry_after(headers);
                match crate::http::class(status, after) {
                    // A page, which is UNKNOWN to gRPC.
                    Class::Success if says_grpc(headers) == Some(false) => {
                        Class::Transient { after }
                    }
                    class => class,
                }
            }),
        }
    }

    fn failure(self, error: &(dyn StdError + 'static)) -> Option<Class> {
        if let Some(status) = judge::find::<Status>(error) {
            let known = judge::chain(status.source()).find_map(of_transport);
            return Some(known.or_else(|| self.of_proxy(status)).unwrap_or_else(|| {
                self.class(status.code(), status.message(), Hint::of_status(status))
            }));
        }
        of_transport(error)
    }

    /// The class of the HTTP status with which a proxy answered in place of the server. It stands in nothing but the
    /// message, whether tonic has made a status of it, or found that the proxy's page is no message; the headers are among
    /// the metadata.
    fn of_proxy(self, status: &Status) -> Option<Class> {
        const TOLD: [&str; 2] =
            ["mapped from HTTP status code ", "while receiving response with status: "];
        let code = TOLD.iter().find_map(|told| status.message().rsplit_once(told)?.1.get(..3))?;
        let code = StatusCode::from_bytes(code.as_bytes()).ok()?;
        let headers: &HeaderMap = status.metadata().as_ref();
        // A server may repeat what a proxy has told it.
        if says_grpc(headers) == Some(true) {
            return None;
        }
        match crate::http::class(code, self.retry_after(headers)) {
            // A page with such a status is no answer all the same.
            Class::Success => None,
            class => Some(class),
        }
    }

    fn retry_after(self, headers: &HeaderMap) -> Option<Duration> {
        let after = retry_after(headers, SystemTime::now());
        after.map(|after| after.min(self.max_retry_after))
    }

    fn class(self, code: Code, message: &str, hint: Hint) -> Class {
        let after = match hint {
            _ if code == Code::Ok => return Class::Success,
            Hint::Never => return Class::Permanent,
            Hint::After(after) => Some(after.min(self.max_retry_after)),
            Hint::None => None,
        };
        match code {
            Code::Ok => Class::Success,
            Code::ResourceExhausted if is_about_size(message) => Class::Permanent,
            Code::ResourceExhausted => Class::Overload { after, processed: true },
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Unknown
            | Code::Internal
            | Code::Aborted
            | Code::Cancelled => Class::Transient { after },
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::DataLoss => Class::Permanent,
        }
    }
}

impl Default for Grpc {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Reply, E: Cause> Classify<T, E> for Grpc {
    fn classify(&self, result: Result<&T, &E>) -> Class {
        match result {
            Ok(reply) => self.reply(reply),
            Err(error) => judge::error(error, |error| self.failure(error)),
        }
    }
}

fn of_transport(error: &(dyn StdError + 'static)) -> Option<Class> {
    if judge::is_about_a_certificate(error) {
        return Some(Class::Permanent);
    }
    if judge::find::<ConnectError>(error).is_some() || is_late_connection(error) {
        return Some(Class::NoEffect { after: None });
    }
    let not_begun = judge::refused(error).or_else(|| judge::never_sent(error));
    not_begun.or_else(|| judge::sent_back(error))
}

/// Whether the `connect_timeout` of an `Endpoint` ended it. tonic calls that no `ConnectError`; what the system says of
/// a connection that is there holds no error.
fn is_late_connection(error: &(dyn StdError + 'static)) -> bool {
    judge::find::<io::Error>(error).and_then(io::Error::get_ref).is_some_and(|e| e.is::<Elapsed>())
}

/// Whether these are the headers of a gRPC answer, if they say so.
fn says_grpc(headers: &HeaderMap) -> Option<bool> {
    let kind = headers.get(CONTENT_TYPE)?;
    Some(kind.as_bytes().starts_with(b"application/grpc"))
}

/// Whether a message, or its metadata, was too large for one side. That has the code of an overload, and nothing but its
/// text tells them apart: here are those of tonic, Go, Java, C++ and .NET.
fn is_about_size(message: &str) -> bool {
    const TOLD: [&str; 5] = [
        "length too large",
        "larger than max",
        "exceeds maximum size",
        "exceeds the maximum",
        "metadata size exceeds",
    ];
    let message = message.to_ascii_lowercase();
    TOLD.iter().any(|told| message.contains(told))
}

// === impl Reply ===

/// A call that failed is an error, so this is the answer of one that succeeded.
impl<M> Reply for Response<M> {
    fn status_headers(&self) -> Option<&HeaderMap> {
        None
    }
}

/// The answer of a `Channel`.
impl<B> Reply for http::Response<B> {
    fn status_headers(&self) -> Option<&HeaderMap> {
        Some(self.headers())
    }

    fn http_status(&self) -> Option<StatusCode> {
        Some(self.status())
    }
}

/// A retry layer for calls of a generated client: at most `max_attempts` attempts of one call, the first one included.
///
/// It judges results by [`Grpc`], and copies requests by [`clone_request`]. What may have had an effect is not repeated,
/// since a request does not say whether it may be: add `.idempotent(|_: &Request<M>| true)` for a method that may be
/// called twice. The other setters are still there.
///
/// # Panics
///
/// If `max_attempts` is zero.
#[track_caller]
pub fn retry<M: Clone>(max_attempts: u32) -> RetryLayer<RetryPolicy<M>> {
    let (never, clone_request): (fn(&_) -> _, fn(&_) -> _) = (|_| false, clone_request);
    RetryLayer::max_attempts(max_attempts)
        .classify(Grpc::new())
        .idempotent(never)
        .clone_request(clone_request)
}

/// What [`retry`] sets.
pub type RetryPolicy<M> =
    Policy<Grpc, fn(&Request<M>) -> bool, fn(&Request<M>) -> Option<Request<M>>>;

/// A copy of a request with its metadata and extensions, for `RetryLayer::clone_request`. A stream of messages
/// is not `Clone`, so it is not taken.
pub fn clone_request<M: Clone>(request: &Request<M>) -> Option<Request<M>> {
    let (metadata, extensions) = (request.metadata().clone(), request.extensions().clone());
    Some(Request::from_parts(metadata, extensions, request.get_ref().clone()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::HeaderValue;
    use stockade_core::{BoxError, Error, Reason, Rejected};
    use tonic::metadata::MetadataMap;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// With a hint of a second in the metadata.
    fn status(code: Code) -> Status {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-retry-pushback-ms", "1000".parse().unwrap());
        Status::with_metadata(code, "", metadata)
    }

    fn of_error<E: Cause>(error: E) -> Class {
        Grpc::new().classify(Err::<&Response<()>, _>(&error))
    }

    fn of_reply(headers: &[(&'static str, &'static str)]) -> Class {
        let mut reply = http::Response::new(());
        for &(name, value) in headers {
            reply.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        Grpc::new().classify(Ok::<_, &Error<io::Error>>(&reply))
    }

    #[test]
    fn each_code_has_the_class_of_the_table() {
        let after = Some(SECOND);
        let (transient, overload) =
            (Class::Transient { after }, Class::Overload { after, processed: true });
        let expected = [
            Class::Success,   // OK
            transient,        // CANCELLED
            transient,        // UNKNOWN
            Class::Permanent, // INVALID_ARGUMENT
            transient,        // DEADLINE_EXCEEDED
            Class::Permanent, // NOT_FOUND
            Class::Permanent, // ALREADY_EXISTS
            Class::Permanent, // PERMISSION_DENIED
            overload,         // RESOURCE_EXHAUSTED
            Class::Permanent, // FAILED_PRECONDITION
            transient,        // ABORTED
            Class::Permanent, // OUT_OF_RANGE
            Class::Permanent, // UNIMPLEMENTED
            transient,        // INTERNAL
            transient,        // UNAVAILABLE
            Class::Permanent, // DATA_LOSS
            Class::Permanent, // UNAUTHENTICATED
        ];
        for (code, expected) in (0..).zip(expected) {
            let code = Code::from_i32(code);
            assert_eq!(of_error(Error::Service(status(code))), expected, "{code:?}");
            assert_eq!(of_error(BoxError::from(status(code))), expected, "{code:?}");
            let boxed_whole = BoxError::from(Error::Service(status(code)));
            assert_eq!(of_error(boxed_whole), expected, "{code:?}");
        }
    }

    #[test]
    fn an_answer_is_a_success_unless_its_headers_have_a_status() {
        let ok = Grpc::new().classify(Ok::<_, &Error<Status>>(&Response::new(())));
        assert_eq!(ok, Class::Success);
        assert_eq!(of_reply(&[]), Class::Success);
        assert_eq!(of_reply(&[("grpc-status", "0")]), Class::Success);
        assert_eq!(of_reply(&[("grpc-status", "5")]), Class::Permanent);
        assert_eq!(of_reply(&[("grpc-status", "14")]), Class::Transient { after: None });
        let hinted = [("grpc-status", "8"), ("grpc-retry-pushback-ms", "1000")];
        assert_eq!(of_reply(&hinted), Class::Overload { after: Some(SECOND), processed: true });
        // Nonsense is UNKNOWN, and details that are no base64 are left alone.
        let nonsense = [("grpc-status", "x"), ("grpc-status-details-bin", "%%")];
        assert_eq!(of_reply(&nonsense), Class::Transient { after: None });
    }

    #[test]
    fn the_http_status_counts_where_there_is_no_grpc_status() {
        let of_http = |status: u16| {
            let reply = http::Response::builder().status(status).header("retry-after", "1");
            let reply = reply.body(()).unwrap();
            Grpc::new().classify(Ok::<_, &Error<io::Error>>(&reply))
        };
        let after = Some(SECOND);
        assert_eq!(of_http(200), Class::Success);
        assert_eq!(of_http(503), Class::Overload { after, processed: true });
        assert_eq!(of_http(429), Class::Overload { after, processed: false });
        assert_eq!(of_http(502), Class::Transient { after });
        assert_eq!(of_http(404), Class::Permanent);
    }

    #[test]
    fn a_page_in_place_of_an_answer_is_no_success() {
        assert_eq!(of_reply(&[("content-type", "application/grpc+proto")]), Class::Success);
        let page = Class::Transient { after: None };
        assert_eq!(of_reply(&[("content-type", "text/html")]), page);
    }

    #[test]
    fn a_page_that_is_no_message_is_judged_by_its_http_status() {
        let flag = "protocol error: received message with invalid compression flag: 60 (valid flags \
            are 0 and 1) while receiving response with status";
        for (status, class) in [
            ("503 Service Unavailable", Class::OVERLOAD),
            ("429 Too Many Requests", Class::Overload { after: None, processed: false }),
            ("502 Bad Gateway", Class::Transient { after: None }),
            ("404 Not Found", Class::Permanent),
            ("200 OK", Class::Transient { after: None }),
        ] {
            let error = Error::Service(Status::internal(format!("{flag}: {status}")));
            assert_eq!(of_error(error), class, "{status}");
        }
    }

    #[test]
    fn odd_hints_are_cut_rounded_up_or_left_out() {
        let after = |hint: &'static str| {
            let reply = http::Response::builder().status(503).header("retry-after", hint);
            let reply = reply.body(()).unwrap();
            Grpc::new().classify(Ok::<_, &Error<io::Error>>(&reply)).after()
        };
        assert_eq!(after("0"), Some(Duration::ZERO));
        assert_eq!(after("0.2"), Some(SECOND));
        assert_eq!(after("1000000000000000000000000000000"), Some(MAX_RETRY_AFTER));
        for nonsense in ["-1", "tomorrow", ""] {
            assert_eq!(after(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn a_message_that_is_too_large_is_permanent() {
        for message in [
            "Error, decoded message length too large: found 9 bytes, the limit is: 4 bytes",
            "grpc: received message larger than max (9 vs. 4)",
            "trying to send message larger than max (9 vs. 4)",
            "gRPC message exceeds maximum size 4: 9",
            "Received message larger than max (9 vs. 4)",
            "Received message exceeds the maximum configured message size.",
            "received metadata size exceeds hard limit (9 vs. 4)",
        ] {
            let error = Error::Service(Status::resource_exhausted(message));
            assert_eq!(of_error(error), Class::Permanent, "{message}");
        }
        let quota = Error::Service(Status::resource_exhausted("quota of the project is used up"));
        assert_eq!(of_error(quota), Class::OVERLOAD);
    }

    #[test]
    fn a_server_that_wants_no_other_try_gets_none() {
        let mut status = Status::unavailable("");
        status.metadata_mut().insert("grpc-retry-pushback-ms", "-1".parse().unwrap());
        assert_eq!(of_error(Error::Service(status)), Class::Permanent);
    }

    #[test]
    fn unavailable_has_no_effect_if_no_connection_could_be_made() {
        let unavailable = |source: BoxError| {
            let mut status = Status::unavailable("");
            status.set_source(Arc::from(source));
            of_error(Error::Service(status))
        };
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let connect = ConnectError(io::Error::other("no such host").into());
        assert_eq!(unavailable(connect.into()), Class::NoEffect { after: None });
        assert_eq!(unavailable(refused().into()), Class::NoEffect { after: None });
        assert_eq!(unavailable("reset".into()), Class::Transient { after: None });
        assert_eq!(of_error(BoxError::from(refused())), Class::NoEffect { after: None });
    }

    #[test]
    fn the_hint_is_cut_to_the_cap() {
        let after = Some(Duration::from_millis(20));
        let grpc = Grpc::new().max_retry_after(Duration::from_millis(20));
        let error = Error::Service(status(Code::ResourceExhausted));
        let class = grpc.classify(Err::<&Response<()>, _>(&error));
        assert_eq!(class, Class::Overload { after, processed: true });
    }

    #[test]
    fn a_refusal_by_a_layer_around_the_channel_is_known_in_the_status() {
        let open = Rejected::new(&"breaker", Reason::BreakerOpen).with_retry_after(SECOND);
        let status = Status::from_error(BoxError::from(Error::<io::Error>::from(open)));
        assert_eq!(status.code(), Code::Unknown);
        let class = of_error(Error::Service(status));
        assert_eq!(class, Class::NoEffect { after: Some(SECOND) });
        assert_eq!(of_error(BoxError::from(open)), Class::NoEffect { after: Some(SECOND) });
    }

    #[test]
    fn a_request_is_copied_with_its_metadata_and_extensions() {
        let mut request = Request::new("hello");
        request.metadata_mut().insert("tenant", "7".parse().unwrap());
        request.extensions_mut().insert(3_u8);
        let copy = clone_request(&request).unwrap();
        assert_eq!(copy.metadata().get("tenant").unwrap(), "7");
        assert_eq!((copy.extensions().get(), copy.get_ref()), (Some(&3_u8), &"hello"));
    }
}
