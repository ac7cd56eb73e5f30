//! One bucket on one node: which calls pass at once, which wait, and the one task that asks for tokens.
//!
//! Calls wait in the order in which they came. While any do, one task asks the bucket on their behalf: for what they all
//! cost together, as far as it is there, or else for the tokens of the call at the head, which it takes beforehand and
//! waits for. So however many calls wait, there is one question at a time, many calls share a round trip, and nodes take
//! turns: none can take more than one call's tokens ahead of the others.
//!
//! A call is *judged* when the first answer after it came is there: then its wait is known, and it is refused if that is
//! too long for it. Until then it is held by the round trip alone, and no longer than the patience of the [`Redis`]
//! allows. The calls that are judged are the first ones of the queue.

use std::{
    mem,
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use stockade_core::{
    Reason, Rejected,
    internal::{
        Key, Refusal, Refuser, lock,
        sync::{Mutex, MutexGuard},
    },
};
use stockade_rate::backend::{Admission, Backend};
use tokio::{runtime::Handle, sync::oneshot, time::Instant};

use super::{
    Config, Outage, RateHandle, Waiter,
    bucket::{Answer, Ask, Share},
    refill::Refill,
    shared::{Plan, Shared},
    state::{Known, State, Waiting},
};
use crate::RedisError;

/// One bucket on one node.
#[derive(Debug)]
pub struct Limiter {
    plan: Plan,
    state: Mutex<State>,
}

/// What a call that waits is told in the end.
pub(crate) type Answered = Result<(), Rejected>;

/// What becomes of a call that comes.
pub(crate) enum Entry {
    Passed,
    Refused(Rejected),
    Waits(Key, oneshot::Receiver<Answered>),
}

/// What the task does next.
pub(crate) enum Next {
    Ask(Ask, Duration),
    Sleep(Duration, u64),
    End,
}

/// The calls whose wait is over, to be told when the lock is free.
#[derive(Default)]
struct Told(Vec<(oneshot::Sender<Answered>, Answered)>);

/// The shortest pause before the same thing is asked again.
const BREATH: Duration = Duration::from_millis(1);

/// The most calls that wait for the first answer of a Redis.
const MAX_ASKING: usize = 65_536;

// === impl Limiter ===

impl Limiter {
    pub(crate) fn new(plan: Plan) -> Self {
        Self { plan, state: Mutex::default() }
    }

    /// Takes tokens of this node's stock, if they are there and nobody waits for them.
    fn pass(state: &mut State, cost: NonZeroU32) -> bool {
        let cost = u64::from(cost.get());
        let passes = state.queue.is_empty() && state.stock >= cost;
        if passes {
            state.stock -= cost;
        }
        passes
    }

    /// A call takes its place.
    pub(crate) fn enter(self: &Arc<Self>, cost: NonZeroU32, deadline: Option<Instant>) -> Entry {
        let now = Instant::now();
        let mut state = lock(&self.state);
        if Self::pass(&mut state, cost) {
            return Entry::Passed;
        }
        let (cost, runtime) = (cost.get(), Handle::current());
        if state.queue.len() - state.judged >= MAX_ASKING {
            let after = self.plan.shared.redis.budget();
            return Entry::Refused(self.refuse(Reason::QueueFull).with_retry_after(after));
        }
        let (tell, told) = oneshot::channel();
        let mut call = Waiting { key: None, tell, cost, since: now, deadline, judged: false };
        // All before it are judged, so it can be, too, without another round trip.
        if state.judged == state.queue.len()
            && let Some(wait) = state.predicted(now, state.owed + u64::from(cost))
            && (state.judged > 0 || state.known.is_some_and(|known| known.coming > 0))
        {
            if let Err(rejected) = self.judge(&state, now, &call, wait) {
                return Entry::Refused(rejected);
            }
            call.judged = true;
            state.judged += 1;
        }
        let key = state.queue.push_back(call);
        if let Some(call) = state.queue.get_mut(key) {
            call.key = Some(key);
        }
        state.owed += u64::from(cost);
        self.plan.shared.status.enters();
        let is_first = !mem::replace(&mut state.asking, true);
        // Not under the lock: a runtime that shuts down drops the task at once.
        drop(state);
        if is_first {
            runtime.spawn(Refill::new(Arc::clone(self)).run());
        }
        Entry::Waits(key, told)
    }

    /// A call is dropped that was not served yet, if it is there.
    pub(crate) fn leave(&self, key: Key) {
        let mut state = lock(&self.state);
        if let Some(gone) = state.queue.remove(key) {
            state.owed -= u64::from(gone.cost);
            state.judged -= usize::from(gone.judged);
            drop(state);
            self.plan.shared.status.leaves(1);
        }
    }

    /// Takes tokens back that a call was given and did not use.
    pub(crate) fn return_tokens(&self, cost: NonZeroU32) {
        let mut state = lock(&self.state);
        state.stock += u64::from(cost.get());
        let told = self.serve(&mut state);
        self.tell(state, told);
    }

    /// Whether nobody needs it: then it can be made again.
    pub(crate) fn is_idle(&self) -> bool {
        let state = lock(&self.state);
        state.queue.is_empty() && !state.asking && state.debt == 0
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.plan.shared
    }

    pub(crate) fn key(&self) -> &str {
        &self.plan.key
    }

    /// The task has ended with its runtime. Calls that wait in another one enter again.
    pub(crate) fn lose_task(&self) {
        let mut state = lock(&self.state);
        state.asking = false;
        let gone = state.drain();
        drop(state);
        self.plan.shared.status.leaves(gone.len());
    }

    fn config(&self) -> &Config {
        &self.plan.shared.config
    }

    /// A refusal, which is counted.
    pub(crate) fn refuse(&self, reason: Reason) -> Rejected {
        self.plan.shared.refusals.count(reason);
        self.rejected(reason)
    }

    /// Serves from the stock, in order. What is left over when nobody waits is bounded by the lease.
    fn serve(&self, state: &mut State) -> Told {
        let mut told = Told::default();
        while let Some(head) = state.queue.front()
            && state.stock >= u64::from(head.cost)
        {
            state.stock -= u64::from(head.cost);
            told.0.extend(state.pop().map(|head| (head.tell, Ok(()))));
        }
        if state.queue.is_empty() {
            state.stock = state.stock.min(u64::from(self.plan.shared.lease() - 1));
        }
        told
    }

    fn tell(&self, state: MutexGuard<'_, State>, told: Told) {
        drop(state);
        if !told.0.is_empty() {
            self.plan.shared.status.leaves(told.0.len());
        }
        for (call, verdict) in told.0 {
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
        let refuse = |reason, after| Err(self.refuse(reason).with_retry_after(after));
        if wait == Duration::ZERO {
            return Ok(());
        }
        let config = self.config();
        let too_long = config.max_wait.map_or(Duration::ZERO, |max| wait.saturating_sub(max));
        if state.judged >= config.queue {
            if config.queue == 0 {
                return refuse(Reason::RateLimited, wait);
            }
            let first = state.queue.front().and_then(|head| state.predicted(now, head.cost.into()));
            return refuse(Reason::QueueFull, first.unwrap_or(wait).max(too_long));
        }
        if too_long > Duration::ZERO {
            return refuse(Reason::WaitExceeded, too_long);
        }
        match call.deadline.map(|deadline| deadline.saturating_duration_since(now)) {
            // What is due at the deadline is late, so it has to come earlier by more than the difference.
            Some(left) if wait >= left => {
                refuse(Reason::Expired, wait - left + Duration::from_nanos(1))
            }
            _ => Ok(()),
        }
    }

    /// Judges the calls that came since the last answer.
    fn judge_all(&self, state: &mut State, now: Instant, told: &mut Told) {
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
                    state.owed -= cost;
                    told.0.extend(state.queue.remove(key).map(|call| (call.tell, Err(rejected))));
                }
            }
        }
    }

    /// What the task does next.
    pub(crate) fn next(&self, now: Instant) -> Next {
        let mut state = lock(&self.state);
        let mut told = self.serve(&mut state);
        let next = if state.queue.is_empty() {
            state.asking = false;
            Next::End
        } else {
            self.question(&mut state, now, &mut told)
        };
        self.tell(state, told);
        next
    }

    fn question(&self, state: &mut State, now: Instant, told: &mut Told) -> Next {
        let Some(head) = state.queue.front() else { return Next::Sleep(Duration::ZERO, 0) };
        let missing = u64::from(head.cost) - state.stock.min(u64::from(head.cost));
        let need = u32::try_from(missing).unwrap_or(u32::MAX);
        let want = state.owed.max(u64::from(self.plan.shared.lease())).saturating_sub(state.stock);
        let most = self.patience_of(head, now).min(self.plan.shared.quota.horizon());
        let oldest = state.queue.iter().nth(state.judged);
        let held = oldest.map_or(Duration::ZERO, |c| now.saturating_duration_since(c.since));
        let within = self.plan.shared.redis.budget().saturating_sub(held);
        let debt = u32::try_from(state.debt).unwrap_or(u32::MAX);
        let ahead = state.told.map_or(0, |(at, ahead)| {
            let since = now.saturating_duration_since(at).as_nanos();
            ahead.saturating_sub(u64::try_from(since).unwrap_or(u64::MAX))
        });
        let ask = Ask { need, want, most, debt, ahead };
        if let Some(known) = &mut state.known {
            known.coming = 0;
        }
        let left = state.until.map(|until| until.saturating_duration_since(now));
        if left == Some(Duration::ZERO) {
            (state.until, state.share) = (None, None);
        }
        match state.allow(now, ask) {
            Ok(want) => Next::Ask(Ask { want, ..ask }, within),
            Err(wait) => {
                self.judge_all(state, now, told);
                Next::Sleep(left.unwrap_or(wait).min(wait), 0)
            }
        }
    }

    /// How long this call would wait for its tokens.
    fn patience_of(&self, call: &Waiting, now: Instant) -> Duration {
        let config = self.config();
        if call.judged {
            return Duration::MAX;
        }
        if config.queue == 0 {
            return Duration::ZERO;
        }
        let max = config.max_wait.unwrap_or(Duration::MAX);
        call.deadline.map_or(max, |deadline| deadline.saturating_duration_since(now).min(max))
    }

    /// Puts the answer to use, or does without.
    pub(crate) fn use_answer(&self, asked: Ask, answer: Result<Answer, &RedisError>) -> Next {
        let now = Instant::now();
        let config = self.config();
        let mut state = lock(&self.state);
        let mut told = Told::default();
        let (quota, answer) = match (answer, config.outage) {
            (Ok(answer), _) => {
                // The others may still be alone, for as long as it takes them to find the Redis again.
                if state.share.is_some() && (state.until.is_none() || state.debt > 0) {
                    state.until = Some(now + self.plan.shared.redis.stagger());
                }
                state.allowance = state.allowance.saturating_sub(answer.granted.into());
                state.debt = 0;
                state.told = Some((now, answer.ahead));
                (self.plan.shared.quota, answer)
            }
            (Err(_), Outage::Share(nodes)) => {
                let granted = state.allowance.min(asked.want.max(asked.need.into()));
                if state.share.is_none() {
                    // What was taken beforehand belongs to the time to come.
                    let taken = Duration::from_nanos(
                        asked.ahead.saturating_sub(self.plan.shared.quota.fill()),
                    );
                    state.share = Some(Share::new(self.plan.shared.quota, nodes, now + taken));
                }
                state.until = None;
                state.allowance -= granted;
                state.debt += granted;
                state.stock += granted;
                self.plan.shared.status.gave_alone(granted);
                let told = self.serve(&mut state);
                self.tell(state, told);
                return Next::Sleep(Duration::ZERO, 0);
            }
            (Err(_), Outage::Open) => {
                let calls = state.drain();
                self.plan
                    .shared
                    .status
                    .gave_alone(calls.iter().map(|call| u64::from(call.cost)).sum());
                told.0.extend(calls.into_iter().map(|call| (call.tell, Ok(()))));
                self.tell(state, told);
                return Next::Sleep(Duration::ZERO, 0);
            }
            (Err(_), Outage::Closed) => {
                let after = self.plan.shared.redis.next_probe();
                let refuse = || self.refuse(Reason::Unavailable).with_retry_after(after);
                told.0.extend(state.drain().into_iter().map(|call| (call.tell, Err(refuse()))));
                self.tell(state, told);
                return Next::Sleep(Duration::ZERO, 0);
            }
        };
        let granted = u64::from(answer.granted);
        let coming = if answer.wait > Duration::ZERO { granted } else { 0 };
        state.stock += granted - coming;
        state.known = Some(Known { at: now, quota, ahead: answer.ahead, coming });
        told.0.extend(self.serve(&mut state).0);
        self.judge_all(&mut state, now, &mut told);
        let next = if coming > 0 {
            Next::Sleep(answer.wait, coming)
        } else if granted == 0 && state.judged > 0 {
            // Too far away to be taken beforehand: it is asked for again when it is not.
            Next::Sleep(answer.wait.saturating_sub(quota.horizon()).max(BREATH), 0)
        } else {
            Next::Sleep(Duration::ZERO, 0)
        };
        self.tell(state, told);
        next
    }

    /// The tokens that were taken beforehand are there.
    pub(crate) fn arrive(&self, tokens: u64) {
        let mut state = lock(&self.state);
        state.stock += tokens;
        if let Some(known) = &mut state.known {
            known.coming = 0;
        }
        let told = self.serve(&mut state);
        self.tell(state, told);
    }
}

impl Refuser for Limiter {
    fn rejected(&self, reason: Reason) -> Rejected {
        Rejected::new(&"rate", reason).with_name(self.plan.shared.name)
    }
}

impl Backend for Limiter {
    type Waiter = Waiter;
    type Handle = RateHandle;
    type Plan = Plan;

    fn build(plan: &Plan) -> Self {
        Self::new(plan.clone())
    }

    fn handle(this: &Arc<Self>) -> RateHandle {
        RateHandle::new(Arc::clone(&this.plan.shared))
    }

    fn admit(this: &Arc<Self>, cost: NonZeroU32) -> Admission<Waiter> {
        if Self::pass(&mut lock(&this.state), cost) {
            Admission::Pass
        } else if cost.get() > this.plan.shared.quota.burst {
            Admission::Refuse(Refusal::new(this, this.refuse(Reason::TooCostly)))
        } else {
            Admission::Wait(Waiter::new(Arc::clone(this), cost))
        }
    }

    fn give_back(this: &Arc<Self>, cost: NonZeroU32) {
        this.return_tokens(cost);
    }
}
