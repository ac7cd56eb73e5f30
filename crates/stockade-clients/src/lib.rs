//! Judges the results of real clients, for retries and circuit breakers alike.
//!
//! Nothing here is a client: wrap the one that you have in `ServiceBuilder`, and give its classifier to
//! `RetryLayer::classify` and `BreakerLayer::classify`. Each is behind a feature, and none is on by default:
//! `http`, `hyper-util`, `redis`, `reqwest`, `sqlx`, `tokio-postgres`, `tonic`.

mod cause;
#[allow(dead_code, reason = "used by the classifiers, each behind its feature")]
mod judge;

pub use cause::Cause;
