//! The time of one call, or of one wait for readiness.

use std::{
    mem,
    task::{Context, Poll, ready},
    time::Duration,
};

use stockade_core::{
    LayerError, Reason, Rejected,
    deadline::{self, Deadline, Scope},
    internal::{Cold, Timer},
};
use tokio::{task::coop, time::Instant};

use crate::shared::{Lease, NO_LIMIT, Shared, nanos};

/// Ends what takes longer than its limit.
///
/// What it limits is polled within its [`scope`](Self::scope). If that was ready, it is [stopped](Self::stop), otherwise
/// [polled](Self::poll).
#[derive(Debug)]
pub(crate) struct Stopwatch {
    deadline: Deadline,
    /// In nanoseconds, or [`NO_LIMIT`].
    limit: u64,
    name: Option<&'static str>,
    shared: &'static Shared,
    /// That of `shared`.
    life: u32,
    /// The time may be up, and what is inside may be pending only because the task's cooperative budget is used up.
    starved: bool,
    /// It was polled once more in the task's next turn for that, and will not be again.
    last_turn: bool,
    /// Registered at the first pending poll.
    timer: Cold<Timer>,
}

/// The layer that has set an earlier deadline outside ends the call then, and says so. If none does, as where the
/// deadline came with a job of a pool, the call is ended here, this much later.
const GRACE: Duration = Duration::from_millis(2);

// === impl Stopwatch ===

impl Stopwatch {
    /// Of what may take `limit` nanoseconds, of which it has `spent` some already.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn new(limit: u64, spent: u64, lease: &Lease) -> Self {
        let deadline = match limit {
            NO_LIMIT => Deadline::NONE,
            limit => Deadline::After(limit.saturating_sub(spent)),
        };
        let &Lease { shared, name } = lease;
        let (life, timer) = (shared.life(), Cold::none());
        Self { deadline, limit, name, shared, life, starved: false, last_turn: false, timer }
    }

    /// In nanoseconds.
    pub(crate) const fn limit(&self) -> u64 {
        self.limit
    }

    /// What is inside is polled until this is dropped.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn scope(&mut self) -> Scope<'_> {
        self.starved = !self.timer.is_taken() && !coop::has_budget_remaining();
        self.deadline.scope()
    }

    /// What is inside was ready, and needs no timer any more.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn stop(&mut self) {
        self.timer = Cold::none();
    }

    /// What is inside was pending. Ready with the refusal when its time is up.
    #[inline(never)]
    pub(crate) fn poll<E: LayerError>(&mut self, cx: &mut Context<'_>) -> Poll<E> {
        let Some(timer) = self.timer.get_mut() else {
            if self.limit != NO_LIMIT {
                let until = self.until();
                self.timer.put(Timer::register(until, cx));
            }
            return Poll::Pending;
        };
        ready!(timer.poll(cx));
        if self.starved && !mem::replace(&mut self.last_turn, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.shared.count_elapsed(self.life);
        let elapsed = Rejected::new(&"timeout", Reason::Elapsed).with_name(self.name);
        Poll::Ready(elapsed.with_limit(Duration::from_nanos(self.limit)).into_error())
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
