//! What the services of a layer, their clones and its handle share.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::Config;

#[derive(Debug)]
pub(crate) struct Shared {
    /// In nanoseconds.
    limit: AtomicU64,
    enabled: AtomicBool,
    pub(crate) name: Option<&'static str>,
}

// === impl Shared ===

impl Shared {
    pub(crate) fn new(config: &Config) -> Self {
        // The name was checked where it was set.
        let name = config.name.clone().and_then(|name| name.check("Config::name").ok());
        Self { limit: AtomicU64::new(nanos(config.limit)), enabled: AtomicBool::new(true), name }
    }

    /// The limit of a call that begins now, in nanoseconds; `None` if the layer is switched off.
    #[inline]
    pub(crate) fn limit_now(&self) -> Option<u64> {
        self.is_enabled().then(|| self.limit.load(Relaxed))
    }

    pub(crate) fn limit(&self) -> Duration {
        Duration::from_nanos(self.limit.load(Relaxed))
    }

    pub(crate) fn set_limit(&self, limit: Duration) {
        self.limit.store(nanos(limit), Relaxed);
    }

    #[inline]
    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled.load(Relaxed)
    }

    pub(crate) fn set_enabled(&self, enabled: bool) {
        self.enabled.store(enabled, Relaxed);
    }
}

/// In nanoseconds. Ten years, the longest limit, fit.
#[inline]
pub(crate) fn nanos(limit: Duration) -> u64 {
    u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX)
}
