//! A timeout: a call that takes longer is ended, and everything inside knows when that will be.
//!
//! It does not interrupt code that blocks the thread, and does not undo what the call has done so far.
//!
//! - [`TimeoutLayer`] is the configuration, and the `tower` layer.
//! - [`Timeout`] is the service. It covers all that happens inside the response future: the wait for a
//!   limit or a token, the retries, the call itself. Its deadline is [ambient](stockade_core::deadline) for
//!   the layers inside, so that none of them waits for longer than that.
//!
//! A call that is answered when it is first polled costs no timer and reads no clock. All others share one coarse
//! timer a thread, which fires up to about a millisecond late, never early.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use stockade_core::{Error, Reason};
//! use stockade_timeout::TimeoutLayer;
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let svc = ServiceBuilder::new()
//!     .layer(TimeoutLayer::new(Duration::from_millis(200)))
//!     .map_err(Error::Service)
//!     .service_fn(async |wait| Ok::<_, std::io::Error>(tokio::time::sleep(wait).await));
//!
//! svc.clone().oneshot(Duration::from_millis(100)).await.unwrap();
//! let error = svc.oneshot(Duration::from_secs(1)).await.unwrap_err();
//! assert!(matches!(error, Error::Rejected(r) if r.reason() == Reason::Elapsed));
//! # }
//! ```

mod future;
mod layer;
mod limit;
mod service;

pub use future::ResponseFuture;
pub use layer::TimeoutLayer;
pub use limit::{Fixed, PerRequest};
pub use service::Timeout;
