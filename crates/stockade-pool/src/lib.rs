//! A worker pool that is a `tower` service: a bounded queue, and workers that pull from it.
//!
//! Each worker owns an instance of the service and runs the whole call, so a slow caller never slows the work. The pool
//! accepts a job only when there is room for it, and it ends each job that it has accepted exactly once: with an answer, as
//! cancelled by its caller, or handed back when the pool is drained.
//!
//! It does not persist jobs.
//!
//! - [`PoolBuilder`] makes a pool, also in the middle of a `ServiceBuilder`, and [`Pool::tasks`] makes one that
//!   runs futures. [`Sizing`] says how large a pool has to be.
//! - [`PoolHandle`] watches, pauses, resizes and shuts down; [`Stats`] counts.
//! - The queue is first in, first out, unless it goes by [class](PoolBuilder::by_priority), by
//!   [shares](PoolBuilder::fair_by) or by [priorities](PoolBuilder::priority), has [keys](PoolBuilder::affinity) or
//!   another [`Order`].
//! - The number of workers may follow the load ([`Scale`]).
//!
//! # Ways in
//!
//! - As a [`tower_service::Service`]: `ready` waits for a place in the queue, `call` returns the answer.
//! - [`Pool::submit`] returns a [`Job`], to be awaited, cancelled or [detached](Job::detach).
//! - [`Pool::run`] takes many requests, from an iterator, a stream or by hand, and returns their [`Outcomes`].
//!
//! # Features
//!
//! - `serde`: [`Config`] can be read from a file, and written.
//! - `tracing`: an event for each refusal, for services that a worker could not make, and for panics; the caller's span
//!   goes with its job.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use stockade_core::Error;
//! use stockade_pool::Pool;
//! use tower::{Service, ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let client = ServiceBuilder::new()
//!     .map_err(Error::Service)
//!     .service_fn(async |n: u32| Ok::<_, std::io::Error>(n * n));
//! let mut pool = Pool::builder().workers(4).queue(128).build(client);
//!
//! assert_eq!(pool.ready().await.unwrap().call(7).await.unwrap(), 49);
//! let drained = pool.drain(Duration::from_secs(5)).await;
//! assert_eq!(drained.unfinished, []);
//! assert_eq!(pool.stats().succeeded, 1);
//! # }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod admission;
mod builder;
mod config;
mod contain;
mod drain;
mod handle;
mod in_flight;
mod job;
mod layer;
mod lease;
mod locked;
mod nested;
mod outcome;
mod pool;
mod queue;
mod rebuild;
mod roster;
mod rules;
mod run;
mod scale;
mod serve;
mod service;
mod shared;
mod sizing;
mod span;
mod spawn;
mod staff;
mod stats;
mod tasks;
#[cfg(all(test, shuttle))]
mod tests {
    mod shuttle;
}
mod worker;
#[cfg(feature = "serde")]
mod written;

pub use builder::{BuildError, OnDrop, PoolBuilder};
pub use config::{Config, WhenFull};
pub use drain::Drained;
pub use handle::{PoolHandle, RunningJob, WeakPoolHandle};
pub use job::{Job, Refused};
pub use outcome::{Outcome, Status};
pub use pool::Pool;
pub use queue::Order;
pub use rebuild::{Never, Rebuild};
pub use run::{ByHand, IntoSource, Iter, Outcomes, Streamed};
pub use scale::{Load, PerJob, Scale, Workers};
pub use service::{MakeWorker, PoolService};
pub use sizing::Sizing;
pub use stats::{Percentiles, Refusals, Stats};
pub use tasks::{Task, Tasks};
