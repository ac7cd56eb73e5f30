//! What an admitted call holds: its place, which it settles or gives back.

use std::{mem, time::Duration};

use stockade_core::{
    Class, Classify, Judged, LayerError, Reason, Rejected, deadline, waits::Counter,
};
use tokio::time::Instant;

use crate::{
    shared::Shared,
    state::{End, Stamp},
};

/// The place of an admitted call. A permit that is dropped is a call that was dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    /// `None` for a call that is settled, or was not admitted.
    shared: Option<&'static Shared>,
    stamp: Stamp,
    /// What the call has waited for in layers inside. Counted only where it is known when it was admitted.
    waits: Counter,
    /// The deadline, once the call is pending. One that never was says nothing when it is dropped.
    pending: Option<Option<Instant>>,
}

/// Settles the call when a part of it panics.
struct OnPanic<'a> {
    permit: &'a mut Permit,
    end: End,
}

/// Settles a call that panics before it has a future. It has what it needs by value: what a guard refers to has to
/// stand in memory, and the permit would then be copied into the future as a whole.
struct OnPanicInCall {
    shared: Option<&'static Shared>,
    stamp: Stamp,
}

const FAILURE: End = End::Failure { answered: false, after: None };

// === impl Permit ===

impl Permit {
    /// Makes the call that is admitted with this stamp; without one, a call that counts for nothing. If it panics, it
    /// has failed.
    #[inline(always)]
    pub(crate) fn start<R>(
        shared: &'static Shared,
        stamp: Option<Stamp>,
        call: impl FnOnce() -> R,
    ) -> (R, Self) {
        let (shared, stamp) = match stamp {
            Some(stamp) => (Some(shared), stamp),
            None => (None, Stamp::NONE),
        };
        let guard = OnPanicInCall { shared, stamp };
        let mut waits = Counter::default();
        let result = waits.enter_if(stamp.admitted.is_some(), call);
        mem::forget(guard);
        (result, Self { shared, stamp, waits, pending: None })
    }

    /// That of a call that has not been made yet.
    pub(crate) fn new(shared: &'static Shared, stamp: Option<Stamp>) -> Self {
        Self::start(shared, stamp, || ()).1
    }

    /// That of a call that counts for nothing, as it is refused or passes the breaker by.
    pub(crate) fn none() -> Self {
        let waits = Counter::default();
        Self { shared: None, stamp: Stamp::NONE, waits, pending: None }
    }

    pub(crate) const fn is_settled(&self) -> bool {
        self.shared.is_none()
    }

    /// Runs a part of the call, and counts what it waits for. If it panics, the call has failed.
    #[inline]
    pub(crate) fn run<R>(&mut self, part: impl FnOnce() -> R) -> R {
        let counts = self.stamp.admitted.is_some();
        let guard = OnPanic { permit: self, end: FAILURE };
        let result = guard.permit.waits.enter_if(counts, part);
        mem::forget(guard);
        result
    }

    /// The call is pending inside. Its deadline is asked for only now, because that fixes a deadline that
    /// counts from the first question, which reads the clock.
    #[inline]
    pub(crate) fn pending(&mut self) {
        if self.pending.is_none() {
            self.pending = Some(deadline::current());
        }
    }

    /// Settles the call by its result. If the classifier panics, the call counts for nothing.
    #[inline]
    pub(crate) fn judge<C, T, E>(&mut self, classify: &C, result: Result<&T, &E>)
    where
        C: Classify<T, E>,
        E: LayerError,
    {
        if self.is_settled() {
            return;
        }
        let guard = OnPanic { permit: self, end: End::Nothing };
        let end = match Judged::of(classify, result) {
            Judged::Refused(_) => End::Nothing,
            Judged::Answered(class) => {
                End::of(class, result.err().and_then(LayerError::rejected).map(Rejected::reason))
            }
        };
        mem::forget(guard);
        self.settle(end);
    }

    /// The call is dropped before it has ended: `drop_inner` drops what is inside. `sent` says whether that may
    /// have reached the service.
    #[cold]
    pub(crate) fn dropped(&mut self, sent: bool, drop_inner: impl FnOnce()) {
        let before = self.waits.waited();
        self.waits.enter(drop_inner);
        // What is reported now is a wait that had not ended yet: the call was in a queue of the stack.
        let queued = self.waits.waited() > before;
        self.settle(match self.pending {
            Some(Some(deadline)) if deadline <= Instant::now() => FAILURE,
            Some(_) if sent => End::Dropped { queued },
            _ => End::Nothing,
        });
    }

    #[inline]
    pub(crate) fn settle(&mut self, end: End) {
        if let Some(shared) = self.shared.take()
            && !(end == End::Success && shared.ignores_successes_of(self.stamp))
        {
            self.report(shared, end);
        }
    }

    /// Kept apart, so that a success which changes nothing is settled by one comparison.
    #[inline(never)]
    fn report(&self, shared: &Shared, end: End) {
        shared.settle(self.stamp, end, self.waits.waited());
    }
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        if !self.is_settled() {
            self.dropped(true, || ());
        }
    }
}

// === impl OnPanic ===

impl Drop for OnPanic<'_> {
    #[cold]
    fn drop(&mut self) {
        self.permit.settle(self.end);
    }
}

impl Drop for OnPanicInCall {
    #[cold]
    fn drop(&mut self) {
        if let Some(shared) = self.shared {
            shared.settle(self.stamp, FAILURE, Duration::ZERO);
        }
    }
}

// === impl End ===

impl End {
    /// What a result of this class is. `reason` is that of the refusal which it carries, if it carries one: then
    /// a layer inside has ended the call, and the service has not answered.
    pub(crate) const fn of(class: Class, reason: Option<Reason>) -> Self {
        match (class, reason) {
            (_, Some(Reason::Cancelled)) => Self::Nothing,
            (Class::Success | Class::Permanent, _) => Self::Success,
            (Class::Ignored, _) => Self::Ignored,
            _ => Self::Failure { answered: reason.is_none(), after: class.after() },
        }
    }
}
