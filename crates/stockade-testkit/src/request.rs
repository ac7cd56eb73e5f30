//! What goes into a [`Probe`](crate::Probe), and what comes out of it.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

/// A request to a [`Probe`](crate::Probe), which says how it wants to be served.
///
/// It does nothing by itself. Ids need not be unique, but tell calls apart only if they are.
#[derive(Clone, Debug)]
pub struct Request {
    /// Comes back in the [`Response`], the [`Fault`] and [`Probe::started`](crate::Probe::started).
    pub id: u64,
    /// How the call goes.
    pub behaviour: Behaviour,
    held: Option<Arc<()>>,
}

/// How a call of a [`Probe`](crate::Probe) goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Behaviour {
    /// Is answered at the first poll.
    Ready,
    /// Is answered once the handle [releases](crate::Probe::release) it.
    Wait,
    /// Is pending so many times, and wakes itself each time, before it is answered.
    Yield(u32),
    /// Is answered after this time of tokio's clock, from the first poll on.
    Sleep(Duration),
    /// Fails with a [`Fault`] at the first poll.
    Fail,
    /// Fails as often, counted over all calls with this id, and is answered from then on.
    FailTimes(u32),
    /// Panics in `call`. The panic hook is not run, so nothing is printed.
    PanicInCall,
    /// Panics at the first poll of the future. The panic hook is not run, so nothing is printed.
    PanicInFuture,
    /// Eats tokio's cooperative budget at each poll and wakes itself, until it is
    /// [released](crate::Probe::release). While it runs, a paused clock does not move by itself.
    Busy,
}

/// The answer of a [`Probe`](crate::Probe).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// The id of the request.
    pub id: u64,
}

/// The error of a [`Probe`](crate::Probe), each with a number of its own.
///
/// It does not say what went wrong; nothing did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The id of the request that failed; none if `poll_ready` failed.
    pub request: Option<u64>,
    /// Different for every fault of one probe, so that a copy cannot pass for the original.
    pub number: u64,
}

/// Tells whether a request, with all its clones, has been dropped.
#[derive(Clone, Debug)]
pub(crate) struct Watch(Weak<()>);

// === impl Request ===

impl Request {
    /// A request that goes as `behaviour` says.
    pub const fn new(id: u64, behaviour: Behaviour) -> Self {
        Self { id, behaviour, held: None }
    }

    /// A request that is answered at once: [`Behaviour::Ready`].
    pub const fn ready(id: u64) -> Self {
        Self::new(id, Behaviour::Ready)
    }

    /// A request that is answered when it is released: [`Behaviour::Wait`].
    pub const fn wait(id: u64) -> Self {
        Self::new(id, Behaviour::Wait)
    }

    /// A request that fails: [`Behaviour::Fail`].
    pub const fn fail(id: u64) -> Self {
        Self::new(id, Behaviour::Fail)
    }

    pub(crate) fn watched(mut self) -> (Self, Watch) {
        let held = Arc::new(());
        let watch = Watch(Arc::downgrade(&held));
        self.held = Some(held);
        (self, watch)
    }
}

// === impl Watch ===

impl Watch {
    pub(crate) fn is_dropped(&self) -> bool {
        self.0.strong_count() == 0
    }
}

// === impl Fault ===

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.request {
            Some(id) => write!(f, "fault {} of request {id}", self.number),
            None => write!(f, "fault {} of the readiness", self.number),
        }
    }
}

impl std::error::Error for Fault {}
