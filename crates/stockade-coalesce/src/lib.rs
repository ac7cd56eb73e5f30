//! A `tower` layer through which calls with the same key that are in flight at once share one answer.
//!
//! It does not keep an answer once it is given (that is a cache), and it does not order the calls of a key.
//!
//! - [`CoalesceLayer`] is the configuration, and the `tower` layer.
//! - [`Coalesce`] is the service.
//! - [`CoalesceHandle`] shows how many calls are in flight and joined another one, and switches it off and on.
//! - [`SharedError`] makes any error one that several callers can get.
//!
//! # Features
//!
//! - `tracing`: what `stockade-core` tells of refusals.
//!
//! # Example
//!
//! ```
//! use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
//! use stockade_coalesce::{CoalesceLayer, SharedError};
//! use tower::{Service, ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! static ASKED: AtomicU32 = AtomicU32::new(0);
//!
//! let mut svc = ServiceBuilder::new()
//!     .layer(CoalesceLayer::new(|user: &u64| *user))
//!     .map_err(SharedError::new)
//!     .service_fn(async |user: u64| {
//!         ASKED.fetch_add(1, SeqCst);
//!         tokio::task::yield_now().await;
//!         Ok::<_, std::io::Error>(format!("user {user}"))
//!     });
//! let first = svc.ready().await.unwrap().call(7);
//! let second = svc.ready().await.unwrap().call(7);
//! let (first, second) = tokio::join!(first, second);
//! assert_eq!(first.unwrap(), second.unwrap());
//! assert_eq!(ASKED.load(SeqCst), 1);
//! # }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod calls;
mod error;
mod future;
mod handle;
mod layer;
mod service;
#[cfg(all(test, shuttle))]
mod tests {
    mod shuttle;
}
mod work;

pub use error::SharedError;
pub use future::ResponseFuture;
pub use handle::CoalesceHandle;
pub use layer::CoalesceLayer;
pub use service::Coalesce;
#[doc(no_inline)]
pub use stockade_core::{Bypass, Only};
