//! A tower layer that repeats failed calls, with backoff, jitter and a budget.
//!
//! [`RetryLayer`] is the configuration, [`Retry`] the service, [`RetryHandle`] what an operator looks at.
//! [`Backoff`] says how long to wait, [`Budget`] how much to repeat at all, and the
//! [class](stockade_core::Class) of a result whether to repeat this one.
//!
//! It does not limit how long an attempt takes (put a timeout inside it for that), nor how long all of
//! them take together (a timeout outside, or [`RetryLayer::max_elapsed`]). It never refuses a call: an
//! answer is always one that the service, or a layer inside, gave.
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

mod backoff;
mod budget;
mod future;
mod handle;
mod layer;
mod request;
mod service;
mod shared;

pub use backoff::Backoff;
pub use budget::Budget;
pub use future::ResponseFuture;
pub use handle::{RetryHandle, Stats};
pub use layer::RetryLayer;
pub use request::{Always, ByClone, CloneRequest, Idempotent};
pub use service::Retry;
