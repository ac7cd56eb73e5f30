//! Judges the results of real clients, for retries and circuit breakers alike.
//!
//! Nothing here is a client: wrap the one that you have in `ServiceBuilder`, and give its classifier to
//! `RetryLayer::classify` and `BreakerLayer::classify`. Each is behind a feature, and none is on by default:
//! `http`, `hyper-util`, `redis`, `reqwest`, `sqlx`, `tokio-postgres`, `tonic`.

mod cause;
#[cfg(any(feature = "redis", feature = "sqlx", feature = "tokio-postgres"))]
mod fate;
#[allow(dead_code, reason = "used by the classifiers, each behind its feature")]
mod judge;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "sqlx", feature = "tokio-postgres"))]
mod sqlstate;
#[cfg(feature = "sqlx")]
mod sqlx;
#[cfg(feature = "tokio-postgres")]
mod tokio_postgres;

pub use cause::Cause;
#[cfg(feature = "redis")]
pub use redis::RedisClassify;
#[cfg(any(feature = "sqlx", feature = "tokio-postgres"))]
pub use sqlstate::sqlstate;
#[cfg(feature = "sqlx")]
pub use sqlx::SqlxClassify;
#[cfg(feature = "tokio-postgres")]
pub use tokio_postgres::TokioPostgresClassify;
