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
    /// Not counted: a call that runs keeps its place in the gate, and nothing of the rest.
    pub(crate) gate: &'static Gate,
    pub(crate) meter: Arc<A>,
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
            gate: Gate::take(settings.max),
            meter: Arc::new(meter.fresh(settings.max)),
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
        self.gate
    }

    fn set_max(&self, max: u32) {
        self.meter.set_max(max, |max| self.gate.set_max(max)).wake();
    }
}

/// Nobody waits any more, because who waits holds the state. Who is in flight may leave later.
impl<A> Drop for State<A> {
    fn drop(&mut self) {
        self.gate.give_back();
    }
}
