//! A `tower` layer that lets at most so many calls through in a second, with bursts, for all calls together or for each key.
//!
//! It does not bound how many calls run at the same time.
//!
//! It is a token bucket, with the arithmetic of `governor`. A call takes one token, or as many as it
//! [costs](RateLayer::cost). If they are not there, it waits inside its response future, in FIFO order and in a bounded
//! queue. It is refused at once when it is already known that it could not be served in time, and every refusal says when
//! to come back, unless there is no such time. The layer is shared: all its clones, all services it makes and their clones
//! draw on one bucket, or on one [for each key](RateLayer::keyed).
//!
//! - [`RateLayer`]: the layer, and [`Config`], its configuration as a value.
//! - [`Rate`]: the service, and [`ResponseFuture`], what it returns.
//! - [`RateHandle`]: reads the state, changes it at run time and takes tokens by hand; [`KeyedHandle`] where there is a
//!   bucket for each key.
//! - [`Policy`]: what a call takes, and from which bucket.
//!
//! # Features
//!
//! - `serde`: [`Config`] can be read from a file, and written.
//! - `tracing`: an event for each refusal.
//!
//! # Example
//!
//! ```
//! use stockade_core::{Error, Reason};
//! use stockade_rate::RateLayer;
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # // The clock is paused, with the feature `test-util` of tokio, so that this takes no time.
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

#![cfg_attr(docsrs, feature(doc_cfg))]

mod alarm;
#[doc(hidden)]
pub mod backend;
mod bucket;
mod config;
mod future;
mod handle;
mod keyed;
mod layer;
mod limiter;
mod policy;
mod service;
mod shared;
#[cfg(all(test, shuttle))]
mod tests {
    mod shuttle;
}
mod waiter;

pub use config::Config;
pub use future::ResponseFuture;
pub use handle::RateHandle;
pub use keyed::{Keyed, KeyedHandle};
pub use layer::RateLayer;
#[doc(hidden)]
pub use policy::Cost;
pub use policy::{Bypass, Costly, Policy, PolicyFor, Single};
pub use service::Rate;
