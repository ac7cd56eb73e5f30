//! What a call holds of its key, and what it tells when it ends.
//!
//! A call that ends reads the clock once, for the time of the last use. If keys may be idle for too long by then it says
//! so, and the next call drops them: what runs at the end of a call may be a drop during a panic, and is kept short.

use std::{sync::Arc, time::Duration};

use stockade_core::{
    Reason, Rejected,
    internal::{
        Refusals,
        sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};
use tokio::time::Instant;

use crate::{config::Config, usage::Usage};

/// What an entry knows of the layer it belongs to.
#[derive(Debug)]
pub(crate) struct Common {
    name: Option<&'static str>,
    pub(crate) max_keys: usize,
    start: Instant,
    /// When a key may be idle for too long.
    pub(crate) due: AtomicU64,
    /// A call has seen that this time has passed.
    pub(crate) overdue: AtomicBool,
    pub(crate) overflowed: AtomicU64,
    pub(crate) refusals: Refusals,
}

/// What is in use by a call.
pub(crate) trait Used: Send + Sync {
    fn usage(&self) -> &Usage;
    fn common(&self) -> &Common;
}

/// Keeps an entry in use. Dropping it notes the time.
pub(crate) struct InUse<T: Used + ?Sized>(Option<Arc<T>>);

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

// === impl Common ===

impl Common {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            name: config.name,
            max_keys: config.max_keys,
            start: Instant::now(),
            due: AtomicU64::new(u64::MAX),
            overdue: AtomicBool::new(false),
            overflowed: AtomicU64::new(0),
            refusals: Refusals::default(),
        }
    }

    pub(crate) fn now(&self) -> u64 {
        nanos(Instant::now().saturating_duration_since(self.start))
    }

    /// Whether a call has seen that a key may be idle for too long.
    pub(crate) fn is_overdue(&self) -> bool {
        self.overdue.load(Relaxed)
    }

    /// A refusal, which is counted.
    pub(crate) fn refusal(&self, reason: Reason) -> Rejected {
        self.refusals.count(reason);
        Rejected::new(&"keyed", reason).with_name(self.name)
    }
}

// === impl InUse ===

impl<T: Used> InUse<T> {
    /// A call comes, unless the entry was dropped.
    pub(crate) fn enter(used: &Arc<T>) -> Option<Self> {
        used.usage().enter().then(|| Self(Some(Arc::clone(used))))
    }

    /// Keeps the entry in use for a moment, without a call. Only under the lock under which entries are dropped.
    pub(crate) fn hold(used: &Arc<T>) -> Self {
        used.usage().hold();
        Self(Some(Arc::clone(used)))
    }

    pub(crate) fn get(&self) -> &Arc<T> {
        self.0.as_ref().expect("it is there until it is erased")
    }

    /// The same, without its type.
    pub(crate) fn erase(mut self) -> InUse<dyn Used>
    where
        T: 'static,
    {
        InUse(self.0.take().map(|used| used as Arc<dyn Used>))
    }
}

impl InUse<dyn Used> {
    /// A layer of the stack has refused the call.
    pub(crate) fn refused(&self) {
        self.0.iter().for_each(|used| used.usage().refuse());
    }

    /// The refusal of a call whose deadline passed before it could start.
    pub(crate) fn expired(&self) -> Rejected {
        let used = self.0.as_ref().expect("it is there until it is dropped");
        used.common().refusal(Reason::Expired)
    }
}

impl<T: Used + ?Sized> Drop for InUse<T> {
    fn drop(&mut self) {
        let Some(used) = &self.0 else { return };
        let common = used.common();
        let now = common.now();
        used.usage().exit(now);
        if common.due.load(Relaxed) <= now && !common.is_overdue() {
            common.overdue.store(true, Relaxed);
        }
    }
}
