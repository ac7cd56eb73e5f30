//! Judges the results of real clients, for retries and circuit breakers alike.
//!
//! Nothing here is a client: wrap the one that you have in `ServiceBuilder`, and give its classifier to
//! `RetryLayer::classify` and `BreakerLayer::classify`. Each is behind a feature, and none is on by default:
//! `http`, `hyper-util`, `redis`, `reqwest`, `sqlx`, `tokio-postgres`, `tonic`.

mod advice;
mod cause;
mod failure;
#[cfg(feature = "http")]
pub mod http;
#[allow(dead_code, reason = "used by the classifiers, each behind its feature")]
mod judge;
#[cfg(feature = "reqwest")]
pub mod reqwest;

pub use cause::Cause;
pub use failure::Failure;
