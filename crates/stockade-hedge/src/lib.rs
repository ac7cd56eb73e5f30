//! A `tower` layer that makes a second attempt when a call takes long; the first good answer wins.
//!
//! It shortens the tail of latencies where a service is now and then slow for no reason of its own. It does not
//! repeat what failed (that is retry), and it must not be used for requests that may not be sent twice.
//!
//! - [`HedgeLayer`] is the configuration, and the `tower` layer.
//! - [`Hedge`] is the service.
//! - [`HedgeHandle`] shows how many attempts were made, and how many of them won.
//!
//! The idea is that of J. Dean and L. A. Barroso, "The Tail at Scale", 2013.
//!
//! # Features
//!
//! - `serde`: [`Config`] can be read from a file, and written.
//! - `tracing`: an event for each hedge.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use stockade_core::{Budget, Error};
//! use stockade_hedge::HedgeLayer;
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! // When a call takes longer than 95 of 100 did lately, but for at most one call in twenty.
//! let svc = ServiceBuilder::new()
//!     .layer(HedgeLayer::percentile(0.95).budget(Budget::new(0.05, 0.0)))
//!     .map_err(Error::Service)
//!     .service_fn(async |n: u32| Ok::<_, std::io::Error>(n + 1));
//! assert_eq!(svc.oneshot(1).await.unwrap(), 2);
//! # }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod attempt;
mod config;
mod delay;
mod future;
mod handle;
mod layer;
mod request;
mod service;
mod shared;

pub use config::{Config, Rule};
pub use future::ResponseFuture;
pub use handle::{HedgeHandle, Stats};
pub use layer::HedgeLayer;
pub use request::{ByClone, HedgeRequest, Idempotent};
pub use service::Hedge;
