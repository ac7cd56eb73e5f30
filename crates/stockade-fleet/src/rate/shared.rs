//! What all buckets of a layer share.

use std::sync::Arc;

use redis::Script;
use stockade_core::internal::Refusals;

use super::{
    Config,
    bucket::{self, Quota},
    status::Status,
};
use crate::Redis;

/// What all buckets of a layer share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) redis: Redis,
    pub(crate) script: Script,
    pub(crate) config: Config,
    pub(crate) quota: Quota,
    pub(crate) name: Option<&'static str>,
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

// === impl Shared ===

impl Shared {
    pub(crate) fn new(redis: Redis, config: Config) -> Self {
        let (quota, name) = (config.quota(), config.static_name());
        let (script, status) = (bucket::script(), Status::new(name));
        Self { redis, script, config, quota, name, status, refusals: Refusals::default() }
    }

    /// How many tokens are fetched at a time: no more than the bucket holds.
    pub(crate) fn lease(&self) -> u32 {
        self.config.lease.min(self.quota.burst)
    }
}
