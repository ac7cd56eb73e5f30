//! A circuit breaker: a `tower` layer that stops calling a service which fails, and probes it until it has recovered.
//!
//! It is not a retry, a timeout or a limit: it only decides whether a call passes, by what came of the
//! calls before.
//!
//! - [`BreakerLayer`] is the configuration, and says when it opens and closes.
//! - [`Breaker`] is the service.
//! - [`BreakerHandle`] shows the state, follows it, changes it by hand, and lets loops that are no
//!   `Service` ask whether they may call.
//!
//! # Features
//!
//! - `serde`: [`Config`] can be read from a file, and written.
//! - `tracing`: an event for each refusal and for each change of state, with its cause.
//!
//! # Example
//!
//! ```
//! use stockade_breaker::{BreakerLayer, State};
//! use stockade_core::BoxError;
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let (layer, handle) = BreakerLayer::new().failure_rate(0.2).name("search").with_handle();
//! let mut search = ServiceBuilder::new()
//!     .layer(layer)
//!     .service(service_fn(|query: &'static str| async { Ok::<_, BoxError>(query.len()) }));
//!
//! assert_eq!(search.ready().await?.call("tower").await?, 5);
//! assert_eq!(handle.state(), State::Closed);
//! # Ok(())
//! # }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod backpressure;
mod call;
mod cause;
mod config;
mod future;
mod handle;
mod layer;
mod permit;
mod record;
mod recovery;
mod service;
mod shared;
mod state;
#[cfg(test)]
mod tests {
    #[cfg(not(shuttle))]
    mod shared;
    #[cfg(shuttle)]
    mod shuttle;
    mod state;
}
mod window;

pub use cause::{Cause, State, Status, Trip};
pub use config::{Config, Slow};
pub use future::ResponseFuture;
pub use handle::{Admission, BreakerHandle, ForcedOpen, Snapshot};
pub use layer::BreakerLayer;
pub use service::Breaker;
pub use window::Window;
