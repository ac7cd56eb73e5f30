use std::{fmt, sync::Arc};

use stockade_core::config::allow;

use crate::{gate::MAX, state::Shown};

/// Shows a limit, and changes its maximum.
///
/// It keeps the numbers alive, not the service. The numbers are read one by one while calls come and go.
#[derive(Clone)]
pub struct LimitHandle {
    state: Arc<dyn Shown>,
}

// === impl LimitHandle ===

impl LimitHandle {
    pub(crate) fn new(state: Arc<dyn Shown>) -> Self {
        Self { state }
    }

    /// How many calls are in flight. While [`set_max`](Self::set_max) or an adaptive limit changes the maximum it may
    /// be off by the change, for that moment.
    pub fn in_flight(&self) -> usize {
        self.state.gate().in_flight() as usize
    }

    /// How many calls wait.
    pub fn waiting(&self) -> usize {
        self.state.gate().waiting() as usize
    }

    /// How many calls may be in flight at once.
    pub fn max(&self) -> usize {
        self.state.gate().max() as usize
    }

    /// Changes how many calls may be in flight at once. When it is raised, those who wait come in at once;
    /// when it is lowered, whoever is in flight stays, and nobody comes in until enough have left.
    ///
    /// An adaptive limit goes on from there, and goes back between its bounds with its next change.
    ///
    /// # Panics
    ///
    /// If `max` is not from 1 to `i32::MAX`.
    #[track_caller]
    pub fn set_max(&self, max: usize) {
        self.state.set_max(allow("LimitHandle::set_max", max, 1..=MAX) as u32);
    }
}

impl fmt::Debug for LimitHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitHandle")
            .field("in_flight", &self.in_flight())
            .field("waiting", &self.waiting())
            .field("max", &self.max())
            .finish()
    }
}
