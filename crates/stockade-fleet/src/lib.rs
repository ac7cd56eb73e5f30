//! The layers of stockade for a fleet of processes: one rate, one verdict, and jobs that outlive a process.
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

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "redis")]
pub mod breaker;
#[cfg(feature = "redis")]
mod fault;
#[cfg(all(feature = "redis", feature = "apalis"))]
pub mod guide;
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
pub use link::{Presence, Redis};
#[cfg(feature = "redis")]
pub use mode::Mode;
