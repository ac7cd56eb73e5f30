//! The handle: what there is to see, and to change by hand.

use std::{fmt, sync::Arc, time::Duration};

use stockade_core::{BoxError, Class, ConfigError, Judged, Rejected, deadline};
use tokio::{sync::watch, time::Instant};

use crate::{
    Cause, Config, State, Status, call::End, permit::Permit, shared::Lease, state::Machine,
};

/// Shows what a breaker does, and changes it. Clones are handles of the same breaker, and it works as long as
/// there is any service, layer or handle of it.
///
/// It runs no callbacks: read it when you want to know, or [`watch`](Self::watch) it.
///
/// # Example
///
/// ```
/// use stockade_breaker::{BreakerLayer, State};
/// use tower::{ServiceBuilder, service_fn};
///
/// let (layer, handle) = BreakerLayer::new().name("search").with_handle();
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
pub struct BreakerHandle(pub(crate) Arc<Lease>);

/// Keeps a breaker forced open until it is dropped. Made by [`BreakerHandle::force_open`].
#[must_use = "the breaker is forced open only until this is dropped"]
pub struct ForcedOpen {
    lease: Arc<Lease>,
}

/// A call that was admitted by hand, by [`BreakerHandle::admit`].
///
/// # Cancel safety
///
/// Dropping it without a word counts as a pending call that is dropped: see the table of
/// [`BreakerLayer`](crate::BreakerLayer).
#[derive(Debug)]
#[must_use = "a call that is dropped without a word may count as a failure"]
pub struct Admission {
    permit: Permit,
}

/// What a breaker knows at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// What it does with calls.
    pub state: State,
    /// Why it last opened. `None` once it is closed.
    pub cause: Option<Cause>,
    /// The calls in the window. It is empty unless the breaker is closed, or on the ramp.
    pub calls: u32,
    /// Those of them that failed.
    pub failures: u32,
    /// Those of them that were slow. Always 0 unless [`slow`](crate::BreakerLayer::slow) was set.
    pub slow: u32,
    /// The failures since the last success.
    pub consecutive: u32,
    /// The probes that are out now.
    pub probes: usize,
    /// While open: how much longer.
    pub remaining: Option<Duration>,
    /// How often it has opened, ever.
    pub opened: u64,
    /// How many calls it has refused, ever.
    pub refused: u64,
    /// How many of them because it was forced open.
    pub refused_forced_open: u64,
}

// === impl BreakerHandle: what there is to see ===

impl BreakerHandle {
    /// What it does with calls. The state is brought up to date first: an open breaker whose time is over
    /// becomes half-open, and overdue probes are noticed.
    pub fn state(&self) -> State {
        self.status().state
    }

    /// What it does with calls, and why it last opened.
    pub fn status(&self) -> Status {
        self.0.shared().status()
    }

    /// All that it knows at one moment, brought up to date as by [`state`](Self::state).
    pub fn snapshot(&self) -> Snapshot {
        self.0.snapshot()
    }

    /// Follows the state and its cause. Every transition wakes the receiver, which always sees the latest.
    ///
    /// No timer runs for a breaker, so it leaves the open state when the next call comes, or the state is
    /// read through a handle. The receiver's `changed` fails once nothing is left of the breaker.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.0.shared().watch()
    }

    /// What is configured.
    pub fn config(&self) -> Config {
        self.0.config()
    }
}

// === impl BreakerHandle: by hand ===

impl BreakerHandle {
    /// Asks whether a call may be made, for what is no `Service`: a stream, a checked-out connection, a loop.
    /// Say how the call ended by [`success`](Admission::success), [`failure`](Admission::failure),
    /// [`ignore`](Admission::ignore) or [`report`](Admission::report).
    ///
    /// # Errors
    ///
    /// The refusal, as a service gives it.
    ///
    /// # Example
    ///
    /// ```
    /// use stockade_breaker::BreakerLayer;
    ///
    /// let (_, handle) = BreakerLayer::new().consecutive(1).with_handle();
    /// handle.admit()?.failure();
    /// assert!(handle.admit().is_err(), "it is open");
    /// # Ok::<(), stockade_core::Rejected>(())
    /// ```
    pub fn admit(&self) -> Result<Admission, Rejected> {
        let stamp = self.0.admit(false)?;
        let mut permit = Permit::new(self.0.shared(), stamp);
        permit.pending();
        Ok(Admission { permit })
    }

    /// Refuses all calls with [`Reason::ForcedOpen`](stockade_core::Reason::ForcedOpen), until the guard is
    /// dropped; if there are several, until the last one is.
    ///
    /// Calls that run already go on, but no longer count. After it the breaker is where it was before:
    /// closed with an empty window, open for the rest of its time, half-open with all probes to come, or as far
    /// on its ramp as it is by then.
    pub fn force_open(&self) -> ForcedOpen {
        self.0.shared().with(Machine::force_open);
        ForcedOpen { lease: Arc::clone(&self.0) }
    }

    /// Closes the breaker with an empty window. Calls that run already no longer count. A forced-open
    /// breaker stays so, and will be closed after that.
    pub fn reset(&self) {
        self.0.shared().with(Machine::close);
    }

    /// Opens the breaker for `duration` from now on, where it is known from elsewhere that calls are of no use.
    /// Calls that run already no longer count. A breaker that is open for longer stays so. After it the
    /// probes come, as ever.
    ///
    /// It does nothing to a breaker that only observes, or is disabled.
    pub fn open_for(&self, duration: Duration) {
        let until = deadline::saturating_add(Instant::now(), duration);
        self.0.shared().with(|machine| machine.hold_open(until));
    }

    /// Lets the probes of an open breaker pass now, before its time is over. It does nothing to one that is not
    /// open.
    pub fn half_open(&self) {
        self.0.shared().with(Machine::half_open);
    }

    /// Replaces the configuration. The state stays, the window is emptied, and calls that run already no longer
    /// count.
    ///
    /// # Errors
    ///
    /// If a value is outside its range. Then nothing changes.
    pub fn set(&self, config: Config) -> Result<(), ConfigError> {
        config.check()?;
        self.0.shared().with(|machine| machine.configure(config));
        Ok(())
    }

    /// Switches the breaker off, so that it is closed whatever happens and counts nothing, or on again, closed
    /// with an empty window. A forced-open breaker stays so until its guard is dropped.
    pub fn set_enabled(&self, enabled: bool) {
        self.0.shared().with(|machine| {
            if machine.config().enabled != enabled {
                machine.configure(Config { enabled, ..*machine.config() });
            }
        });
    }
}

impl fmt::Debug for BreakerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Snapshot { state, cause, calls, failures, opened, refused, .. } = self.snapshot();
        f.debug_struct("BreakerHandle")
            .field("name", &self.config().name)
            .field("state", &state)
            .field("cause", &cause.map(|cause| cause.trip))
            .field("calls", &calls)
            .field("failures", &failures)
            .field("opened", &opened)
            .field("refused", &refused)
            .finish_non_exhaustive()
    }
}

// === impl Admission ===

impl Admission {
    /// The call succeeded.
    pub fn success(self) {
        self.report(Class::Success);
    }

    /// The call failed.
    pub fn failure(self) {
        self.report(Class::TRANSIENT);
    }

    /// The call counts for nothing.
    pub fn ignore(self) {
        self.report(Class::Ignored);
    }

    /// The call ended with a result of this class.
    pub fn report(mut self, class: Class) {
        self.permit.settle(End::of(Judged::Answered(class), None::<&BoxError>));
    }
}

// === impl ForcedOpen ===

impl Drop for ForcedOpen {
    fn drop(&mut self) {
        self.lease.shared().with(Machine::release);
    }
}

impl fmt::Debug for ForcedOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForcedOpen").finish_non_exhaustive()
    }
}
