//! A breaker whose verdict a fleet shares, and whose decisions each node makes by itself.
//!
//! Each node has its own breaker with its own window, as without a fleet. Beside it runs a [`Member`], which reports
//! whether that breaker has opened. When enough of the nodes that report have, the fleet's verdict is *open until t*, and
//! all nodes open, also those that have not noticed anything. So one sick node opens nobody's breaker but its own.
//!
//! When the time is over, one node gets the lease to probe; the others stay open. If its probes succeed, all close; if
//! they fail, all stay open for another time; and if it makes none, because nobody calls it or because it has died, the
//! lease goes to another.
//!
//! While the Redis is away every node goes on alone: what is open then half-opens by itself when its time is over.

mod board;
mod config;
mod member;

pub use config::Config;
pub use member::{Member, Quorum, Snapshot};
