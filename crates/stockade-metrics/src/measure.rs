//! A layer that counts calls and times them.
//!
//! Each thread counts in a [shard](shard) of its own, and a handle adds them up, so threads do not wait for each
//! other, nor for the memory that another one writes to.

mod call;
mod future;
mod handle;
mod layer;
mod service;
mod shard;
mod window;

pub use future::ResponseFuture;
pub use handle::{Calls, MeasureHandle, Percentiles};
pub use layer::MeasureLayer;
pub use service::Measure;
