//! Durable jobs: the stack that you have, under a worker of [`apalis`](https://docs.rs/apalis-core).
//!
//! A worker of apalis takes jobs out of a queue in PostgreSQL, Redis or memory, and runs a `tower::Service` for each. A
//! stack of stockade, a pool included, is such a service but for four things, and [`JobsLayer`] is those:
//!
//! - **The request** of the stack is what the job was made of, and not apalis's `Task` around it.
//! - **A refusal is no attempt.** A job that a layer refuses before it has run goes back to the queue for later, as the
//!   refusal says in `retry_after`, with all its attempts. So does one that a pool has handed back when it was drained.
//!   A job that ran, and one that can never pass ([`TooCostly`](stockade_core::Reason::TooCostly)), is apalis's to judge.
//! - **The deadline** that a job was given ([`Due`]) is the ambient [deadline](stockade_core::deadline) of its call,
//!   and a job that is past it is not run.
//! - **No error from `poll_ready`**, because a worker of apalis takes that for the end and never returns. An error of
//!   the service inside is the next job's.
//!
//! It stores nothing, and it knows no backend: how a job goes back is a function that it is given. For the three
//! backends it is [`POSTGRES`] (a statement), [`repush`] (Redis, and whatever else keeps `run_at`) and
//! [`MemoryQueue::requeue`].
//!
//! What the queue promises is *at least once*: a job whose worker dies runs again, so what it does has to be
//! idempotent.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use apalis_core::worker::{builder::WorkerBuilder, context::WorkerContext};
//! use stockade_core::BoxError;
//! use stockade_fleet::jobs::{self, JobsLayer};
//! use stockade_pool::Pool;
//! use stockade_rate::RateLayer;
//! use tower::{ServiceBuilder, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let (storage, queue) = jobs::memory();
//! queue.push(7_u32)?;
//!
//! let worker = WorkerContext::new("resizer");
//! let stop = worker.clone();
//! let stack = ServiceBuilder::new()
//!     .layer(RateLayer::per_second(50).queue(0))
//!     .service(service_fn(move |image: u32| {
//!         assert_eq!(image, 7);
//!         stop.stop().unwrap();
//!         async { Ok::<_, BoxError>(()) }
//!     }));
//! let service = ServiceBuilder::new()
//!     .layer(JobsLayer::new(move |job, after| queue.requeue(job, after)))
//!     .service(Pool::builder().workers(4).queue(8).build(stack));
//! WorkerBuilder::new(&worker).backend(storage).build(service).run().await?;
//! # Ok(())
//! # }
//! ```

mod due;
mod future;
mod layer;
mod memory;
mod requeue;
mod service;

pub use due::Due;
pub use future::ResponseFuture;
pub use layer::JobsLayer;
pub use memory::{MemoryQueue, memory};
pub use requeue::{POSTGRES, Requeued, again, repush};
pub use service::Jobs;
