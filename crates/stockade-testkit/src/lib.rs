//! A contract suite that any tower layer can be run through.
//!
//! Whoever writes a layer gets from here:
//!
//! - [`contract`]: twenty checks of what a layer has to get right and what is easily got wrong,
//!   such as readiness, permits, waiting, wakes, panics and errors. Each one is in the [`Report`] with
//!   what was seen.
//! - [`Probe`]: a mock service for tests of one's own. A [`Request`] says how its call goes, and the
//!   probe says what the layer did with it.
//! - `Events`, with the feature `events`: records what is told through `tracing`, for tests of that.
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
//!
//! A layer that holds calls back declares its limit, a timeout its deadline, and what can be closed,
//! how: see [`Contract`]. Checks for which nothing was declared are listed as such, and not as passed.
//!
//! # The checks
//!
//! | check | what it asks for |
//! |---|---|
//! | `readied_instance_called` | no instance of the inner service is called that was not polled ready itself |
//! | `ready_idempotent` | polling ready again stays ready, and takes no further capacity |
//! | `ready_clone_drop_releases` | a ready instance that is dropped uncalled gives back what it held |
//! | `clone_starts_unready` | the clone of a ready instance is not ready, and shares nothing that the instance holds |
//! | `readiness_error_sticky` | an inner readiness error comes through, again if polled again, and nothing panics or is lost |
//! | `masked_inner_driven` | a stack that is ready while the inner service is not never calls it unready, and comes back with it |
//! | `peak_within_limit` | no more calls run inside than the limit says, over clones and over threads |
//! | `future_drop_releases` | dropping the future ends the call inside, and gives back what it held |
//! | `release_on_ready` | a future that has ended holds nothing, even if it is kept |
//! | `all_waiters_served_fifo` | whoever waits is served, in the order of their coming |
//! | `woken_waiter_drop_passes_on` | a waiter that is dropped after its turn has come passes it on |
//! | `idle_waiter_no_hoard` | whoever waits for the layer holds no readiness of the inner service |
//! | `cancelled_queued_dropped` | the request of a waiter that is dropped is dropped at once, and never starts |
//! | `close_wakes_all` | closing leaves nobody hanging, and lets nobody new in |
//! | `no_self_wake` | while the stack is full, a waiter is not polled |
//! | `latest_waker_woken` | a future that moves to another task is woken there |
//! | `coop_neutral` | an exhausted cooperative budget is read neither as full nor as a failure |
//! | `deadline_under_busy_inner` | a call ends at its deadline although the inner future eats the cooperative budget |
//! | `panic_contained` | a panic inside costs one call its answer; capacity comes back, all others go on |
//! | `error_lossless` | the inner error comes out as the value that went in |
//!
//! The checks send few failures and panics, so that a circuit breaker with a usual minimum of calls stays
//! closed; a rate limit has to be generous, and a retry may repeat what it likes.
//!
//! Which of `tower`'s own layers fail which of these is on record in `tests/tower.rs`.

mod checks;
mod contract;
mod error;
#[cfg(feature = "events")]
mod events;
mod flight;
mod future;
mod probe;
mod report;
mod request;
#[cfg(shuttle)]
mod schedules;
mod stage;
mod state;
mod watchdog;

pub use contract::{Contract, Subject, contract};
pub use error::ContractError;
#[cfg(feature = "events")]
pub use events::Events;
pub use future::ProbeFuture;
pub use probe::Probe;
pub use report::{Outcome, Report};
pub use request::{Behaviour, Fault, Request, Response};
#[cfg(shuttle)]
pub use schedules::schedules;
pub use state::{Readiness, Violation};
