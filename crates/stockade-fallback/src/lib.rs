//! A `tower` layer with an async function that answers in place of a call that failed.
//!
//! It does not repeat the call (that is retry), keep old answers, or change what succeeds.
//!
//! An HTTP answer with the status 500 succeeds, too: for it to be seen, put
//! `.map_result(stockade_clients::http::status_to_error)` right below this layer, and above retry and the breaker.
//!
//! - [`FallbackLayer`] is the configuration, and the `tower` layer.
//! - [`Fallback`] is the service.
//! - [`FallbackHandle`] switches it off and on.
//!
//! # Features
//!
//! - `tracing`: an event for each call that the fallback answers.
//!
//! # Example
//!
//! ```
//! use stockade_core::{Error, Reason, Rejected};
//! use stockade_fallback::{FallbackLayer, is_refusal};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! type Answer = Result<&'static str, Error<std::io::Error>>;
//!
//! let svc = ServiceBuilder::new()
//!     .layer(FallbackLayer::new(async |_| Ok("from the cache")).on(is_refusal))
//!     .service_fn(async |(): ()| -> Answer {
//!         Err(Rejected::new(&"breaker", Reason::BreakerOpen).into())
//!     });
//! assert_eq!(svc.oneshot(()).await.unwrap(), "from the cache");
//! # }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod future;
mod handle;
mod handler;
mod layer;
mod service;

pub use future::ResponseFuture;
pub use handle::FallbackHandle;
pub use handler::{ByClone, Handler, Keep, OnError, OnRequest, is_refusal};
pub use layer::FallbackLayer;
pub use service::Fallback;
#[doc(no_inline)]
pub use stockade_core::{Bypass, Only};
