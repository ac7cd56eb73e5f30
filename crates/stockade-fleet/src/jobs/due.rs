//! The deadline of a job, as it travels through the queue.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use apalis_core::{
    error::BoxDynError,
    task::metadata::{Metadata, MetadataStore},
};
use stockade_core::deadline;
use tokio::time::Instant;

/// By when a job has to have ended. It is put to the job when that is pushed.
///
/// It is an instant of the clock on the wall, in milliseconds, because it crosses machines: where two of them differ by
/// a minute, so does the deadline.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use apalis_core::task::builder::TaskBuilder;
/// use stockade_fleet::jobs::Due;
///
/// let job = TaskBuilder::new("resize").metadata(&Due::within(Duration::from_secs(60))).build();
/// assert!(job.metadata().extract_as::<Due>().is_ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    unix_millis: u64,
}

const KEY: &str = "stockade.due";

// === impl Due ===

impl Due {
    /// An instant of the clock on the wall.
    pub fn at(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { unix_millis: u64::try_from(since.as_millis()).unwrap_or(u64::MAX) }
    }

    /// So long from now on.
    pub fn within(time: Duration) -> Self {
        let now = Self::at(SystemTime::now()).unix_millis;
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self { unix_millis: now.saturating_add(millis) }
    }

    /// That of the call at hand, if it has one: so a deadline reaches the jobs that a call pushes.
    pub fn ambient() -> Option<Self> {
        let at = deadline::current()?;
        Some(Self::within(at.saturating_duration_since(Instant::now())))
    }

    /// How long there is until then.
    pub fn left(self) -> Duration {
        let now = Self::at(SystemTime::now()).unix_millis;
        Duration::from_millis(self.unix_millis.saturating_sub(now))
    }
}

impl Metadata for Due {
    type Error = BoxDynError;

    fn extract(store: &MetadataStore) -> Result<Self, BoxDynError> {
        let text = store.get(KEY).ok_or("the job has no deadline")?;
        Ok(Self { unix_millis: text.parse()? })
    }

    fn inject(&self, store: &mut MetadataStore) -> Result<(), BoxDynError> {
        store.replace(KEY, self.unix_millis.to_string());
        Ok(())
    }
}
