//! gRPC through tonic: what a status means, and how to copy a request.
//!
//! [`Grpc`] judges the results of calls that end in a `tonic::Status`, and those of a `Channel`, whose response
//! is an `http::Response` that has the status in its headers if the call failed at once.
//!
//! | what came of the call | class |
//! |---|---|
//! | an answer, or `OK` | `Success` |
//! | `RESOURCE_EXHAUSTED` | `Overload`, with the server's hint |
//! | `RESOURCE_EXHAUSTED` because a message, or its metadata, is too large | `Permanent` |
//! | no `grpc-status`: a proxy answered in place of the server, with a page or without | that of the [HTTP status](crate::http), with its `Retry-After` |
//! | the same with a status that is none of a failure, such as 200 and a page | `Transient` |
//! | `UNAVAILABLE` because no connection could be made | `NoEffect` |
//! | `UNAVAILABLE` otherwise: the call may have been on its way | `Transient`, with the server's hint |
//! | `DEADLINE_EXCEEDED`, `UNKNOWN`, `INTERNAL` | `Transient`, with the server's hint |
//! | `ABORTED`, by a conflict with others: a repetition makes sense if the call is all that has to be done anew | `Transient`, with the server's hint |
//! | `CANCELLED`, which tonic also says for its own time-outs and for broken connections | `Transient`, with the server's hint |
//! | `INVALID_ARGUMENT`, `NOT_FOUND`, `ALREADY_EXISTS`, `PERMISSION_DENIED`, `UNAUTHENTICATED`, `FAILED_PRECONDITION`, `OUT_OF_RANGE`, `UNIMPLEMENTED`, `DATA_LOSS` | `Permanent` |
//! | any status with a `grpc-retry-pushback-ms` that is negative or cannot be read: the server asks not to be asked again | `Permanent` |
//! | no connection could be made (`ConnectError`, refused, or not within the `connect_timeout`), or the server refused the stream, or did not begin it any more | `NoEffect` |
//! | the client never sent the request, because its connection was closed before (hyper) | `NoEffect` |
//! | the server finds that the client asks for too much (HTTP/2's `ENHANCE_YOUR_CALM`) | `Overload` |
//! | the server's certificate is not trusted | `Permanent` |
//! | any other error of the transport | `Transient` |
//! | a layer inside refused or ended it | by [`DefaultClassify`](stockade_core::DefaultClassify) |
//!
//! The hint is what `grpc-retry-pushback-ms` says in the metadata, and otherwise the delay of a
//! `google.rpc.RetryInfo` among the details of a `tonic::Status`. Of several, the one that puts off further counts. It is
//! cut to [`MAX_RETRY_AFTER`](crate::MAX_RETRY_AFTER), unless [told otherwise](Grpc::max_retry_after).
//!
//! `RESOURCE_EXHAUSTED` is the code of a server that is full, and of a limit that a server has for each of its callers. A
//! breaker cannot tell them apart, so around a client that many callers share, where the server limits each of them, give
//! each its own breaker: a `KeyedLayer`, by the key that the server has.
//!
//! # Where to put the layers
//!
//! Around the calls, where a request is a message that can be copied and a status is an error:
//!
//! ```
//! use stockade_clients::grpc;
//! use stockade_core::Error;
//! use tonic::{Request, Response, Status};
//! use tower::ServiceBuilder;
//!
//! // What a generated client does.
//! async fn say_hello(name: Request<String>) -> Result<Response<String>, Status> {
//!     Ok(Response::new(format!("hello {}", name.into_inner())))
//! }
//!
//! // Without `idempotent`, only what had no effect is repeated.
//! let retry = grpc::retry(3).idempotent(|_: &Request<String>| true);
//! let client =
//!     ServiceBuilder::new().layer(retry).map_err(Error::Service).service_fn(say_hello);
//! # fn check(_: &impl tower::Service<Request<String>>) {}
//! # check(&client);
//! ```
//!
//! Layers around a `Channel` see requests as streams, which cannot be repeated (`http::clone_request` copies none of
//! them, and the retry layer counts each as `not_repeatable`), and of the statuses only those
//! that come in place of an answer: a breaker or a limit does well there, a retry does not. A refusal there comes
//! out of a generated client as a status of `UNKNOWN` and is still known as a refusal further out.
//!
//! # Deadline and priority
//!
//! [`InjectLayer::grpc()`](crate::http::InjectLayer::grpc) around a `Channel`, or around the calls, writes what is left of
//! the deadline as `grpc-timeout`, and the priority; [`ExtractLayer::grpc(max)`](crate::http::ExtractLayer::grpc) in a
//! server holds the handlers to them.
//!
//! tonic reads `grpc-timeout` by itself, too, and says `CANCELLED` when the time in it is over. A `Channel` does that before
//! the server's answer can be there; [`into_status`] passes it on as `DEADLINE_EXCEEDED`. In a server `ExtractLayer` is asked
//! first, and answers `DEADLINE_EXCEEDED`.
//!
//! # Refusals as answers
//!
//! For servers that have layers of stockade around their handlers, [`RespondLayer`] makes every refusal a status; in a
//! handler, [`into_status`] does it for the error of a stack around a client.
//!
//! | refused by | reason | code | hint |
//! |---|---|---|---|
//! | any layer | `RateLimited`, `QueueFull`, `WaitExceeded` | `RESOURCE_EXHAUSTED` | always |
//! | any layer | `TooCostly` | `RESOURCE_EXHAUSTED` | not to come back |
//! | any layer | `BreakerOpen`, `ForcedOpen`, `PoolClosed`, `Cancelled`, `Shed`, `Unavailable` | `UNAVAILABLE` | always |
//! | any layer | `Elapsed`, `Expired` | `DEADLINE_EXCEEDED` | if the layer says so |
//! | any layer | `Panicked` | `INTERNAL` | |
//! | nobody: it is an error of the service itself | | `INTERNAL` | |
//!
//! The hint is there twice: as `grpc-retry-pushback-ms`, which clients with retries of their own obey, and as a
//! `RetryInfo` among the details. It is what the layer says, and otherwise
//! [`DEFAULT_RETRY_AFTER`](crate::http::DEFAULT_RETRY_AFTER).

mod classify;
mod hint;
mod refusal;
mod respond;

pub use classify::{Grpc, Reply, RetryPolicy, clone_request, retry};
pub use refusal::{into_status, refusal};
pub use respond::{RespondLayer, Statuses};
