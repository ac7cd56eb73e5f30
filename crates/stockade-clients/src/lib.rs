//! Says what the results of HTTP, gRPC, SQL and Redis clients mean, so that retries and circuit breakers know what to do;
//! makes refusals answers for servers; and takes deadlines and priorities from one process to the next.
//!
//! Nothing here is a client or a pool of connections: wrap the client that you have in `ServiceBuilder`, and give
//! its classifier to `RetryLayer::classify` and `BreakerLayer::classify`. For HTTP and gRPC `reqwest::retry(n)`,
//! `http::retry(n)` and `grpc::retry(n)` are retry layers that have the classifier already, and know which requests may be
//! sent twice. Each client is a feature, and none is on by default.
//!
//! | client | version | feature | classifier |
//! |---|---|---|---|
//! | any whose answer is an `http::Response` | `http` 1 | `http` | `http::Http` |
//! | hyper-util's legacy client | `hyper-util` 0.1 | `hyper-util` | `http::Http` |
//! | reqwest | `reqwest` 0.13 | `reqwest` | `http::Http` |
//! | tonic | `tonic` 0.14 | `tonic` | `grpc::Grpc` |
//! | sqlx, which needs a newer Rust than the rest | `sqlx` 0.9 | `sqlx` | `sql::Sqlx` |
//! | tokio-postgres | `tokio-postgres` 0.7 | `tokio-postgres` | `sql::TokioPostgres` |
//! | deadpool-postgres | `deadpool` 0.12 | `deadpool` | `sql::TokioPostgres` |
//! | bb8-postgres, bb8-redis | `bb8` 0.9 | `bb8` with `tokio-postgres` or `redis` | that of its client |
//! | redis | `redis` 1 | `redis` | `redis::Redis` |
//! | kube, over hyper-util's client | `kube` 5 | `hyper-util` | `http::Http` |
//! | octocrab, over hyper-util's client | `octocrab` 0.54 | `hyper-util` | `http::Http` |
//! | async-openai, over reqwest | `async-openai` 0.43 | `reqwest` | `http::Http` |
//!
//! These versions are what the tests run against. The last three are made of any HTTP service, and take a stack with layers
//! in it: see the module `http`.
//!
//! Each classifier has a table of what it makes of which result, and [`situations`] shows what comes of that on a bad day.
//! They take any error type of a stack: [`Error<E>`](stockade_core::Error), a `BoxError` or an enum of your own, see
//! [`Cause`]. A refusal by a layer inside is judged as by [`DefaultClassify`](stockade_core::DefaultClassify).
//!
//! [`Failure`] makes errors readable: it names the host and says what to do, without any password. The features for
//! databases bring `connect`, which makes a connection in time or says what is wrong.
//!
//! For servers, `http::RespondLayer` and `grpc::RespondLayer` make a layer's refusal an answer. `http::InjectLayer` and
//! `http::ExtractLayer` take the deadline and the priority of a call from one process to the next, and `http::hold_body`
//! keeps a permit until an answer has streamed. With the feature `rate`, `http::QuotaLayer` adjusts rate limits to what
//! servers say about their quotas.
//!
//! # Example
//!
//! ```
//! use std::io;
//! use stockade_breaker::BreakerLayer;
//! use stockade_clients::Failure;
//! # #[cfg(feature = "http")]
//! use stockade_clients::http::{Http, retry};
//! use stockade_core::Error;
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[cfg(feature = "http")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), stockade_core::BoxError> {
//! let client = ServiceBuilder::new()
//!     .layer(retry(3)) // knows what a status means, and sends no POST twice
//!     .layer(BreakerLayer::new().classify(Http::new()))
//!     .map_err(|error| Error::Service(Failure::at("https://api.example.org", error)))
//!     .service_fn(async |_: http::Request<String>| {
//!         Ok::<_, io::Error>(http::Response::new("hello")) // stands for your client
//!     });
//! let answer = client.oneshot(http::Request::new(String::new())).await?;
//! assert_eq!(*answer.body(), "hello");
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "http"))]
//! # fn main() {}
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod advice;
mod cause;
#[cfg(feature = "connect")]
mod connect;
#[cfg(any(feature = "redis", feature = "sqlx", feature = "tokio-postgres"))]
mod disposition;
mod failure;
#[cfg(feature = "tonic")]
pub mod grpc;
#[cfg(feature = "http")]
pub mod http;
#[allow(dead_code, reason = "used by the classifiers, each behind its feature")]
mod judge;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "reqwest")]
pub mod reqwest;
pub mod situations;
#[cfg(any(feature = "sqlx", feature = "tokio-postgres"))]
pub mod sql;

pub use cause::Cause;
#[cfg(feature = "connect")]
pub use connect::{ConnectError, NoConnection, connect};
pub use failure::Failure;

/// The longest hint of a server that classifiers keep, unless they are told otherwise: five minutes.
///
/// A server that asks for more is asked again after that, and says it again.
pub const MAX_RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(5 * 60);
