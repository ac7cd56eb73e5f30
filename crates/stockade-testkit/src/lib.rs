//! A contract suite that any tower layer can be run through.
//!
//! Whoever writes a layer gets from here:
//!
//! - [`contract`]: some twenty checks of what a layer has to get right and what is easily got wrong,
//!   such as readiness, permits, waiting, wakes, panics and errors. Each one is in the [`Report`] with
//!   what was seen.
//! - [`Probe`]: a mock service for tests of one's own. A [`Request`] says how its call goes, and the
//!   probe says what the layer did with it.
//!
//! It does not test what a layer is for: that is the business of the layer's own tests. It knows no layer,
//! and looks only at what can be seen from outside and from the probe inside, so it takes stacks,
//! and services that call from tasks of their own, just as well.
//!
//! # Example
//!
//! ```
//! use stockade_testkit::{Probe, contract};
//! use tower::{Layer, limit::ConcurrencyLimitLayer};
//!
//! # // A doctest has no `#[tokio::test(start_paused = true)]`, which is what a test would have.
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! # tokio::time::pause();
//! contract(|inner: Probe| ConcurrencyLimitLayer::new(2).layer(inner))
//!     .limit(2)
//!     .except("release_on_ready", "a finished future keeps its permit in tower 0.5")
//!     .run()
//!     .await
//!     .assert();
//! # }
//! ```

mod checks;
mod contract;
mod error;
mod flight;
mod future;
mod probe;
mod report;
mod request;
mod stage;
mod state;
mod watchdog;

pub use contract::{Contract, Subject, contract};
pub use error::ContractError;
pub use future::ProbeFuture;
pub use probe::Probe;
pub use report::{Outcome, Report};
pub use request::{Behaviour, Fault, Request, Response};
pub use state::{Readiness, Violation};
