//! A rate limit that a fleet shares: the token bucket is in Redis.

mod bucket;
mod errand;
mod future;
mod gate;
mod handle;
mod keyed;
mod layer;
mod line;
mod policy;
mod service;
mod status;

pub use future::ResponseFuture;
pub use gate::Away;
pub use handle::RateHandle;
pub use layer::RateLayer;
pub use policy::{Costly, Keyed, Policy, PolicyFor, Single};
pub use service::Rate;
pub use status::Snapshot;
