//! What `cargo xtask bench` does: every combination of the layers, measured, compared and shown.
//!
//! Three programs share these rooms. `bench` is what a user runs: it reads the command line, starts the two others,
//! keeps what they find and draws the report; it is built without optimization, so that it starts soon. `measure`
//! is built for speed and measures on the real clock. `model` runs the load and the faults in virtual time, for
//! which it is built with the feature `virtual-time`: the rate limit then reads tokio's clock, which is a slower
//! one, so what a call costs is not measured there.
//! A fourth one, `calls`, does nothing but call, for callgrind to count.
//!
//! What builds all the stacks is marked `#[inline]`, all the way up to `main`: it is then compiled into the programs that
//! call it, and neither into this library nor into `bench`.

pub mod arrivals;
pub mod combo;
pub mod compare;
pub mod environment;
pub mod faults;
pub mod front;
pub mod instructions;
pub mod kit;
pub mod load;
pub mod numbers;
pub mod overhead;
pub mod payload;
pub mod peers;
pub mod plan;
pub mod pools;
pub mod readme;
pub mod record;
pub mod report;
pub mod server;
pub mod store;
pub mod summary;
pub mod turns;
pub mod worker;
