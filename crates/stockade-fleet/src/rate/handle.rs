//! Reads the state of a rate limit.

use std::{fmt, sync::Arc};

use stockade_core::Reason;
use tokio::sync::watch;

use super::{shared::Shared, status::Snapshot};
use crate::{Mode, Redis};

/// Reads the state of a rate limit as this node has it. A clone is a handle to the same rate limit.
#[derive(Clone)]
pub struct RateHandle {
    shared: Arc<Shared>,
}

// === impl RateHandle ===

impl RateHandle {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// All that it knows, as of one moment.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.status.snapshot()
    }

    /// Whether this node decides alone, because the Redis could not be asked when last it was needed.
    pub fn is_alone(&self) -> bool {
        self.snapshot().mode == Mode::Alone
    }

    /// Follows who decides.
    pub fn watch(&self) -> watch::Receiver<Mode> {
        self.shared.status.watch()
    }

    /// How many calls this node has refused for this reason.
    pub fn refused(&self, reason: Reason) -> u64 {
        self.shared.refusals.get(reason)
    }

    /// The Redis that it asks.
    pub fn redis(&self) -> &Redis {
        &self.shared.redis
    }
}

impl fmt::Debug for RateHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Snapshot { mode, waiting, asked, alone, .. } = self.snapshot();
        f.debug_struct("RateHandle")
            .field("mode", &mode)
            .field("waiting", &waiting)
            .field("asked", &asked)
            .field("alone", &alone)
            .finish()
    }
}
