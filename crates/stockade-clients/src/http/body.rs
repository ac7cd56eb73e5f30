//! Bodies that stream after the service has answered.

mod held;
mod timed;

pub use held::{BodyEnd, HeldBody, Release, hold_body, hold_body_until};
pub use timed::{BodyTimeout, BodyTimeoutFuture, BodyTimeoutLayer, TimedBody};
