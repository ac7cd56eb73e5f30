//! A worker pool that is a `tower` service: a bounded queue, and workers that pull from it.
//!
//! Each worker owns an instance of the service and runs the whole call, so the work goes on at full speed
//! whatever the callers do. The pool accepts a job only when there is room for it, and then it ends each
//! job exactly once: with an answer, cancelled by its caller, or handed back when the pool is drained.
//!
//! It does not persist jobs, and orders them first in, first out unless told otherwise.
//!
//! - [`Pool`] is the handle: a `tower::Service`, and [`invoke`](Pool::invoke), [`submit`](Pool::submit),
//!   [`try_submit`](Pool::try_submit), [`run`](Pool::run) and [`drain`](Pool::drain).
//! - [`PoolBuilder`] makes one, [`PoolLayer`] makes one in the middle of a `ServiceBuilder`, and [`Sizing`] says how
//!   large it has to be.
//! - [`Job`] is the answer to come; dropping it cancels the job, or [detaches](OnDrop) it.
//! - [`Outcomes`] streams what became of many jobs, a [`Group`] awaits jobs that belong together; [`Stats`] counts
//!   what became of all.
//! - [`PoolHandle`] watches, pauses, resizes and shuts down.
//!
//! What a pool is made of can be replaced: how many workers there are ([`Scale`]), which job is next ([`Order`],
//! or [`affinity`](PoolBuilder::affinity) to keep those of a key in order), and how a worker makes its service
//! ([`build_make`](PoolBuilder::build_make)).
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

mod affinity;
mod arrange;
mod batch;
mod board;
mod builder;
mod codel;
mod drain;
mod group;
mod idle;
mod invoke;
mod job;
mod layer;
mod lease;
#[cfg(all(test, shuttle))]
mod model;
mod nested;
mod outcome;
mod places;
mod pool;
mod rules;
mod run;
mod scale;
mod seat;
mod shared;
mod sizing;
mod slot;
mod source;
mod span;
mod staff;
mod stats;
mod submit;
mod tasks;
mod threads;
mod weak;
mod worker;

pub use builder::{OnDrop, PoolBuilder};
pub use drain::Drained;
pub use group::Group;
pub use invoke::Invoke;
pub use job::Job;
pub use layer::PoolLayer;
pub use outcome::{Outcome, Status};
pub use pool::{Pool, PoolHandle};
pub use rules::{Any, Of, Order, Rules, Ticket};
pub use run::Outcomes;
pub use scale::{Load, PerJob, Scale, Workers};
pub use sizing::Sizing;
pub use source::{Iter, Source, Streamed};
pub use stats::{Percentiles, Stats};
pub use submit::{Closed, Submit, TrySubmitError};
pub use weak::WeakPoolHandle;
