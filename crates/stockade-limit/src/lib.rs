//! A concurrency limit: at most so many calls in flight at once, the others wait in a bounded queue.
//!
//! It is not a rate limit (calls per second), and not a pool (calls run where their future is polled).
//!
//! - [`LimitLayer`] is the configuration, and the `tower` layer.
//! - [`Limit`] is the service. It admits in `call`: at once while there is room, else the response future
//!   waits in FIFO order, so that a timeout outside covers the wait; beyond the queue it refuses.
//! - [`LimitLayer::adaptive`] finds out by itself how many calls are right, with a [`Policy`]: [`Aimd`], [`Vegas`],
//!   [`Gradient2`], or one of your own.
//! - [`Backpressure`] is the service of [`LimitLayer::backpressure`]: it waits in `poll_ready` instead.
//! - [`LimitHandle`] shows how many calls are in flight and waiting, and changes the maximum.
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

mod adaptive;
mod backpressure;
mod future;
mod gate;
mod gradient2;
mod handle;
mod layer;
mod meter;
#[cfg(all(test, shuttle))]
mod model;
mod permit;
mod policy;
mod service;
mod state;
mod vegas;

pub use adaptive::Adaptive;
pub use backpressure::Backpressure;
pub use future::ResponseFuture;
pub use gradient2::Gradient2;
pub use handle::LimitHandle;
pub use layer::{InCall, InReady, LimitLayer};
pub use meter::{Fixed, Measure, Meter};
pub use policy::{Aimd, Policy, Sample};
pub use service::Limit;
pub use vegas::Vegas;
