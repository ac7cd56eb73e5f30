//! One bucket on one node: which calls pass at once, which wait, and which are refused.
//!
//! Calls wait in the order in which they came. While any do, one [task](super::refill) asks the bucket for their tokens.
//!
//! A call is *judged* when the first answer after it came is there: then its wait is known, and it is refused if that is
//! too long for it. Until then it is held by the round trip alone, and no longer than the patience of the [`Redis`]
//! allows. The calls that are judged are the first ones of the queue.

use std::{
    mem,
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use stockade_core::{
    Reason, Rejected, deadline,
    internal::{
        Key, Refusal, Refuser, lock,
        sync::{Mutex, MutexGuard},
    },
};
use stockade_rate::backend::{Admission, Backend, Waiter};
use tokio::{runtime::Handle, sync::oneshot, time::Instant};

use super::{
    RateHandle,
    refill::Refill,
    shared::Plan,
    state::{State, Told, Waiting},
};

/// One bucket on one node.
#[derive(Debug)]
pub struct Limiter {
    pub(crate) plan: Plan,
    pub(crate) state: Mutex<State>,
}

/// What a call that waits is told in the end.
pub(crate) type Answered = Result<(), Rejected>;

/// A place in the queue, and where its call is told what has become of it.
pub(crate) type Place = (Key, oneshot::Receiver<Answered>);

/// The most calls that wait for the first answer of a Redis.
const MAX_ASKING: usize = 65_536;

// === impl Limiter ===

impl Limiter {
    pub(crate) fn new(plan: Plan) -> Self {
        Self { plan, state: Mutex::default() }
    }

    /// A call takes its place, if it neither passes nor is refused.
    fn enter(self: &Arc<Self>, cost: NonZeroU32) -> Result<Option<Place>, Rejected> {
        let (now, deadline) = (Instant::now(), deadline::current());
        let mut state = lock(&self.state);
        if state.pass(cost) {
            return Ok(None);
        }
        let (cost, runtime) = (cost.get(), Handle::current());
        if state.queue.len() - state.judged >= MAX_ASKING {
            let after = self.plan.shared.redis.budget();
            return Err(self.refuse(Reason::QueueFull).with_retry_after(after));
        }
        let (tell, told) = oneshot::channel();
        let mut call = Waiting { key: None, tell, cost, since: now, deadline, judged: false };
        // All before it are judged, so it can be, too, without another round trip.
        if state.judged == state.queue.len()
            && let Some(wait) = state.predicted(now, state.owed + u64::from(cost))
            && (state.judged > 0 || state.known.is_some_and(|known| known.coming > 0))
        {
            self.judge(&state, now, &call, wait)?;
            call.judged = true;
        }
        let key = state.push(call);
        self.plan.shared.status.enters();
        let is_first = !mem::replace(&mut state.asking, true);
        // Not under the lock: a runtime that shuts down drops the task at once.
        drop(state);
        if is_first {
            runtime.spawn(Refill::new(Arc::clone(self)).run());
        }
        Ok(Some((key, told)))
    }

    /// Whether nobody needs it: then it can be made again.
    pub(crate) fn is_idle(&self) -> bool {
        let state = lock(&self.state);
        state.queue.is_empty() && !state.asking && state.debt == 0
    }

    /// Serves the calls that wait, from the stock. If none is left, at most a lease stays in the stock.
    pub(crate) fn serve(&self, state: &mut State, told: &mut Told) {
        state.serve(told);
        if state.queue.is_empty() {
            state.stock = state.stock.min(u64::from(self.plan.shared.lease() - 1));
        }
    }

    /// More tokens are there.
    pub(crate) fn supply(&self, mut state: MutexGuard<'_, State>, tokens: u64) {
        let mut told = Told::new();
        state.stock += tokens;
        self.serve(&mut state, &mut told);
        self.tell(state, told);
    }

    pub(crate) fn tell(&self, state: MutexGuard<'_, State>, told: Told) {
        drop(state);
        if !told.is_empty() {
            self.plan.shared.status.leaves(told.len());
        }
        for (call, verdict) in told {
            // A call that was dropped has given its place back, and its tokens are lost with it. A waker that panics
            // must not keep the others from being told.
            let _ = catch_unwind(AssertUnwindSafe(|| call.send(verdict)));
        }
    }

    /// Whether `call` may wait for so long.
    fn judge(
        &self,
        state: &State,
        now: Instant,
        call: &Waiting,
        wait: Duration,
    ) -> Result<(), Rejected> {
        if wait == Duration::ZERO {
            return Ok(());
        }
        let left = call.deadline.map(|deadline| deadline.saturating_duration_since(now));
        // A place becomes free with the tokens of the head.
        let place = || {
            let head = state.queue.front().and_then(|head| state.predicted(now, head.cost.into()));
            head.unwrap_or(wait)
        };
        let judged = self.plan.shared.config.bounds().judge(state.judged, wait, left, place);
        judged.map_err(|(reason, after)| self.refuse(reason).with_retry_after(after))
    }

    /// Judges the calls that came since the last answer.
    pub(crate) fn judge_all(&self, state: &mut State, now: Instant, told: &mut Told) {
        let mut ahead: u64 = state.queue.iter().take(state.judged).map(|c| u64::from(c.cost)).sum();
        let new: Vec<_> =
            state.queue.iter().skip(state.judged).filter_map(|call| call.key).collect();
        for key in new {
            let Some(call) = state.queue.get(key) else { continue };
            let cost = u64::from(call.cost);
            let wait = state.predicted(now, ahead + cost).unwrap_or_default();
            match self.judge(state, now, call, wait) {
                Ok(()) => {
                    ahead += cost;
                    state.judged += 1;
                    if let Some(call) = state.queue.get_mut(key) {
                        call.judged = true;
                    }
                }
                Err(rejected) => {
                    told.extend(state.remove(key).map(|call| (call.tell, Err(rejected))));
                }
            }
        }
    }
}

impl Refuser for Limiter {
    fn rejected(&self, reason: Reason) -> Rejected {
        Rejected::new(&"rate", reason).with_name(self.plan.shared.name)
    }
}

impl Backend for Limiter {
    type Place = Place;
    type Refuser = Self;
    type Handle = RateHandle;
    type Plan = Plan;

    fn build(plan: &Plan) -> Self {
        Self::new(plan.clone())
    }

    fn handle(this: &Arc<Self>) -> RateHandle {
        RateHandle::new(Arc::clone(&this.plan.shared))
    }

    fn admit(this: &Arc<Self>, cost: NonZeroU32) -> Admission<Self> {
        if lock(&this.state).pass(cost) {
            Admission::Pass
        } else if cost.get() > this.plan.shared.quota.burst {
            Admission::Refuse(Refusal::new(this, this.refuse(Reason::TooCostly)))
        } else {
            Admission::Wait(Waiter::new(Arc::clone(this), cost))
        }
    }

    fn poll_served(
        this: &Arc<Self>,
        cost: NonZeroU32,
        _: bool,
        place: &mut Option<Place>,
        cx: &mut Context<'_>,
    ) -> Poll<Answered> {
        loop {
            // An error means that the task which asked for it has ended with its runtime.
            if let Some((_, told)) = place
                && let Ok(answered) = ready!(Pin::new(told).poll(cx))
            {
                return Poll::Ready(answered);
            }
            *place = this.enter(cost)?;
            if place.is_none() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn leave(this: &Arc<Self>, (key, mut told): Place, cost: NonZeroU32) {
        let left = lock(&this.state).remove(key);
        if left.is_some() {
            this.plan.shared.status.leaves(1);
        } else if let Ok(Ok(())) = told.try_recv() {
            Self::give_back(this, cost);
        }
    }

    fn give_back(this: &Arc<Self>, cost: NonZeroU32) {
        this.supply(lock(&this.state), cost.get().into());
    }

    fn refuse(&self, reason: Reason) -> Rejected {
        self.plan.shared.refusals.count(reason);
        self.rejected(reason)
    }
}
