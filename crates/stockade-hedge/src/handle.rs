//! How many hedges there were, and their switch.

use std::{fmt, sync::Arc, time::Duration};

use stockade_core::internal::lock;

use crate::{Config, shared::Shared};

/// Shows what all services of one [`HedgeLayer`](crate::HedgeLayer) have hedged, and switches it off. Cheap to
/// clone.
#[derive(Clone)]
pub struct HedgeHandle(pub(crate) Arc<Shared>);

stockade_core::switch!(HedgeHandle);

/// What was hedged, since the layer was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Further attempts that were begun.
    pub hedged: u64,
    /// Further attempts that gave the answer.
    pub won: u64,
    /// Further attempts that a layer inside refused. They cost no token.
    pub refused: u64,
    /// Further attempts that were due and not made, because the budget had no token.
    pub over_budget: u64,
    /// Further attempts that were due and not made, because the server had said that it has too much to do.
    pub held_back: u64,
}

// === impl HedgeHandle ===

impl HedgeHandle {
    /// What was counted so far.
    pub fn stats(&self) -> Stats {
        lock(&self.0.state).stats
    }

    /// After what time another attempt is made now; `None` until a percentile is known.
    pub fn delay(&self) -> Option<Duration> {
        self.0.delay.get()
    }

    /// What is configured.
    pub fn config(&self) -> Config {
        self.0.config.clone()
    }
}

impl fmt::Debug for HedgeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stats { hedged, won, .. } = self.stats();
        f.debug_struct("HedgeHandle")
            .field("name", &self.0.name)
            .field("delay", &self.delay())
            .field("hedged", &hedged)
            .field("won", &won)
            .finish_non_exhaustive()
    }
}
