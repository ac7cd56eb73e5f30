//! What an admitted call holds: its place, which it settles or gives back.

use std::{
    mem::{self, ManuallyDrop},
    sync::Arc,
    time::Duration,
};

use stockade_core::{Classify, Judged, LayerError, deadline, internal::Refusal, waits::Counting};
use tokio::time::Instant;

use crate::{
    call::{End, Stamp},
    shared::{Lease, Shared},
};

/// The place of an admitted call. A permit that is dropped is a call that was dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    /// `None` for a call that is settled, or was not admitted.
    shared: Option<&'static Shared>,
    stamp: Stamp,
    /// What the call has waited for in layers inside. Counted only where it is known when it was admitted.
    waited: Duration,
    phase: Phase,
}

/// How far an admitted call has come.
#[derive(Debug)]
enum Phase {
    /// It was not pending yet, and says nothing if it is dropped.
    New,
    /// It was pending, with this deadline.
    Pending(Option<Instant>),
    /// The future inside is being dropped. If a layer inside reports a wait until that is done, the call was still in
    /// its queue. The permit ends the counting when it is dropped. Drop code of the phase itself would be on the path of
    /// every call, as the row `breaker` of `cargo xtask bench instr` shows.
    Dropped { too_late: bool, counting: ManuallyDrop<Counting> },
}

/// A part of a call that runs. Dropped without an [`end`](Self::end) it has panicked.
pub(crate) struct Part<'a> {
    permit: &'a mut Permit,
    counting: Counting,
}

const FAILURE: End = End::Failure { answered: false, after: None };

// === impl Part ===

impl Part<'_> {
    #[inline]
    pub(crate) fn end(mut self) {
        if let Some(waited) = self.counting.end() {
            self.permit.waited = self.permit.waited.saturating_add(waited);
        }
        mem::forget(self);
    }
}

impl Drop for Part<'_> {
    #[inline]
    fn drop(&mut self) {
        self.permit.settle(FAILURE);
    }
}

// === impl Permit ===

impl Permit {
    /// That of a call that is admitted with this stamp.
    #[inline]
    pub(crate) const fn new(shared: &'static Shared, stamp: Stamp) -> Self {
        Self { shared: Some(shared), stamp, waited: Duration::ZERO, phase: Phase::New }
    }

    /// That of a call that counts for nothing.
    pub(crate) const fn none() -> Self {
        Self { shared: None, stamp: Stamp::NONE, waited: Duration::ZERO, phase: Phase::New }
    }

    /// That of a call that passes, or its refusal. A `reserved` call has waited for this before.
    #[inline]
    pub(crate) fn admit(
        shared: &'static Shared,
        lease: &Arc<Lease>,
        reserved: bool,
    ) -> Result<Self, Refusal<Lease>> {
        match shared.pass() {
            Some(stamp) => Ok(Self::new(shared, stamp)),
            None => match lease.admit(reserved) {
                Ok(stamp) => Ok(Self::new(shared, stamp)),
                Err(rejected) => Err(Refusal::new(lease, rejected)),
            },
        }
    }

    pub(crate) const fn is_settled(&self) -> bool {
        self.shared.is_none()
    }

    /// Runs a part of the call: what it waits for counts, and if it panics, the call has failed.
    #[inline]
    pub(crate) fn run(&mut self) -> Part<'_> {
        let counting = Counting::begin(self.stamp.admitted.is_some());
        Part { permit: self, counting }
    }

    /// The call is pending inside. Its deadline is asked for only now, because that fixes a deadline that
    /// counts from the first question, which reads the clock.
    #[inline]
    pub(crate) fn pending(&mut self) {
        if matches!(self.phase, Phase::New) {
            self.phase = Phase::Pending(deadline::current());
        }
    }

    /// Settles the call by its result. If the classifier panics, the call counts for nothing.
    #[inline]
    pub(crate) fn judge<C, T, E>(&mut self, classify: &C, result: Result<&T, &E>)
    where
        C: Classify<T, E>,
        E: LayerError,
    {
        if !self.is_settled() {
            self.phase = Phase::New;
            let judged = Judged::of(classify, result);
            self.settle(End::of(judged, result.err()));
        }
    }

    /// The call is dropped before it has ended: first what is inside, then this permit. `sent` says whether the call
    /// may have reached the service.
    #[cold]
    pub(crate) fn begin_drop(&mut self, sent: bool) {
        let Phase::Pending(deadline) = self.phase else { return self.settle(End::Nothing) };
        let too_late = deadline.is_some_and(|deadline| deadline <= Instant::now());
        if !sent && !too_late {
            return self.settle(End::Nothing);
        }
        self.phase =
            Phase::Dropped { too_late, counting: ManuallyDrop::new(Counting::begin(true)) };
    }

    /// What was inside is gone, or there was nothing: a call by hand.
    #[cold]
    fn end_drop(&mut self) {
        if !matches!(self.phase, Phase::Dropped { .. }) {
            self.begin_drop(true);
        }
        if let Phase::Dropped { too_late, counting } = &mut self.phase {
            let waited = counting.end().unwrap_or_default();
            let end = if *too_late { FAILURE } else { End::Dropped { queued: !waited.is_zero() } };
            self.waited = self.waited.saturating_add(waited);
            self.settle(end);
        }
    }

    #[inline]
    pub(crate) fn settle(&mut self, end: End) {
        if let Some(shared) = self.shared.take()
            && !(end == End::Success && shared.ignores_successes_of(self.stamp))
        {
            shared.settle(self.stamp, end, self.waited);
        }
    }
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        if !self.is_settled() {
            self.end_drop();
        }
    }
}
