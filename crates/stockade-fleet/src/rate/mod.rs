//! A rate limit that a fleet shares: the token bucket is in Redis.
//!
//! Service, response future and policies are those of `stockade-rate`. What is here is the bucket in Redis, the queue of
//! those who wait for its answers, and what a node does on its own while the Redis is away.

mod bucket;
mod config;
mod handle;
mod keyed;
mod layer;
mod limiter;
mod policy;
mod refill;
mod shared;
mod state;
mod status;

pub use config::{Config, Outage};
pub use handle::RateHandle;
pub use layer::RateLayer;
#[doc(hidden)]
pub use limiter::Limiter;
pub use policy::Keyed;
pub use status::Snapshot;
pub use stockade_rate::{Bypass, Costly, Policy, PolicyFor};

/// One bucket for all calls: the default.
pub type Single = stockade_rate::Single<Limiter>;

/// A service whose calls pass no faster than a rate that a fleet shares.
///
/// It is [`stockade_rate::Rate`] over a bucket in Redis. A call that finds no token leased to this node waits inside its
/// response future for the answer of the Redis, and for its turn. The refusals are the same, and say in `retry_after`
/// when the same call would pass if no other call of the fleet came in the meantime. There is one more,
/// [`Unavailable`](stockade_core::Reason::Unavailable): the Redis is away, and the limit [refuses](Outage::Closed) while
/// it is. It says when the Redis is looked for next.
pub type Rate<S, P = Single> = stockade_rate::Rate<S, P>;

/// The response future of [`Rate`]. It panics when the call has to wait outside a tokio runtime with time.
pub type ResponseFuture<F, S, Req> = stockade_rate::ResponseFuture<F, S, Req, Limiter>;
