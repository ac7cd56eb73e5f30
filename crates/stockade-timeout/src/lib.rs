//! A `tower` layer that ends a call which takes too long, and tells everything inside it how much time is left.
//!
//! It does not interrupt code that blocks the thread, and it does not undo what the call has done so far.
//!
//! - [`TimeoutLayer`] is the `tower` layer and its setters; [`Config`] is the same as a value.
//! - [`TimeoutHandle`] changes the limit while calls run, and switches it off.
//! - [`Timeout`] is the service. It covers all that happens inside the response future: the wait for a limit or a
//!   token, the retries, the call itself. Its deadline is [ambient](stockade_core::deadline) for the layers
//!   inside, so that none of them waits for longer than that.
//!
//! A call that is answered when it is first polled needs no timer and reads no clock. All others share one timer a
//! thread, which fires up to about a millisecond late, as tokio's timers do, and never early.
//!
//! # Features
//!
//! - `serde`: [`Config`] can be read from a file, and written.
//! - `tracing`: an event for each call that is ended.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use stockade_core::{Error, Reason};
//! use stockade_timeout::TimeoutLayer;
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # // The clock is paused, with the feature `test-util` of tokio, so that this takes no time.
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

#![cfg_attr(docsrs, feature(doc_cfg))]

mod config;
mod future;
mod handle;
mod layer;
mod readiness;
mod request;
mod service;
mod shared;
mod stopwatch;

pub use config::Config;
pub use future::ResponseFuture;
pub use handle::TimeoutHandle;
pub use layer::TimeoutLayer;
pub use request::{Fixed, PerRequest};
pub use service::Timeout;
