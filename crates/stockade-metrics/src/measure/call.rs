//! A call that is measured.

use std::{fmt, sync::Arc};

use stockade_core::{
    Class, Classify, Judged, LayerError,
    attempts::{self, Counter},
};
use tokio::time::Instant;

use super::shard::{Ending, Shard};

/// A call in flight, which counts as dropped unless it [ends](Self::end).
pub(crate) struct Call {
    /// Until it ends.
    shard: Option<Arc<Shard>>,
    since: Instant,
    attempts: Counter,
}

// === impl Call ===

impl Call {
    #[inline]
    pub(crate) fn new(shard: &Arc<Shard>) -> Self {
        Self { shard: Some(Arc::clone(shard)), since: Instant::now(), attempts: Counter::default() }
    }

    /// Runs `poll`, and counts the attempts that are recorded in it; a counter outside hears of them too.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn enter<R>(&mut self, poll: impl FnOnce() -> R) -> R {
        let before = self.attempts;
        let polled = self.attempts.enter(poll);
        if self.attempts != before {
            (before.attempts()..self.attempts.attempts()).for_each(|_| attempts::record());
        }
        polled
    }

    /// Counts the result. If `classify` panics the call counts as dropped.
    #[inline]
    pub(crate) fn end<T, E, C>(&mut self, classify: &C, result: &Result<T, E>)
    where
        E: LayerError,
        C: Classify<T, E>,
    {
        let judged = Judged::of(classify, result.as_ref());
        let Some(shard) = self.shard.take() else { return };
        if let Some(rejected) = result.as_ref().err().and_then(LayerError::rejected) {
            shard.refused(rejected.reason());
        }
        shard.answered(Ending::of(judged), self.attempts.attempts(), self.since);
    }
}

impl Drop for Call {
    #[inline]
    fn drop(&mut self) {
        if let Some(shard) = &self.shard {
            shard.dropped(self.attempts.attempts());
        }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("ended", &self.shard.is_none())
            .field("attempts", &self.attempts.attempts())
            .finish_non_exhaustive()
    }
}

// === impl Ending ===

impl Ending {
    #[inline]
    fn of(judged: Judged) -> Self {
        match judged {
            Judged::Refused(_) => Self::Refused,
            Judged::Answered(Class::Success) => Self::Success,
            Judged::Answered(Class::Permanent) => Self::Permanent,
            Judged::Answered(Class::Transient { .. }) => Self::Transient,
            Judged::Answered(Class::Overload { .. }) => Self::Overload,
            Judged::Answered(Class::NoEffect { .. }) => Self::NoEffect,
            Judged::Answered(Class::Ignored) => Self::Ignored,
        }
    }
}
