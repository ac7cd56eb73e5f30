//! What all buckets of a layer share.

use std::{sync::Arc, time::Duration};

use redis::Script;
use stockade_core::internal::Refusals;

use super::{
    bucket::{self, Quota},
    status::Status,
};
use crate::Redis;

/// What to do with calls while the Redis is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outage {
    /// Lets all calls pass: the rate does not hold in the meantime.
    Open,
    /// Refuses all calls as [`Unavailable`](stockade_core::Reason::Unavailable), also those that wait.
    Closed,
    /// Gives this node one part in so many of the rate and of the burst, from an empty bucket. With as many nodes as
    /// are said, the rate holds while the Redis is away for all of them. Where it is away for some nodes only, these
    /// have their shares beyond it.
    Share(u32),
}

/// What the setters of a layer set.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) quota: Quota,
    pub(crate) queue: usize,
    pub(crate) max_wait: Option<Duration>,
    pub(crate) lease: u32,
    pub(crate) outage: Outage,
    pub(crate) name: Option<&'static str>,
}

/// What all buckets of a layer share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) redis: Redis,
    pub(crate) script: Script,
    pub(crate) config: Config,
    pub(crate) status: Status,
    pub(crate) refusals: Refusals,
}

/// What a limiter is made from.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) shared: Arc<Shared>,
    /// The key of the bucket, or what the keys of all buckets begin with.
    pub(crate) key: String,
}

// === impl Config ===

impl Config {
    /// How many tokens are fetched at a time: no more than the bucket holds.
    pub(crate) fn lease(&self) -> u32 {
        self.lease.min(self.quota.burst)
    }
}

// === impl Shared ===

impl Shared {
    pub(crate) fn new(redis: Redis, config: Config) -> Self {
        let (script, status) = (bucket::script(), Status::new(config.name));
        Self { redis, script, config, status, refusals: Refusals::default() }
    }
}
