//! A tower layer that bounds the rate of calls with a token bucket, on `governor`.
//!
//! It does not bound how many calls run at the same time.
//!
//! A call takes its token in `call`, or as many as it [costs](RateLayer::cost). If there is none, the call
//! waits inside its response future, in the order of arrival and in a bounded queue, or is refused at once
//! when it is already known that it could not be served in time; every refusal says when to come back,
//! unless there is no such time. The layer is shared: all its clones, all services it makes and their clones
//! draw on one bucket, or on one [for each key](RateLayer::keyed).
//!
//! - [`RateLayer`]: the layer, which is the configuration.
//! - [`Rate`]: the service, and [`ResponseFuture`], what it returns.
//! - [`RateHandle`]: what there is to see, and to turn at run time; [`KeyedHandle`] where there is a
//!   bucket for each key.
//! - [`Backpressure`]: the service that waits in `poll_ready`, for those who need that.
//! - [`Policy`]: what a call takes, and from which bucket.
//!
//! # Features
//!
//! - `test-util`: time is tokio's, so that tests with a paused clock see the rate limit follow it. For
//!   `[dev-dependencies]`: it makes every call a little dearer.
//! - `tracing`: an event for each refusal.
//!
//! # Example
//!
//! ```
//! use stockade_core::{Error, Reason};
//! use stockade_rate::RateLayer;
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let mut service = ServiceBuilder::new()
//!     .layer(RateLayer::per_second(2).queue(0))
//!     .service(service_fn(|n: u32| async move { Ok::<_, Error<std::io::Error>>(n + 1) }));
//! for n in 0..2 {
//!     assert_eq!(service.ready().await.unwrap().call(n).await.unwrap(), n + 1);
//! }
//! let Err(Error::Rejected(no)) = service.ready().await.unwrap().call(2).await else { panic!() };
//! assert_eq!(no.reason(), Reason::RateLimited);
//! assert_eq!(no.retry_after().unwrap().as_millis(), 500);
//! # }
//! ```

mod backpressure;
mod bucket;
mod clock;
mod future;
mod gate;
mod handle;
mod keyed;
mod layer;
#[cfg(all(test, shuttle))]
mod model;
mod policy;
mod service;
mod waiter;

pub use backpressure::{Backpressure, BackpressureLayer};
pub use future::ResponseFuture;
pub use handle::RateHandle;
pub use keyed::{Keyed, KeyedHandle};
pub use layer::RateLayer;
pub use policy::{Costly, Policy, PolicyFor, Single};
pub use service::Rate;
