//! A `tower` layer that makes some calls slow, fail, hang or panic, for tests and game days.
//!
//! It does nothing until its handle turns it on.
//!
//! - [`ChaosLayer`] is the configuration, and the `tower` layer. Put it right above the client.
//! - [`Chaos`] is the service.
//! - [`ChaosHandle`] turns it on and off, and counts what it did.
//!
//! # Features
//!
//! - `serde`: [`Config`] can be read from a file, and written.
//! - `tracing`: an event for each fault that it makes up.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use stockade_chaos::ChaosLayer;
//! use stockade_core::Error;
//! use tower::{Service, ServiceBuilder, ServiceExt};
//!
//! # // The clock is paused, with the feature `test-util` of tokio, so that this takes no time.
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let (chaos, handle) = ChaosLayer::new(42)
//!     .latency(0.1, Duration::from_millis(50)..=Duration::from_millis(500))
//!     .error(0.2, || Error::Service(std::io::Error::other("made up")))
//!     .with_handle();
//! let mut svc = ServiceBuilder::new()
//!     .layer(chaos)
//!     .map_err(Error::Service)
//!     .service_fn(async |n: u32| Ok::<_, std::io::Error>(n));
//! for n in 0..100 {
//!     svc.ready().await.unwrap().call(n).await.unwrap();
//! }
//! handle.set_enabled(true);
//! for n in 0..100 {
//!     let _ = svc.ready().await.unwrap().call(n).await;
//! }
//! assert!(handle.counts().errors > 0);
//! # }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod config;
mod fault;
mod future;
mod handle;
mod layer;
mod service;

pub use config::{Config, Latency};
pub use fault::{ChaosFault, MakeError, NoError};
pub use future::ResponseFuture;
pub use handle::{ChaosHandle, Counts};
pub use layer::ChaosLayer;
pub use service::Chaos;
#[doc(no_inline)]
pub use stockade_core::{Bypass, Only};
