//! A contract suite that any `tower` layer can be run through, and a mock service.
//!
//! It is for authors of layers. It does not test what a layer is for; that is what the layer's own tests do. It only looks at
//! what can be seen from outside and from the mock service inside, so it also works for whole stacks, and for services that
//! call from tasks of their own.
//!
//! - [`contract`]: twenty checks of what layers often get wrong, such as readiness, permits, waiting, wakes,
//!   panics and errors. The [`Report`] says for each check what was seen.
//! - [`Probe`]: a mock service for your own tests. A [`Request`] says how its call behaves, and the probe
//!   records what the layer does with it.
//! - `Events`, with the feature `events`: records `tracing` events.
//! - `read_toml` and `round_trip`, with the feature `serde`: for configurations in files.
//!
//!
//! # Example
//!
//! ```
//! use stockade_testkit::{Probe, contract};
//! use tower::{Layer, limit::ConcurrencyLimitLayer};
//!
//! # // As a test, this is `#[tokio::test(start_paused = true)]`.
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! contract(|inner: Probe| ConcurrencyLimitLayer::new(2).layer(inner))
//!     .limit(2)
//!     .except("release_on_ready", "a finished future keeps its permit in tower 0.5")
//!     .run()
//!     .await
//!     .assert();
//! # }
//! ```
//!
//! Say what the layer does, and the checks of that are made, too:
//!
//! | what the layer does | declare |
//! |---|---|
//! | decides at once, or only watches | nothing |
//! | runs at most `n` calls at once, and others wait | [`.limit(n)`](Contract::limit) |
//! | makes calls wait until something happens, as a gate does | [`.hold(..)`](Contract::hold), [`.release(..)`](Contract::release) |
//! | delays each call by itself | `.hold(\|_\| {})` |
//! | ends a call that takes too long | [`.deadline(d)`](Contract::deadline) |
//! | can be closed, and then refuses calls | [`.close(..)`](Contract::close) |
//!
//! The report lists a check for which nothing is declared as [not made](Outcome::NotMade), with what to declare. One that is
//! left out by [`.except(..)`](Contract::except) [does not apply](Outcome::DoesNotApply), for the reason that is given there.
//!
//! # The checks
//!
//! | check | what it asks for |
//! |---|---|
//! | `readied_instance_called` | each instance of the inner service is polled ready before it is called |
//! | `ready_idempotent` | polling a ready stack again stays ready and takes no more capacity |
//! | `ready_clone_drop_releases` | a ready instance that is dropped uncalled returns what it holds |
//! | `clone_starts_unready` | a clone of a ready instance is not ready, and shares nothing that the instance has reserved |
//! | `readiness_error_sticky` | an inner readiness error is reported each time, and nothing panics or leaks |
//! | `masked_inner_driven` | a stack that is ready while the inner service is not never calls it unready, and works again when it is ready |
//! | `peak_within_limit` | at most the declared number of calls runs inside, over all clones and threads |
//! | `future_drop_releases` | dropping the future ends the call inside and returns what it held |
//! | `release_on_ready` | a finished future holds nothing, even if it is kept |
//! | `all_waiters_served_fifo` | waiting calls are served, and in order where they wait for a limit |
//! | `woken_waiter_drop_passes_on` | a waiter that is dropped after it was woken passes its turn on |
//! | `idle_waiter_no_hoard` | a call that waits for the layer does not hold the inner service's readiness |
//! | `cancelled_queued_dropped` | the request of a dropped waiter is dropped at once and never starts |
//! | `close_wakes_all` | closing ends all waits, and no new call is let in |
//! | `no_self_wake` | while it has to wait, a waiter is not polled |
//! | `latest_waker_woken` | a future that moves to another task is woken there |
//! | `coop_neutral` | an exhausted cooperative budget is neither taken for a full stack nor for a failure |
//! | `deadline_under_busy_inner` | a call ends at its deadline, even if the inner future uses up the cooperative budget |
//! | `panic_contained` | a panic inside costs one call its answer; its capacity is returned, and other calls go on |
//! | `error_lossless` | the inner error is returned unchanged |
//!
//! The checks send few failures and panics, so that a circuit breaker with a usual minimum of calls stays closed. A
//! rate limit has to be generous. A retry may repeat anything.
//!
//! `tests/tower.rs` records which of `tower`'s own layers fail which checks.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod checks;
mod contract;
mod error;
#[cfg(feature = "events")]
mod events;
#[cfg(feature = "serde")]
mod files;
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
#[cfg(feature = "serde")]
pub use files::{read_toml, round_trip};
pub use future::ProbeFuture;
pub use probe::Probe;
pub use report::{Outcome, Report};
pub use request::{Behaviour, Fault, Request, Response};
#[cfg(shuttle)]
pub use schedules::schedules;
pub use state::{Readiness, Violation};
