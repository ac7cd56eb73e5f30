//! The handle: what there is to see, and to turn.

use std::{fmt, sync::Arc, time::Duration};

use stockade_core::deadline;
use tokio::{sync::watch, time::Instant};

use crate::{State, owner::Owner, state::Machine};

/// Tells what a breaker does, and tells it what to do. Clones are handles of the same breaker, and
/// it works as long as there is any service, layer or handle of it.
///
/// It runs no callbacks: read it when you want to know, or [`watch`](Self::watch) it.
///
/// # Example
///
/// ```
/// use stockade_breaker::{BreakerLayer, State};
/// use tower::{ServiceBuilder, service_fn};
///
/// let layer = BreakerLayer::new().name("search");
/// let handle = layer.handle();
/// let service = ServiceBuilder::new()
///     .layer(layer)
///     .service(service_fn(|_: ()| async { Ok::<_, stockade_core::BoxError>(()) }));
///
/// let maintenance = handle.force_open();
/// assert_eq!(service.handle().state(), State::ForcedOpen);
/// drop(maintenance);
/// assert_eq!(handle.snapshot().state, State::Closed);
/// ```
#[derive(Clone)]
pub struct BreakerHandle {
    owner: Arc<Owner>,
}

/// Keeps a breaker forced open until it is dropped. Made by [`BreakerHandle::force_open`].
#[must_use = "the breaker is forced open only until this is dropped"]
pub struct ForcedOpen {
    owner: Arc<Owner>,
}

/// What a breaker knows at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// What it does with calls.
    pub state: State,
    /// The calls in the window. It is empty unless the breaker is closed, or on the ramp to it.
    pub calls: u32,
    /// Those of them that failed.
    pub failures: u32,
    /// Those of them that were slow. Always 0 unless [`slow`](crate::BreakerLayer::slow) was set.
    pub slow: u32,
    /// The failures since the last success.
    pub consecutive: u32,
    /// The probes that are out now.
    pub probes: usize,
    /// While open: how long yet.
    pub remaining: Option<Duration>,
    /// How often it has opened, ever.
    pub opened: u64,
    /// How many calls it has refused, ever.
    pub refused: u64,
}

// === impl BreakerHandle ===

impl BreakerHandle {
    pub(crate) const fn new(owner: Arc<Owner>) -> Self {
        Self { owner }
    }

    /// What it does with calls. The state is brought up to date first: an open breaker whose time is
    /// over becomes half-open, and one whose probe takes too long opens.
    pub fn state(&self) -> State {
        self.owner.gate().state()
    }

    /// All that it knows, as of one moment, brought up to date as by [`state`](Self::state).
    pub fn snapshot(&self) -> Snapshot {
        self.owner.snapshot()
    }

    /// Follows the state: the receiver is woken by every transition, and always sees the latest state.
    ///
    /// No timer runs for a breaker, so it leaves the open state when the next call comes, or the state is
    /// read through a handle. The receiver's `changed` fails once nothing is left of the breaker.
    pub fn watch(&self) -> watch::Receiver<State> {
        self.owner.gate().watch()
    }

    /// Refuses all calls with [`Reason::ForcedOpen`](stockade_core::Reason::ForcedOpen), until the guard is
    /// dropped; if there are several, until the last one is.
    ///
    /// Calls that run already go on, but no longer count. After it the breaker is where it was before:
    /// closed with an empty window, open for the rest of its time, or half-open with all probes to come,
    /// or as far on its ramp as it is by then.
    pub fn force_open(&self) -> ForcedOpen {
        self.owner.gate().with(Machine::force_open);
        ForcedOpen { owner: Arc::clone(&self.owner) }
    }

    /// Closes the breaker with an empty window. Calls that run already no longer count. A forced-open
    /// breaker stays open, and will be closed after that.
    pub fn reset(&self) {
        self.owner.gate().with(Machine::close);
    }

    /// Opens the breaker for `duration` from now on, for those who know from elsewhere that calls are of no use.
    /// Calls that run already no longer count. One that is open for longer stays so; after it the probes come, as ever.
    ///
    /// It does nothing to a breaker that only observes, or is disabled.
    pub fn open_for(&self, duration: Duration) {
        let until = deadline::saturating_add(Instant::now(), duration);
        self.owner.gate().with(|machine| machine.hold_open(until));
    }

    /// Lets the probes of an open breaker pass now, and not when its time is over. It does nothing to one that is not
    /// open.
    pub fn half_open(&self) {
        self.owner.gate().with(Machine::half_open);
    }
}

impl fmt::Debug for BreakerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerHandle").field("owner", &self.owner).finish()
    }
}

// === impl ForcedOpen ===

impl Drop for ForcedOpen {
    fn drop(&mut self) {
        self.owner.gate().with(Machine::release);
    }
}

impl fmt::Debug for ForcedOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForcedOpen").field("owner", &self.owner).finish()
    }
}
