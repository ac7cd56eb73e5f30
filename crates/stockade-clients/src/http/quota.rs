//! Rates that learn from the server: its quotas, what is left of them, and when to come back.

mod cost;
mod headers;
mod layer;
mod reset;

pub use cost::{Estimate, NoCost, Settle, Settled};
pub use headers::QuotaHeaders;
pub use layer::{Quota, QuotaFuture, QuotaLayer};
