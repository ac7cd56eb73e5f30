//! What all clones of a probe share.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    task::Waker,
};

use stockade_core::internal::lock;
use stockade_core::internal::sync::Mutex;

use crate::Fault;

/// What `poll_ready` of a [`Probe`](crate::Probe) returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readiness {
    /// Ready if there is a slot.
    #[default]
    Ready,
    /// Pending until this changes.
    Pending,
    /// A new [`Fault`] without a request at each poll.
    Error,
}

/// A mistake that the stack around a [`Probe`](crate::Probe) made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// `call` on an instance that was not polled ready since it was made or last called.
    CalledUnready {
        /// The id of the request.
        request: u64,
    },
    /// A future of the probe was polled after it had ended.
    PolledAfterEnd {
        /// The id of the request.
        request: u64,
    },
}

#[derive(Debug, Default)]
pub(crate) struct Shared(Mutex<State>);

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) readiness: Readiness,
    pub(crate) slots: Option<usize>,
    pub(crate) reserved: usize,
    /// The wakers that wait for readiness, by instance.
    pub(crate) unready: BTreeMap<u64, Waker>,
    /// The running calls, by their number.
    pub(crate) running: BTreeMap<u64, Running>,
    pub(crate) instances: u64,
    pub(crate) calls: u64,
    pub(crate) peak: usize,
    pub(crate) live: usize,
    pub(crate) polls: u64,
    pub(crate) ready_polls: u64,
    pub(crate) started: Vec<u64>,
    pub(crate) failed: HashMap<u64, u32>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) violations: Vec<Violation>,
}

#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) id: u64,
    pub(crate) released: bool,
    pub(crate) waker: Option<Waker>,
}

/// A slot of an instance or a call. Dropping it returns it.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Shared>);

/// A running call. Dropping it ends the call and returns its slot.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) shared: Arc<Shared>,
    pub(crate) call: u64,
    _slot: Option<Slot>,
}

// === impl Shared ===

impl Shared {
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut lock(&self.0))
    }

    /// Changes what readiness depends on, and wakes everything that waits for it.
    pub(crate) fn change(&self, f: impl FnOnce(&mut State)) {
        let woken = self.with(|state| {
            f(state);
            std::mem::take(&mut state.unready)
        });
        woken.into_values().for_each(Waker::wake);
    }

    /// Releases the calls that `which` selects, and returns their number.
    pub(crate) fn release(&self, which: impl Fn(u64) -> bool) -> usize {
        let mut woken = Vec::new();
        let released = self.with(|state| {
            let held = state.running.values_mut().filter(|call| !call.released && which(call.id));
            held.map(|call| {
                call.released = true;
                woken.extend(call.waker.take());
            })
            .count()
        });
        woken.into_iter().for_each(Waker::wake);
        released
    }
}

// === impl State ===

impl State {
    pub(crate) fn instance(&mut self) -> u64 {
        self.instances += 1;
        self.instances
    }

    pub(crate) fn fault(&mut self, request: Option<u64>) -> Fault {
        let fault = Fault { request, number: self.faults.len() as u64 + 1 };
        self.faults.push(fault);
        fault
    }
}

// === impl Slot ===

impl Slot {
    /// Takes a slot. Under the same lock, the caller has checked that there is one.
    pub(crate) fn take(shared: &Arc<Shared>, state: &mut State) -> Self {
        state.reserved += 1;
        Self(Arc::clone(shared))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.change(|state| state.reserved -= 1);
    }
}

// === impl Run ===

impl Run {
    pub(crate) fn start(shared: &Arc<Shared>, call: u64, id: u64, slot: Option<Slot>) -> Self {
        shared.with(|state| {
            state.running.insert(call, Running { id, released: false, waker: None });
            state.peak = state.peak.max(state.running.len());
        });
        Self { shared: Arc::clone(shared), call, _slot: slot }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Drop the waker outside of the lock: it may own the last reference to a task.
        let ended = self.shared.with(|state| state.running.remove(&self.call));
        drop(ended);
    }
}

// === impl Violation ===

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CalledUnready { request } => {
                write!(f, "request {request} was called on an instance that was not ready")
            }
            Self::PolledAfterEnd { request } => {
                write!(f, "the future of request {request} was polled after it had ended")
            }
        }
    }
}
