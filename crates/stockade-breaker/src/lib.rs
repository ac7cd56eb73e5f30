//! A tower layer that stops calling a service which fails, and probes it until it has recovered.
//!
//! It is not a retry, a timeout or a limit: it only decides whether a call passes, by what came of the
//! calls before.
//!
//! - [`BreakerLayer`] is the configuration, and says when it opens and closes.
//! - [`Breaker`] is the service.
//! - [`BreakerHandle`] shows the state, follows it, and opens or closes by hand.
//!
//! # Example
//!
//! ```
//! use stockade_core::BoxError;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! use stockade_breaker::{BreakerLayer, State};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! let layer = BreakerLayer::new().failure_rate(0.2).name("search");
//! let handle = layer.handle();
//! let mut search = ServiceBuilder::new()
//!     .layer(layer)
//!     .service(service_fn(|query: &'static str| async { Ok::<_, BoxError>(query.len()) }));
//!
//! assert_eq!(search.ready().await?.call("tower").await?, 5);
//! assert_eq!(handle.state(), State::Closed);
//! # Ok(())
//! # }
//! ```

mod buckets;
mod future;
mod gate;
mod handle;
mod layer;
#[cfg(all(test, shuttle))]
mod model;
mod owner;
mod ring;
mod service;
mod settings;
mod state;
mod ticket;
mod window;

pub use future::ResponseFuture;
pub use handle::{BreakerHandle, ForcedOpen, Snapshot};
pub use layer::BreakerLayer;
pub use service::Breaker;
pub use state::State;
pub use window::Window;
