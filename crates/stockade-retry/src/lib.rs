//! A `tower` layer that repeats failed calls, with backoff, jitter, the server's own hints, and a budget against retry storms.
//!
//! It repeats what the service did, never what your own layers refused: behind an open breaker or a full queue a call
//! fails at once. Where a call should wait instead, say so with [`RetryLayer::retry_refusals`].
//!
//! It does not limit how long an attempt takes (put a timeout inside it for that), nor how long all of them take
//! together (put a timeout outside it, or set [`RetryLayer::max_elapsed`]).
//!
//! - [`RetryLayer`] is the layer and its setters; [`Config`] is the same as a value.
//! - [`Retry`] is the service.
//! - [`RetryHandle`] counts retries, and changes the settings at run time.
//! - [`Backoff`] says how long to wait, [`Budget`] how much to repeat at all, and the [class](stockade_core::Class) of a
//!   result whether to repeat this one.
//!
//! # Features
//!
//! - `serde`: [`Config`] can be read from a file, and written.
//! - `tracing`: an event for each retry, and for each call that is given up.
//!
//! # Example
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//! use stockade_core::Error;
//! use stockade_retry::{Backoff, Budget, RetryLayer};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error<Infallible>> {
//! let retry = RetryLayer::max_attempts(3)
//!     .backoff(Backoff::exponential(Duration::from_millis(20), Duration::from_secs(1)))
//!     .budget(Budget::new(0.1, 5.0));
//! let client = ServiceBuilder::new()
//!     .layer(retry)
//!     .map_err(Error::Service)
//!     .service(service_fn(|n: u32| async move { Ok::<_, Infallible>(n + 1) }));
//! assert_eq!(client.oneshot(1).await?, 2);
//! # Ok(())
//! # }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod account;
mod backoff;
mod call;
mod config;
mod course;
mod future;
mod handle;
mod layer;
mod policy;
mod service;
mod shared;
#[cfg(all(test, shuttle))]
mod tests {
    mod shuttle;
}

pub use backoff::Backoff;
pub use config::Config;
pub use future::ResponseFuture;
pub use handle::{RetryHandle, Stats};
pub use layer::RetryLayer;
pub use policy::{Always, ByClone, CloneRequest, Idempotent, Policy, Prepare, Unchanged};
pub use service::Retry;
pub use stockade_core::Budget;
