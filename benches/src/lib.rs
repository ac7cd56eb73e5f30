//! What the layers and the pool of stockade cost, beside their peers: the rooms behind `cargo xtask bench`.
//!
//! Three programs share them. `bench` reads the command line, starts the others, keeps what they find and draws the
//! report; it is built without optimization, so that it starts soon. `measure` is built for speed. It measures on the
//! real clock, and its stacks are also the ones that callgrind counts the instructions of. `model` is the same
//! program with the feature `virtual-time`: it runs the load, the faults and the adaptive limits on tokio's paused clock.
//!
//! Every figure comes from the same stacks ([`kit`] and [`peers`]), the same services ([`service`]) and the same
//! callers ([`drive`]), and cases that compare take turns ([`turns`]). Only figures of one run compare.
//!
//! Functions that build stacks are `#[inline]` all the way up to `main`, so that they are compiled into the programs
//! that call them, and not into this library or into `bench`.

// In this order, each module uses only modules above it.
pub mod adaptive;
pub mod combo;
pub mod environment;
pub mod numbers;
pub mod plan;
pub mod record;
pub mod usage;

pub mod arrivals;
pub mod service;
pub mod worker;

pub mod server;

pub mod drive;
pub mod turns;

pub mod kit;
pub mod peers;

pub mod keyed;
pub mod measured;

pub mod layers;
pub mod load;
pub mod memory;
pub mod overhead;
pub mod pools;
pub mod tasks;

pub mod faults;
pub mod measure;

mod programs;

pub mod compare;
pub mod instructions;
pub mod readme;
pub mod store;
pub mod summary;

pub mod report;

pub mod front;

/// The code of those pages of `stockade::guide` that need the peers, compiled where these are at hand.
#[cfg(all(doctest, feature = "peers"))]
mod coming_from {
    #[doc = include_str!("../../crates/stockade/src/guide/coming_from/tower_resilience.md")]
    mod tower_resilience {}

    #[doc = include_str!("../../crates/stockade/src/guide/coming_from/seatbelt.md")]
    mod seatbelt {}
}
