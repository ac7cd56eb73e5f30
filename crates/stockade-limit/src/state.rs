//! What all who share a limit share.

use std::{sync::Arc, time::Duration};

use stockade_core::{Reason, Rejected};

use crate::{gate::Gate, meter::Meter};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) max: u32,
    pub(crate) queue: u32,
    pub(crate) max_wait: Option<Duration>,
    pub(crate) name: Option<&'static str>,
}

#[derive(Debug)]
pub(crate) struct State<A> {
    pub(crate) gate: Gate,
    pub(crate) meter: A,
    pub(crate) queue: u32,
    pub(crate) max_wait: Option<Duration>,
    name: Option<&'static str>,
}

/// What a handle needs of a state, whatever its meter.
pub(crate) trait Shown: Send + Sync {
    fn gate(&self) -> &Gate;
    fn set_max(&self, max: u32);
}

// === impl State ===

impl<A: Meter> State<A> {
    /// A new one, with a meter like this.
    pub(crate) fn new(settings: Settings, meter: &A) -> Arc<Self> {
        Arc::new(Self {
            gate: Gate::new(settings.max),
            meter: meter.fresh(settings.max),
            queue: settings.queue,
            max_wait: settings.max_wait,
            name: settings.name,
        })
    }
}

impl<A> State<A> {
    pub(crate) fn rejected(&self, reason: Reason) -> Rejected {
        Rejected::new(&"limit", reason).with_name(self.name)
    }
}

impl<A: Meter> Shown for State<A> {
    fn gate(&self) -> &Gate {
        &self.gate
    }

    fn set_max(&self, max: u32) {
        self.meter.set_max(max, |max| self.gate.set_max(max)).wake();
    }
}
