//! A `tower` layer that lets at most so many calls run at once, a fixed number or one that adapts, and has the others wait in
//! a bounded queue.
//!
//! It is not a rate limit (calls per second), and not a pool (calls run where their future is polled).
//!
//! - [`LimitLayer`] is the `tower` layer and its setters; [`Config`] is the same as a value.
//! - [`Limit`] is the service. It admits in `call`: at once while there is room, otherwise the response future waits
//!   in FIFO order, so that a timeout outside covers the wait. Beyond the queue it refuses.
//! - [`LimitLayer::backpressure`] waits in `poll_ready` instead.
//! - [`LimitLayer::adaptive`] finds out by itself how many calls are right, with a [`Policy`]: [`Aimd`],
//!   [`Vegas`], [`Gradient2`], or one of your own.
//! - [`LimitLayer::by_priority`] and [`LimitLayer::fair_by`] admit calls that wait by class, or in equal shares.
//! - [`LimitHandle`] shows how many calls are in flight and waiting, changes the maximum, closes the limit, and
//!   takes a [`Permit`] by hand.
//!
//! # Features
//!
//! - `load`: [`Limit`] is a `tower::load::Load`, for `tower::balance`.
//! - `serde`: [`Config`] can be read from a file, and written.
//! - `tracing`: an event for each refusal.
//!
//! # Example
//!
//! ```
//! use stockade_core::{Error, Reason};
//! use stockade_limit::LimitLayer;
//! use tower::{Service, ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let mut svc = ServiceBuilder::new()
//!     .layer(LimitLayer::new(1).queue(0).name("database"))
//!     .map_err(Error::Service)
//!     .service_fn(async |n: u32| Ok::<_, std::io::Error>(n + 1));
//!
//! let first = svc.ready().await.unwrap().call(1);
//! let refused = svc.ready().await.unwrap().call(2).await.unwrap_err();
//! assert!(matches!(refused, Error::Rejected(r) if r.reason() == Reason::QueueFull));
//! assert_eq!(first.await.unwrap(), 2);
//! # }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod adaptive;
mod config;
mod discipline;
mod future;
mod handle;
mod hook;
mod layer;
mod permit;
mod semaphore;
mod service;
mod shared;
mod waiters;

#[cfg(all(test, shuttle))]
mod tests {
    mod shuttle;
}

pub use adaptive::{Adaptive, Aimd, Gradient2, Measured, Policy, Sample, Vegas};
pub use config::Config;
pub use future::ResponseFuture;
pub use handle::LimitHandle;
pub use hook::{Arrival, ByPriority, FairBy, Hold, Hooks, Order, Plain, Release};
pub use layer::{Fixed, LimitLayer, Maximum};
pub use permit::Permit;
pub use service::Limit;
