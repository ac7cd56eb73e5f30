//! What an admitted call holds: its place, which it settles or gives back.

use std::{mem, time::Duration};

use stockade_core::{Classify, Judged, LayerError, Rejected, deadline, waits::Counting};
use tokio::time::Instant;

use crate::{
    call::{End, Stamp},
    shared::Shared,
};

/// The place of an admitted call. A permit that is dropped is a call that was dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    /// `None` for a call that is settled, or was not admitted.
    shared: Option<&'static Shared>,
    stamp: Stamp,
    /// What the call has waited for in layers inside. Counted only where it is known when it was admitted.
    waited: Duration,
    /// The deadline, once the call is pending. One that never was says nothing when it is dropped.
    pending: Option<Option<Instant>>,
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
    #[cold]
    fn drop(&mut self) {
        self.permit.settle(FAILURE);
    }
}

// === impl Permit ===

impl Permit {
    /// That of a call that is admitted with this stamp; without one it counts for nothing.
    #[inline]
    pub(crate) fn new(shared: &'static Shared, stamp: Option<Stamp>) -> Self {
        match stamp {
            None => Self::none(),
            Some(stamp) => {
                Self { shared: Some(shared), stamp, waited: Duration::ZERO, pending: None }
            }
        }
    }

    /// That of a call that counts for nothing.
    pub(crate) const fn none() -> Self {
        Self { shared: None, stamp: Stamp::NONE, waited: Duration::ZERO, pending: None }
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
        self.pending = None;
        let judged = Judged::of(classify, result);
        self.settle(match result {
            Ok(_) => End::of(judged, None),
            Err(error) => End::of(judged, error.rejected().map(Rejected::reason)),
        });
    }

    /// The call is dropped before it has ended, and with it what is inside, while `counting`. `sent` says whether that
    /// may have reached the service.
    #[cold]
    pub(crate) fn dropped(&mut self, sent: bool, mut counting: Counting) {
        // What is reported now is a wait that had not ended yet: the call was in a queue of the stack.
        let waited = counting.end().unwrap_or_default();
        self.waited = self.waited.saturating_add(waited);
        self.settle(match self.pending {
            Some(Some(deadline)) if deadline <= Instant::now() => FAILURE,
            Some(_) if sent => End::Dropped { queued: !waited.is_zero() },
            _ => End::Nothing,
        });
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
            self.dropped(true, Counting::begin(true));
        }
    }
}
