//! What there is to see.

use std::sync::Arc;

use tokio::sync::watch;

use super::{gate::Office, status::Snapshot};
use crate::{Mode, Redis};

/// Reads the state of a rate limit as this node has it. A clone is a handle to the same rate limit.
#[derive(Clone, Debug)]
pub struct RateHandle {
    office: Arc<Office>,
}

// === impl RateHandle ===

impl RateHandle {
    pub(crate) const fn new(office: Arc<Office>) -> Self {
        Self { office }
    }

    /// All that it knows, as of one moment.
    pub fn snapshot(&self) -> Snapshot {
        self.office.status.snapshot()
    }

    /// Whether this node decides alone, because the Redis could not be asked when last it was needed.
    pub fn is_alone(&self) -> bool {
        self.snapshot().mode == Mode::Alone
    }

    /// Follows who decides.
    pub fn watch(&self) -> watch::Receiver<Mode> {
        self.office.status.watch()
    }

    /// The Redis that it asks.
    pub fn redis(&self) -> &Redis {
        &self.office.redis
    }
}
