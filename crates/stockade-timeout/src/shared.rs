//! What the services of a layer, their clones and its handle share.

use std::{
    ops::Deref,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use stockade_core::{Name, internal::StaticPool};

use crate::Config;

/// Keeps the state of a layer for its services and handles.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) shared: &'static Shared,
    pub(crate) name: Option<&'static str>,
}

/// What calls refer to without counting a reference, which would cost more than all else that they do here. So it is
/// never freed, and the next layer takes it over.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// In nanoseconds.
    limit: AtomicU64,
    pub(crate) enabled: AtomicBool,
    /// How many layers have had it. A call that outlives its layer does not count for the next one.
    life: AtomicU32,
    /// How many calls were ended.
    elapsed: AtomicU64,
}

/// No limit that can be set is as long.
pub(crate) const NO_LIMIT: u64 = u64::MAX;

static POOL: StaticPool<Shared> = StaticPool::new();

// === impl Lease ===

impl Lease {
    pub(crate) fn new(config: &Config) -> Self {
        let shared = POOL.take(Shared::default);
        shared.life.fetch_add(1, Relaxed);
        shared.elapsed.store(0, Relaxed);
        shared.enabled.store(true, Relaxed);
        shared.set_limit(config.limit);
        Self { shared, name: Name::known(config.name.as_ref()) }
    }
}

impl Deref for Lease {
    type Target = Shared;

    #[inline]
    fn deref(&self) -> &Shared {
        self.shared
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        POOL.give_back(self.shared);
    }
}

// === impl Shared ===

impl Shared {
    /// The limit of a call that begins now, in nanoseconds; [`NO_LIMIT`] if the layer is switched off.
    #[inline]
    pub(crate) fn limit_now(&self) -> u64 {
        if self.enabled.load(Relaxed) { self.limit.load(Relaxed) } else { NO_LIMIT }
    }

    pub(crate) fn limit(&self) -> Duration {
        Duration::from_nanos(self.limit.load(Relaxed))
    }

    pub(crate) fn set_limit(&self, limit: Duration) {
        self.limit.store(nanos(limit), Relaxed);
    }

    #[inline]
    pub(crate) fn life(&self) -> u32 {
        self.life.load(Relaxed)
    }

    /// Counts a call of this life that was ended.
    pub(crate) fn count_elapsed(&self, life: u32) {
        if life == self.life() {
            self.elapsed.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn elapsed(&self) -> u64 {
        self.elapsed.load(Relaxed)
    }
}

/// In nanoseconds. Ten years, the longest limit, fit.
#[inline]
pub(crate) fn nanos(limit: Duration) -> u64 {
    u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX)
}
