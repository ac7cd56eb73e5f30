//! `tower` layers for many processes: one rate limit for all and breakers that open together, over Redis, and jobs that
//! outlive a process, on `apalis`.
//!
//! It has no broker, no consensus and no store of its own: what is shared is in a Redis or a PostgreSQL that you run, and
//! when that is away each process goes on alone, as it was told to.
//!
//! - [`rate`]: the rate limit with its bucket in Redis (feature `redis`).
//! - [`breaker`]: breakers that decide alone and open together (feature `redis`).
//! - [`jobs`]: a stack, pool included, under the workers of `apalis` (feature `apalis`).
//! - [`guide`]: from one pool to a fleet, step by step: what changes, what is promised, and what it costs.
//!
//! # Features
//!
//! None is on by default. `redis` and `apalis` are as above; with `tracing` each change of who decides is one event; with
//! `tls` the Redis may be reached over TLS, by rustls with the process's provider, and ring where none was installed; with
//! `serde` the configurations can be read from files, and written.
//!
//! # Example
//!
//! ```no_run
//! use stockade_core::Error;
//! # #[cfg(feature = "redis")]
//! use stockade_fleet::{Redis, rate::{Outage, RateLayer}};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[cfg(feature = "redis")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), stockade_core::BoxError> {
//! let redis = Redis::new("redis://127.0.0.1:6379")?;
//! // Fifty calls a second for all processes together. If Redis is away, each process goes on with a quarter of that.
//! let client = ServiceBuilder::new()
//!     .layer(RateLayer::per_second(&redis, "geocoder", 50).outage(Outage::Share(4)))
//!     .map_err(Error::Service)
//!     .service_fn(async |n: u32| Ok::<_, std::io::Error>(n + 1));
//! assert_eq!(client.oneshot(1).await?, 2);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "redis"))]
//! # fn main() {}
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "redis")]
pub mod breaker;
#[cfg(feature = "redis")]
mod fault;
#[cfg(all(feature = "redis", feature = "apalis"))]
pub mod guide;
#[cfg(feature = "redis")]
mod handle;
#[cfg(feature = "apalis")]
pub mod jobs;
#[cfg(feature = "redis")]
mod link;
#[cfg(feature = "redis")]
mod mode;
#[cfg(feature = "redis")]
pub mod rate;
#[cfg(feature = "tls")]
mod tls;

#[cfg(feature = "redis")]
pub use fault::{Fault, RedisError};
#[cfg(feature = "redis")]
pub use handle::Redis;
#[cfg(feature = "redis")]
pub use link::Presence;
#[cfg(feature = "redis")]
pub use mode::Mode;
