//! Judges the results of real clients, for retries and circuit breakers alike.
//!
//! Nothing here is a client: wrap the one that you have in `ServiceBuilder`, and give its classifier to
//! `RetryLayer::classify` and `BreakerLayer::classify`. Each is behind a feature, and none is on by default:
//! `deadpool`, `http`, `hyper-util`, `redis`, `reqwest`, `sqlx`, `tokio-postgres`, `tonic`. Those for databases bring
//! `connect`, which makes a connection in time or says what is wrong.
//!
//! The library needs Rust 1.88; `sqlx` needs a newer one, which its own manifest names.

mod advice;
mod cause;
#[cfg(feature = "connect")]
mod connect;
mod failure;
#[cfg(any(feature = "redis", feature = "sqlx", feature = "tokio-postgres"))]
mod fate;
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
