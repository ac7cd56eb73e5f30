//! What the `tower` layers of Stockade share: refusals, classes of results, deadlines, priorities and budgets.
//!
//! Its types are in `stockade` as well, with the layers. Depend on it alone to write a layer of your own that refuses, judges
//! and keeps deadlines like those.
//!
//! - [`Rejected`]: the one small value that every refusal by any layer is.
//! - [`LayerError`]: an error type that can carry a refusal; [`Error`] is the ready-made one.
//! - [`Class`] and [`Classify`]: the one way to judge a result, for retry and breaker alike.
//! - [`deadline`]: the ambient deadline, by which a call must have ended.
//! - [`priority`]: the ambient priority, how much the current call matters; [`carry`](carry()) takes both into a task.
//! - [`attempts`]: how often the current call has been tried.
//! - [`Budget`]: how many extra attempts there may be.
//! - [`Share`]: whose call it is, for layers that give equal or weighted shares.
//! - [`waits`]: how long the current call has waited inside the stack.
//! - [`Bypass`]: which calls pass a layer by.
//! - [`KeyOf`]: which key a call belongs to.
//! - [`config`], [`Name`]: checks of what a user configures.
//!
//! It knows none of the layers, and it starts no task and no thread. Time is tokio's: a test with a paused clock
//! needs no feature of this crate.
//!
//! # Features
//!
//! - `serde`: configurations can be read from files, with durations and sizes as people write them.
//! - `tracing`: an event for each call that is refused or ended.
//!
//! # Example
//!
//! An error type of your own takes refusals in a few lines:
//!
//! ```
//! use stockade_core::{LayerError, Rejected};
//!
//! #[derive(Debug)]
//! enum AppError {
//!     Refused(Rejected),
//!     Database(std::io::Error),
//! }
//!
//! impl From<Rejected> for AppError {
//!     fn from(rejected: Rejected) -> Self {
//!         Self::Refused(rejected)
//!     }
//! }
//!
//! impl LayerError for AppError {
//!     fn rejected(&self) -> Option<&Rejected> {
//!         match self {
//!             Self::Refused(rejected) => Some(rejected),
//!             Self::Database(_) => None,
//!         }
//!     }
//! }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod attempts;
mod budget;
mod bypass;
mod carry;
mod class;
pub mod config;
pub mod deadline;
mod error;
#[doc(hidden)]
pub mod internal;
mod key;
mod layers;
mod macros;
pub mod name;
pub mod priority;
mod rejected;
mod share;
#[cfg(all(test, shuttle))]
mod tests {
    mod shuttle;
}
pub mod waits;

pub use budget::Budget;
pub use bypass::{Bypass, NoBypass, Only};
pub use carry::{Carried, carry};
pub use class::{Class, Classify, DefaultClassify, Judged};
pub use config::ConfigError;
pub use error::{BoxError, Error, LayerError, boxed};
pub use internal::backpressure::{Backpressure, BackpressureLayer};
pub use key::KeyOf;
#[doc(hidden)]
pub use layers::Fresh;
pub use layers::{Configured, PerService, Reusable};
pub use name::Name;
pub use rejected::{Reason, Rejected};
pub use share::{IntoShare, Share};
