//! What a [`Probe`](crate::Probe) is sent, and what it answers.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

/// A request to a [`Probe`](crate::Probe), which says how its call behaves.
///
/// Ids need not be unique, but only unique ids tell calls apart.
#[derive(Clone, Debug)]
pub struct Request {
    /// Returned in the [`Response`], the [`Fault`] and [`Probe::started`](crate::Probe::started).
    pub id: u64,
    /// How the call behaves.
    pub behaviour: Behaviour,
    held: Option<Arc<()>>,
}

/// How a call of a [`Probe`](crate::Probe) behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Behaviour {
    /// Is answered at the first poll.
    Ready,
    /// Is answered once the handle [releases](crate::Probe::release) it.
    Wait,
    /// Is pending this many times, and wakes itself each time, before it is answered.
    Yield(u32),
    /// Is answered after this time on tokio's clock, from the first poll on.
    Sleep(Duration),
    /// Fails with a [`Fault`] at the first poll.
    Fail,
    /// Fails this many times, counted over all calls with this id, and is answered from then on.
    FailTimes(u32),
    /// Panics in `call`. The panic hook is not run, so nothing is printed.
    PanicInCall,
    /// Panics at the first poll of the future. The panic hook is not run, so nothing is printed.
    PanicInFuture,
    /// Uses up tokio's cooperative budget at each poll and wakes itself, until it is
    /// [released](crate::Probe::release). While it runs, a paused clock does not move by itself.
    Busy,
}

/// The answer of a [`Probe`](crate::Probe).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// The id of the request.
    pub id: u64,
}

/// The error of a [`Probe`](crate::Probe).
///
/// Each one has a number of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The id of the request that failed; `None` if `poll_ready` failed.
    pub request: Option<u64>,
    /// Different for each fault of a probe, so that a copy is recognised.
    pub number: u64,
}

/// Knows whether a request and all its clones have been dropped.
#[derive(Clone, Debug)]
pub(crate) struct Watch(Weak<()>);

// === impl Request ===

impl Request {
    /// A request that behaves as `behaviour` says.
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

    /// A request that is answered after `duration` on tokio's clock: [`Behaviour::Sleep`].
    pub const fn sleep(id: u64, duration: Duration) -> Self {
        Self::new(id, Behaviour::Sleep(duration))
    }

    /// A request that fails: [`Behaviour::Fail`].
    pub const fn fail(id: u64) -> Self {
        Self::new(id, Behaviour::Fail)
    }

    /// A request that fails so many times, and is answered when it is sent again: [`Behaviour::FailTimes`].
    pub const fn fail_times(id: u64, times: u32) -> Self {
        Self::new(id, Behaviour::FailTimes(times))
    }

    /// A request whose call panics: [`Behaviour::PanicInFuture`].
    pub const fn panic(id: u64) -> Self {
        Self::new(id, Behaviour::PanicInFuture)
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
