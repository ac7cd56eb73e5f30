//! The layers of stockade for a fleet of processes.

#[cfg(feature = "redis")]
pub mod breaker;
#[cfg(feature = "redis")]
mod fault;
#[cfg(feature = "apalis")]
pub mod jobs;
#[cfg(feature = "redis")]
mod link;
#[cfg(feature = "redis")]
mod mode;
#[cfg(feature = "redis")]
pub mod rate;

#[cfg(feature = "redis")]
pub use fault::{Fault, RedisError};
#[cfg(feature = "redis")]
pub use link::{Presence, Redis};
#[cfg(feature = "redis")]
pub use mode::Mode;
