//! A stack of `tower` layers that is read from a file, and follows the file while it runs.
//!
//! [`StackConfig`] is the recommended stack in which each layer may be absent. [`Watch`] reads a file, and reads it again
//! and again: what is in it is checked as a whole, and then put into force as a whole or refused as a whole.
//!
//! A file sets values only: how results are judged, and which requests may be repeated, is code. No layer is added or removed
//! at run time.
//!
//! # What can change at run time
//!
//! | setting | holds for |
//! |---|---|
//! | `timeout.limit`, all of `retry` except `name` and `seed`, `attempt_timeout.limit` | calls that begin after that |
//! | all of `breaker` except `name`; `rate.calls`, `rate.per`; `limit.max`, `limit.queue`, `limit.max_wait`; `pool.workers` | all calls, at once |
//!
//! Everything else needs a restart, and a file in which something else has changed is refused, with an error that names all
//! of it. A breaker whose settings have changed keeps its state and forgets its window; a retry budget that has changed
//! starts anew.
//!
//! # What a call finds
//!
//! Settings change between calls: a call that comes at that instant waits until they have changed. So
//!
//! - when a call is made, all layers down to the client know it under the settings from before, or all of them under the
//!   new ones;
//! - it keeps what is its own until it ends: the total timeout, how it is repeated, and the limit of each attempt;
//! - what belongs to all calls together (how many run at once, how many start each second, when the service counts as
//!   down, the budget of retries, the workers) holds for all of them from then on: calls that wait, and later
//!   attempts, are admitted by what holds at that time.
//!
//! No call is lost or refused because settings change. A call that is made by a blocked thread delays the change, and no
//! other call.
//!
//! # How the file is watched
//!
//! It is read at an interval, by a thread that may block. That works on every file system, over a network too, and for a
//! config map of Kubernetes, whose files are links that are swapped. A file that is larger than [`Watch::max_size`] is
//! refused, and so is anything that is not a regular file.
//!
//! A change counts once two readings in a row have found the same, because a file that is being written can be valid
//! before all of it is there. So settings are in force after one to two intervals.
//!
//! A refused file is reported once: by [`Watching::status`], and with the feature `tracing` by an event (`warn`; a
//! change is `info`). The task that reads the file ends when [`Watching`] is dropped.
//!
//! # Features
//!
//! - `toml` (on by default): [`toml`](toml()) reads TOML.
//! - `metrics`: `Metrics::stack` of `stockade-metrics` takes a [`StackHandle`], and shows all of its layers.
//! - `tracing`: an event for each change of settings, and for each file that is refused.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use stockade_config::{StackConfig, Watch, toml};
//! use stockade_core::Error;
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # // The clock is paused, with the feature `test-util` of tokio, so that this takes no time.
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), stockade_core::BoxError> {
//! let directory = tempfile::tempdir()?;
//! let path = directory.path().join("client.toml");
//! std::fs::write(&path, "[limit]\nmax = 64\n[attempt_timeout]\nlimit = \"2s\"")?;
//!
//! let watch = Watch::new(&path, toml::<StackConfig>).every(Duration::from_secs(1));
//! let (layer, handle) = watch.read()?.try_build()?.with_handle();
//! let client = ServiceBuilder::new()
//!     .layer(layer)
//!     .map_err(Error::Service)
//!     .service_fn(async |n: u32| Ok::<_, std::io::Error>(n + 1));
//! let watching = watch.start(handle.clone()); // until it is dropped
//! assert_eq!(client.oneshot(1).await?, 2);
//!
//! let mut status = watching.subscribe();
//! std::fs::write(&path, "[limit]\nmax = 32\n[attempt_timeout]\nlimit = \"2s\"")?;
//! status.changed().await?;
//! assert_eq!(handle.limit.unwrap().max(), 32);
//! # Ok(())
//! # }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod change;
mod config;
mod error;
mod file;
mod format;
mod gate;
mod handle;
mod kept;
mod layer;
mod service;
mod watch;

pub use change::Change;
pub use config::StackConfig;
pub use error::Error;
#[cfg(feature = "toml")]
pub use format::toml;
pub use format::{deserialize, json};
pub use handle::{Reload, StackHandle};
pub use kept::KeptLimit;
pub use layer::{StackBuilder, StackLayer};
pub use service::{ResponseFuture, StackService};
pub use watch::{Status, Watch, Watching};
