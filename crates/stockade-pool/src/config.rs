//! What a pool is configured with: as it is written, and as it has been checked.

use std::{ops::RangeInclusive, time::Duration};

use stockade_core::{
    Name,
    config::{ConfigError, MAX_DURATION, MIN_DURATION, check},
};
use tokio::time::Instant;

use crate::{
    roster::{MOST, Size},
    sizing::cores,
};

/// What a pool is configured with, where it comes from a file and may be wrong.
///
/// The setters of [`PoolBuilder`](crate::PoolBuilder) panic about a value that is not allowed; [`try_build`](Self::try_build) returns the
/// same as an error.
///
/// # Example
///
/// ```
/// use stockade_pool::Config;
///
/// let mut config = Config::default();
/// config.workers = 0..=0;
/// let error = config.try_build::<()>().unwrap_err();
/// assert_eq!(error.setting(), "PoolBuilder::workers");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(
    feature = "serde",
    serde(default, deny_unknown_fields, expecting = "a table of settings")
)]
#[non_exhaustive]
pub struct Config {
    /// See [`workers`](crate::PoolBuilder::workers) (default: one per core). In a file it is a number, or `{ min = 2, max = 16 }`.
    #[cfg_attr(feature = "serde", serde(with = "crate::written"))]
    pub workers: RangeInclusive<usize>,
    /// See [`queue`](crate::PoolBuilder::queue) (default 128).
    #[cfg_attr(feature = "serde", serde(with = "fields::queue"))]
    pub queue: usize,
    /// See [`max_waiting`](crate::PoolBuilder::max_waiting) (default: any number).
    #[cfg_attr(feature = "serde", serde(with = "fields::max_waiting"))]
    pub max_waiting: Option<usize>,
    /// See [`max_wait`](crate::PoolBuilder::max_wait) (default: none).
    #[cfg_attr(feature = "serde", serde(with = "fields::max_wait"))]
    pub max_wait: Option<Duration>,
    /// See [`idle`](crate::PoolBuilder::idle) (default 10 s).
    #[cfg_attr(feature = "serde", serde(with = "fields::idle"))]
    pub idle: Duration,
    /// See [`name`](crate::PoolBuilder::name) (default: none).
    pub name: Option<Name>,
}

/// What a pool is configured with, checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checked {
    pub(crate) size: Size,
    /// How many jobs may be queued while all workers are busy.
    pub(crate) capacity: usize,
    /// What they may weigh together.
    pub(crate) budget: Option<u64>,
    /// How many may wait for a place.
    pub(crate) max_waiting: usize,
    pub(crate) when_full: WhenFull,
    /// How long a job may wait until it is started.
    pub(crate) max_wait: Option<Duration>,
    pub(crate) order_by: OrderBy,
    /// How many jobs of a key may be queued.
    pub(crate) per_key: Option<usize>,
    pub(crate) idle: Duration,
    pub(crate) measure: bool,
    /// Whether the clock is read when a job is submitted, taken and ended.
    pub(crate) clock: bool,
    pub(crate) detach: bool,
    /// Whether workers are threads.
    pub(crate) threads: bool,
    /// After how many failures in a row jobs end with the error of the service.
    pub(crate) give_up_after: Option<u32>,
    pub(crate) name: Option<&'static str>,
}

/// What becomes of a job that is submitted when there is no place for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhenFull {
    /// It waits for a place, in line with others.
    #[default]
    Wait,
    /// It is refused with [`Reason::QueueFull`](stockade_core::Reason::QueueFull).
    Refuse,
    /// It takes the place of the job that was queued first, which ends with
    /// [`Reason::Shed`](stockade_core::Reason::Shed). While nothing is queued, the new one is refused.
    DropOldest,
}

/// What decides which of the queued jobs is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OrderBy {
    /// Which was queued first.
    Arrival,
    /// The priorities with which they were submitted.
    Class,
    /// Whose they are.
    Share,
    /// Their keys, of which one is run at a time.
    Key,
    /// Priorities that age.
    Priority,
    /// The user's ranks.
    Rank,
}

/// With the workers, fewer than the four billion for which there are keys.
pub(crate) const QUEUES: RangeInclusive<usize> = 0..=u32::MAX as usize / 2 - MOST;
pub(crate) const WAITS: RangeInclusive<Duration> = Duration::ZERO..=MAX_DURATION;
pub(crate) const TIMES: RangeInclusive<Duration> = MIN_DURATION..=MAX_DURATION;

#[cfg(feature = "serde")]
stockade_core::fields! {
    queue: usize = QUEUES;
    max_waiting: Option<usize> = 0..=usize::MAX;
    max_wait: Option<Duration> = WAITS;
    idle: Duration = TIMES;
}

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        let Checked { size, capacity, idle, .. } = Checked::default();
        Self {
            workers: size.min..=size.max,
            queue: capacity,
            max_waiting: None,
            max_wait: None,
            idle,
            name: None,
        }
    }
}

impl Config {
    /// The same, checked.
    ///
    /// # Errors
    ///
    /// The first setting that is not allowed.
    pub(crate) fn check(self) -> Result<Checked, ConfigError> {
        let max_wait = self.max_wait.map(|limit| check("PoolBuilder::max_wait", limit, WAITS));
        Ok(Checked {
            size: Size::check("PoolBuilder::workers", self.workers)?,
            capacity: check("PoolBuilder::queue", self.queue, QUEUES)?,
            max_waiting: self.max_waiting.unwrap_or(usize::MAX),
            max_wait: max_wait.transpose()?,
            idle: check("PoolBuilder::idle", self.idle, TIMES)?,
            name: self.name.map(|name| name.check("PoolBuilder::name")).transpose()?,
            ..Checked::default()
        })
    }
}

// === impl Checked ===

impl Default for Checked {
    fn default() -> Self {
        let cores = cores();
        Self {
            size: Size { min: cores, max: cores },
            capacity: 128,
            budget: None,
            max_waiting: usize::MAX,
            when_full: WhenFull::Wait,
            max_wait: None,
            order_by: OrderBy::Arrival,
            per_key: None,
            idle: Duration::from_secs(10),
            measure: false,
            clock: false,
            detach: false,
            threads: false,
            give_up_after: None,
            name: None,
        }
    }
}

impl Checked {
    /// The same where settings that say one thing in two ways have been made one, and those that follow from others are
    /// made: a job that may not wait at all is accepted when a worker is free for it.
    pub(crate) fn resolved(mut self, needs_clock: bool) -> Self {
        if self.max_wait == Some(Duration::ZERO) {
            (self.capacity, self.when_full, self.max_wait) = (0, WhenFull::Refuse, None);
        }
        self.clock = needs_clock || self.measure || self.max_wait.is_some();
        self
    }

    /// How many jobs of a key may be queued: half the queue, unless told otherwise.
    pub(crate) fn per_key(&self) -> usize {
        self.per_key.unwrap_or((self.capacity / 2).max(1))
    }

    /// Whether a job that was submitted then has waited for too long.
    #[inline]
    pub(crate) fn is_late(&self, since: Option<Instant>) -> bool {
        self.max_wait.zip(since).is_some_and(|(limit, since)| since.elapsed() > limit)
    }
}
