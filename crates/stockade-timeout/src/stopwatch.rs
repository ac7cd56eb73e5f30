//! The time of one call, or of one wait for readiness.

use std::{
    mem,
    task::{Context, Poll, ready},
    time::Duration,
};

use stockade_core::{
    Reason, Rejected,
    deadline::{self, Deadline},
    internal::{Cold, Timer},
};
use tokio::{task::coop, time::Instant};

use crate::shared::nanos;

/// Ends what takes longer than its limit.
///
/// It is used around a poll of what it limits: ask [`is_starved`](Self::is_starved), poll under the
/// [`deadline`](Self::deadline), then [`stop`](Self::stop) or [`poll`](Self::poll).
#[derive(Debug)]
pub(crate) struct Stopwatch {
    pub(crate) deadline: Deadline,
    /// In nanoseconds.
    limit: u64,
    name: Option<&'static str>,
    /// Registered at the first pending poll.
    timer: Cold<Timer>,
    /// The time was up when the task had used up its cooperative budget, so what is inside may have been pending
    /// for want of it. It is polled once more in the task's next turn, and then no more.
    last_turn: bool,
}

/// The layer that has set an earlier deadline outside ends the call then, and says so. If none does, as where the
/// deadline came with a job of a pool, the call is ended here, this much later.
const GRACE: Duration = Duration::from_millis(2);

// === impl Stopwatch ===

impl Stopwatch {
    /// Ends what takes longer than `limit`, in nanoseconds, at its `deadline`.
    #[inline(always)]
    pub(crate) const fn new(deadline: Deadline, limit: u64, name: Option<&'static str>) -> Self {
        Self { deadline, limit, name, timer: Cold::none(), last_turn: false }
    }

    /// Whether what is inside may be pending only because the task's cooperative budget is used up.
    #[inline(always)]
    pub(crate) fn is_starved(&self) -> bool {
        !self.timer.is_taken() && !coop::has_budget_remaining()
    }

    /// What is inside was ready, and needs no timer any more.
    #[inline(always)]
    pub(crate) fn stop(&mut self) {
        self.timer = Cold::none();
    }

    /// What is inside was pending. Ready with the refusal when its time is up.
    #[inline(never)]
    pub(crate) fn poll(&mut self, starved: bool, cx: &mut Context<'_>) -> Poll<Rejected> {
        let Some(timer) = self.timer.get_mut() else {
            let until = self.until();
            self.timer.put(Timer::register(until, cx));
            return Poll::Pending;
        };
        ready!(timer.poll(cx));
        if starved && !mem::replace(&mut self.last_turn, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let elapsed = Rejected::new(&"timeout", Reason::Elapsed).with_name(self.name);
        Poll::Ready(elapsed.with_limit(Duration::from_nanos(self.limit)))
    }

    /// When to end the call: at its own deadline, or a moment after the one that is set outside if that is earlier;
    /// then the limit becomes what was left.
    #[inline]
    fn until(&mut self) -> Instant {
        // Asked first, so that one look at the clock fixes all that counts from now, here and outside.
        let outer = if deadline::is_set() { self.deadline.enter(deadline::current) } else { None };
        let own = self.deadline.fix();
        match outer.map(|outer| deadline::saturating_add(outer, GRACE)) {
            Some(outer) if outer < own => {
                self.limit = self.limit.saturating_sub(nanos(own - outer));
                outer
            }
            _ => own,
        }
    }
}
