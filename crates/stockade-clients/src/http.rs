//! HTTP: what a status or an error means, which requests may be repeated, what travels with a request, and refusals as
//! answers.
//!
//! [`Http`] judges the results of any client whose response is an `http::Response` or, with the feature
//! `reqwest`, a `reqwest::Response`. The functions for requests here are for `http::Request`; those for
//! `reqwest::Request` are in the module `reqwest`.
//!
//! | what came of the call | class |
//! |---|---|
//! | 1xx, 2xx, 3xx | `Success` |
//! | 429 | `Overload`, not processed: repeated whatever the request, after the answer's `Retry-After`; or `Ignored`, [where you say so](Http::ignore_rate_limited) |
//! | 503, and 529 of some services | `Overload`, with the answer's `Retry-After`; not processed [where you say so](Http::hint_means_unprocessed) |
//! | 403, 413 with a `Retry-After` | `Overload`, not processed |
//! | 421 and 425: the wrong connection, or too early | `NoEffect` |
//! | 408, 500, 502, 504 | `Transient`, with the answer's `Retry-After` |
//! | 501, 505, 506, 508, 510, 511: the server does not do such a thing | `Permanent` |
//! | any other 5xx, which RFC 9110 has clients treat as 500 | `Transient`, with the answer's `Retry-After` |
//! | any other 4xx | `Permanent` |
//! | no connection could be made: refused, no such host, no answer in the time for it, a layer's timeout around the connector | `NoEffect` |
//! | an HTTP/2 stream that the server refused (`REFUSED_STREAM`), or did not begin any more (`GOAWAY`) | `NoEffect` |
//! | the client never sent the request, because its connection was closed before (hyper) | `NoEffect` |
//! | the server finds that the client asks for too much (HTTP/2's `ENHANCE_YOUR_CALM`) | `Overload` |
//! | the server's certificate is not trusted | `Permanent` |
//! | a request that could not be built, or too many redirects (reqwest) | `Permanent` |
//! | a status that was made an error by `error_for_status` (reqwest) | that of the status, without `Retry-After` |
//! | any other error: reset, cut mid-answer, no HTTP, timed out, a body that cannot be decoded | `Transient` |
//! | a layer inside refused it, or ended it outside of the client | by [`DefaultClassify`](stockade_core::DefaultClassify) |
//!
//! That no connection could be made is seen in any error with an [`io::Error`](std::io::Error) of kind
//! `ConnectionRefused` among its sources, and the rest of it in the errors of reqwest and, with the feature
//! `hyper-util`, in those of hyper-util's legacy client. Switch off a client's own redirects for requests that
//! may not be repeated: where the connection to the second server fails, the error looks the same, although
//! the first one has had the request.
//!
//! # Retry-After
//!
//! Both forms are understood, seconds and an HTTP date. A date counts from the answer's own `Date`, and one that
//! has passed is zero. A fraction of a second is rounded up, and what cannot be read counts as no hint. Of several hints the
//! longest counts. A hint above
//! [`MAX_RETRY_AFTER`](crate::MAX_RETRY_AFTER) is cut to that, unless [told otherwise](Http::max_retry_after).
//!
//! # Which requests may be repeated
//!
//! Those with an idempotent method (RFC 9110, section 9.2.2: GET, HEAD, OPTIONS, TRACE, PUT and DELETE), and
//! those with an `Idempotency-Key` header. [`retry`] is a `RetryLayer` that goes by this; without it, or
//! `.idempotent(idempotent)`, a `RetryLayer` sends a POST again like any other request.
//!
//! A body that is a stream can be sent again while it is small: see [`Replay`].
//!
//! # Clients that take a stack
//!
//! Many clients of one web API can be made of any service of HTTP requests. Put the layers between them and the HTTP
//! client, so that each attempt is a request of its own. A refusal comes out inside the client's own error: box that, and
//! `rejected()` finds it.
//!
//! kube, whose client is then `Client::new(stack, "default")`:
//!
//! ```ignore
//! let retry = RetryLayer::max_attempts(4)
//!     .classify(Http::new())
//!     .idempotent(idempotent::<Body>)
//!     .clone_request(clone_request_with(Body::try_clone));
//! let (retry, retries) = retry.with_handle();
//! let stack = ServiceBuilder::new()
//!     .layer(config.base_uri_layer())
//!     .layer(retry)
//!     .layer(BreakerLayer::new().consecutive(3).classify(Http::new()))
//!     .map_err(BoxError::from)
//!     .service(legacy::Client::builder(TokioExecutor::new()).build_http());
//! ```
//!
//! octocrab, whose bodies have to be copied by hand, with `OctocrabBuilder::new_empty().with_service(stack)`:
//!
//! ```ignore
//! /// What is in memory, or nothing at all. Its own `Clone` shares one stream: a second attempt would send nothing.
//! fn clone_body(body: &OctoBody) -> Option<OctoBody> {
//!     body.try_clone().or_else(|| body.is_end_stream().then(OctoBody::empty))
//! }
//! ```
//!
//! async-openai with its feature `middleware`, whose requests are made anew for each attempt, with
//! `Client::with_config(config).with_http_service(stack)`. Nearly all of them are POSTs, and all are repeated here, since
//! nothing says otherwise:
//!
//! ```ignore
//! let (retry, retries) = RetryLayer::max_attempts(4).classify(Http::new()).with_handle();
//! let stack = ServiceBuilder::new()
//!     .layer(retry)
//!     .layer(BreakerLayer::new().consecutive(3).classify(Http::new()))
//!     .map_err(BoxError::from)
//!     .service(ReqwestService::new(reqwest::Client::new()));
//! ```
//!
//! # Deadline and priority from process to process
//!
//! [`InjectLayer`] around a client writes what is left of the deadline, and the priority, onto each request.
//! [`ExtractLayer`] around the handlers of a server reads them, caps them, and holds the handler to them; so do the
//! handler's own calls, if there is an `InjectLayer` around those. What travels is a duration, so clocks do not matter.
//!
//! | header | of | written and read by |
//! |---|---|---|
//! | `x-request-timeout-ms`: milliseconds | axum, hyper, reqwest | `InjectLayer::new()`, `ExtractLayer::new(max)` |
//! | `grpc-timeout` | tonic | `InjectLayer::grpc()`, `ExtractLayer::grpc(max)` |
//! | `x-envoy-expected-rq-timeout-ms`: milliseconds | Envoy | `.time_header(TimeHeader::envoy())` |
//! | any other | | `.time_header(TimeHeader::new(name, unit))` |
//! | `x-request-priority`: `critical`, `sheddable` or `background` | all | all of them; `.priority_header(name)` |
//!
//! # Refusals as answers
//!
//! For servers that have layers of stockade around their handlers, [`RespondLayer`] makes every refusal an answer; what
//! is left has no error, so axum's `.layer(..)` takes it. In a handler, [`refusal`](refusal()) does the same for the
//! error of a stack around a client.
//!
//! | refused by | reason | status | `Retry-After` |
//! |---|---|---|---|
//! | any layer | `RateLimited` | 429 | always |
//! | any layer | `TooCostly` | 429 | |
//! | rate limit | `QueueFull`, `WaitExceeded` | 429 | always |
//! | any other layer | `QueueFull`, `WaitExceeded` | 503 | always |
//! | any layer | `BreakerOpen`, `ForcedOpen`, `PoolClosed`, `Cancelled`, `Shed`, `Unavailable` | 503 | always |
//! | any layer | `Elapsed`, `Expired` | 504 | if the layer says so |
//! | any layer | `Panicked` | 500 | |
//! | nobody: it is an error of the service itself | | 500 | |
//!
//! `Retry-After` is in whole seconds, rounded up: what the layer says, and otherwise [`DEFAULT_RETRY_AFTER`]. A limit
//! does not know when a place will be free. A 429 also has `RateLimit-Remaining` and `RateLimit-Reset`.

mod bad_status;
mod body;
mod classify;
mod hop_by_hop;
mod host;
mod last_turn;
#[cfg(feature = "rate")]
mod quota;
mod refusal;
mod replay;
mod request;
mod respond;
mod retry_after;
mod status;
mod wire;

pub use bad_status::{BadStatus, status_to_error};
pub use body::{
    BodyEnd, BodyTimeout, BodyTimeoutFuture, BodyTimeoutLayer, HeldBody, Release, TimedBody,
    hold_body, hold_body_until,
};
pub use classify::{Answer, Http};
pub use hop_by_hop::remove_hop_by_hop;
pub use host::{ByHost, HostKey, HostRef};
#[cfg(feature = "rate")]
pub use quota::{Estimate, NoCost, Quota, QuotaFuture, QuotaHeaders, QuotaLayer, Settle, Settled};
#[cfg(feature = "tonic")]
pub(crate) use refusal::come_back_after;
pub use refusal::{Answers, DEFAULT_RETRY_AFTER, refusal, refusal_status};
pub use replay::{REPLAY_LIMIT, Replay, ReplayError};
#[cfg(feature = "reqwest")]
pub(crate) use request::may_repeat;
pub use request::{
    RetryPolicy, clone_request, clone_request_with, idempotent, retry, without_credentials,
};
pub use respond::{AnswerRefusal, Respond, RespondFuture, RespondLayer};
pub use retry_after::retry_after;
#[cfg(feature = "rate")]
use retry_after::sent_at;
pub use status::class;
pub use wire::{
    Carrier, Extract, ExtractFuture, ExtractLayer, Inject, InjectFuture, InjectLayer, TimeHeader,
    Unit,
};
