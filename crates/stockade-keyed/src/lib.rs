//! A `tower` layer that gives each host, tenant or other key a stack of layers of its own, and forgets keys that are idle.
//!
//! Where one breaker stands around a client of many hosts, one dead host opens it for all. [`KeyedLayer`] makes a stack for
//! each key when it comes first, of any layers, and drops it when the key has not been used for a while. It keeps no more
//! stacks than it was told.
//!
//! It is not a cache of clients, and it does not share out a limit among keys. For a rate limit alone,
//! `RateLayer::keyed` of `stockade-rate` takes a few dozen bytes a key in place of a stack.
//!
//! - [`KeyedLayer`] is the configuration, and the `tower` layer.
//! - [`Keyed`] is the service.
//! - [`KeyedHandle`] shows the keys, and hands out the handles of each key's layers.
//!
//! # Many keys
//!
//! A key is dropped only when it was not used for [`idle`](KeyedLayer::idle) and no call of it is in flight, the one that
//! was not used longest first; this is looked at as calls come, and nothing runs in the background. While there are
//! `max_keys` that are in use, a new key [shares](KeyedLayer::when_full) one of 16 stacks with others, or is refused. So
//! somebody who invents keys can neither push out a key that is in use, nor get more of a limit by letting a key go and
//! coming back with it: when it is gone, its limit would have been as new as well. A key that shared a stack may get one
//! of its own later, which is one share more, once.
//!
//! A key takes its own size, that of its layers and its handles, of one stack for each service, and about 200 bytes
//! beyond that. `max_keys` and 16 stacks bound that, whatever comes. When keys go, their memory is free again; limits,
//! timeouts and breakers keep a small part of theirs, and use it again for the next keys.
//!
//! # Features
//!
//! - `tracing`: an event for each refusal.
//!
//! # Example
//!
//! ```
//! use stockade_breaker::BreakerLayer;
//! use stockade_core::Error;
//! use stockade_keyed::KeyedLayer;
//! use stockade_limit::LimitLayer;
//! use tower::{ServiceBuilder, ServiceExt, layer::util::Stack};
//!
//! #[derive(Clone)]
//! struct Request {
//!     host: String,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let hosts = KeyedLayer::new(
//!     |request: &Request| request.host.clone(),
//!     1_000,
//!     |_host| Stack::new(LimitLayer::new(20), BreakerLayer::new()),
//! );
//! let (hosts, handle) = hosts.with_handle();
//! let stack = ServiceBuilder::new()
//!     .layer(hosts)
//!     .map_err(Error::Service)
//!     .service_fn(async |request: Request| Ok::<_, std::io::Error>(request.host));
//!
//! for host in ["a", "b", "a"] {
//!     stack.clone().oneshot(Request { host: host.to_owned() }).await.unwrap();
//! }
//! assert_eq!(handle.len(), 2);
//! # }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod config;
mod future;
mod handle;
mod in_use;
mod known;
mod layer;
mod service;
mod shared;
mod stacks;
#[cfg(all(test, shuttle))]
mod tests {
    mod shuttle;
}
mod usage;

pub use config::WhenFull;
pub use future::ResponseFuture;
pub use handle::{KeyStats, KeyedHandle};
pub use layer::KeyedLayer;
pub use service::Keyed;
pub use stockade_core::KeyOf;
