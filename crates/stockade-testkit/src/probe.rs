//! The mock service inside, which is its own handle.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use stockade_core::Error;
use tower_service::Service;

use crate::{
    Behaviour, Fault, ProbeFuture, Readiness, Request, Response, Violation,
    state::{Run, Shared, Slot},
};

/// A mock service that does what its requests say, and records what the stack around it does.
///
/// All clones share one record, so keep a clone as the handle. It never refuses a call, and panics only if a request
/// says so. Mistakes of the stack are in [`violations`](Self::violations).
///
/// `poll_ready` returns what was [set](Self::set_ready). With [slots](Self::set_slots) it takes one for this
/// instance. `call` starts a call that behaves as its [`Behaviour`] says, and runs until its future has ended or is
/// dropped. A clone is not ready and holds no slot. Dropping an instance or a future returns its slot.
///
/// # Example
///
/// ```
/// use stockade_testkit::{Probe, Request};
/// use tower::{ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let probe = Probe::new();
/// let service = ServiceBuilder::new().layer(ConcurrencyLimitLayer::new(1)).service(probe.clone());
///
/// let first = tokio::spawn(service.clone().oneshot(Request::wait(1)));
/// let second = tokio::spawn(service.oneshot(Request::ready(2)));
/// tokio::task::yield_now().await;
/// assert_eq!(probe.started(), [1]);
///
/// probe.release(1);
/// assert_eq!(first.await.unwrap().unwrap().id, 1);
/// assert_eq!(second.await.unwrap().unwrap().id, 2);
/// assert_eq!(probe.peak(), 1);
/// # }
/// ```
#[derive(Debug)]
pub struct Probe {
    shared: Arc<Shared>,
    instance: u64,
    readied: bool,
    slot: Option<Slot>,
}

// === impl Probe ===

impl Probe {
    /// A probe that is ready, with any number of slots.
    pub fn new() -> Self {
        Self::instance_of(Arc::default())
    }

    fn instance_of(shared: Arc<Shared>) -> Self {
        let instance = shared.with(|state| state.instance());
        Self { shared, instance, readied: false, slot: None }
    }

    /// Sets what `poll_ready` returns, and wakes everything that waits for it.
    pub fn set_ready(&self, readiness: Readiness) {
        self.shared.change(|state| state.readiness = readiness);
    }

    /// Sets the number of slots. `poll_ready` takes one for its instance, which the next call takes over,
    /// and is pending when all are taken.
    pub fn set_slots(&self, slots: usize) {
        self.shared.change(|state| state.slots = Some(slots));
    }

    /// Ends the running calls with this id that [wait](Behaviour::Wait) or are [busy](Behaviour::Busy), and
    /// returns their number. Later calls with this id are not affected.
    pub fn release(&self, id: u64) -> usize {
        self.shared.release(|held| held == id)
    }

    /// [Releases](Self::release) all running calls.
    pub fn release_all(&self) -> usize {
        self.shared.release(|_| true)
    }

    /// How many calls have been started.
    pub fn calls(&self) -> u64 {
        self.shared.with(|state| state.calls)
    }

    /// The ids of the calls that have been started, in order.
    pub fn started(&self) -> Vec<u64> {
        self.shared.with(|state| state.started.clone())
    }

    /// How many calls run: started, not ended, and their future not dropped.
    pub fn in_flight(&self) -> usize {
        self.shared.with(|state| state.running.len())
    }

    /// The most calls that ran at once.
    pub fn peak(&self) -> usize {
        self.shared.with(|state| state.peak)
    }

    /// How many futures exist, ended ones among them.
    pub fn live(&self) -> usize {
        self.shared.with(|state| state.live)
    }

    /// How many slots are taken, by ready instances and by running calls.
    pub fn reserved(&self) -> usize {
        self.shared.with(|state| state.reserved)
    }

    /// How often a future was polled.
    pub fn polls(&self) -> u64 {
        self.shared.with(|state| state.polls)
    }

    /// How often `poll_ready` was called.
    pub fn ready_polls(&self) -> u64 {
        self.shared.with(|state| state.ready_polls)
    }

    /// Every fault that was returned.
    pub fn faults(&self) -> Vec<Fault> {
        self.shared.with(|state| state.faults.clone())
    }

    /// The mistakes of the stack.
    pub fn violations(&self) -> Vec<Violation> {
        self.shared.with(|state| state.violations.clone())
    }
}

impl Default for Probe {
    fn default() -> Self {
        Self::new()
    }
}

impl Clone for Probe {
    fn clone(&self) -> Self {
        Self::instance_of(Arc::clone(&self.shared))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let waker = self.shared.with(|state| state.unready.remove(&self.instance));
        drop(waker);
    }
}

impl Service<Request> for Probe {
    type Response = Response;
    type Error = Error<Fault>;
    type Future = ProbeFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let Self { shared, instance, readied, slot } = self;
        // Drop a waker outside of the lock: it may own the last reference to a task.
        let (_replaced, polled) = shared.with(|state| {
            state.ready_polls += 1;
            let full = slot.is_none() && state.slots.is_some_and(|slots| state.reserved >= slots);
            match state.readiness {
                Readiness::Error => {
                    *readied = false;
                    (None, Poll::Ready(Err(Error::Service(state.fault(None)))))
                }
                Readiness::Ready if !full => {
                    if slot.is_none() && state.slots.is_some() {
                        *slot = Some(Slot::take(shared, state));
                    }
                    *readied = true;
                    (None, Poll::Ready(Ok(())))
                }
                Readiness::Ready | Readiness::Pending => {
                    *readied = false;
                    (state.unready.insert(*instance, cx.waker().clone()), Poll::Pending)
                }
            }
        });
        polled
    }

    fn call(&mut self, request: Request) -> ProbeFuture {
        let readied = std::mem::take(&mut self.readied);
        let slot = self.slot.take();
        let id = request.id;
        let call = self.shared.with(|state| {
            state.calls += 1;
            state.started.push(id);
            if !readied {
                state.violations.push(Violation::CalledUnready { request: id });
            }
            state.calls
        });
        if request.behaviour == Behaviour::PanicInCall {
            panic_quietly(id, "call");
        }
        ProbeFuture::new(Run::start(&self.shared, call, id, slot), request)
    }
}

/// Panics without running the hook, which would print it.
pub(crate) fn panic_quietly(id: u64, place: &str) -> ! {
    std::panic::resume_unwind(Box::new(format!(
        "request {id} panics in its {place}, as it was told"
    )))
}
