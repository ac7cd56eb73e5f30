//! What travels with a request from one process to the next: the time that is left, and the priority.

mod extract;
mod inject;
mod priority;
mod time;

pub use extract::{Extract, ExtractFuture, ExtractLayer};
pub use inject::{Carrier, Inject, InjectFuture, InjectLayer};
pub use time::{TimeHeader, Unit};
