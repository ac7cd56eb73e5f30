//! The one task of a limiter, which asks the bucket for tokens while calls wait.
//!
//! It asks for what they all cost together, as far as it is there, or else for the tokens of the call at the head,
//! which it takes beforehand and waits for. So however many calls wait, there is one question at a time, many calls
//! share a round trip, and nodes take turns: none can take more than one call's tokens ahead of the others.

use std::{sync::Arc, time::Duration};

use stockade_core::{Reason, internal::lock};
use stockade_rate::backend::Backend as _;
use tokio::time::{Instant, sleep};

use super::{
    Outage,
    bucket::{self, Answer, Ask, Share},
    limiter::Limiter,
    shared::Shared,
    state::{Known, State, Told, Waiting},
};
use crate::RedisError;

/// Asks for as long as calls wait, and then ends.
pub(crate) struct Refill {
    limiter: Arc<Limiter>,
    done: bool,
}

/// What the task does next.
enum Next {
    Ask(Ask, Duration),
    Sleep(Duration),
}

/// How long to sleep then, and the tokens that come after that.
type Pause = (Duration, u64);

/// The shortest pause before the same thing is asked again.
const BREATH: Duration = Duration::from_millis(1);

// === impl Refill ===

impl Refill {
    pub(crate) const fn new(limiter: Arc<Limiter>) -> Self {
        Self { limiter, done: false }
    }

    pub(crate) async fn run(mut self) {
        while let Some(next) = self.next(Instant::now()) {
            let (wait, coming) = match next {
                Next::Sleep(wait) => (wait, 0),
                Next::Ask(ask, within) => {
                    let answer = self.ask(ask, within).await;
                    self.use_answer(ask, answer.as_ref().copied())
                }
            };
            if wait > Duration::ZERO {
                sleep(wait).await;
            }
            if coming > 0 {
                self.arrive(coming);
            }
        }
        self.done = true;
    }

    async fn ask(&self, ask: Ask, within: Duration) -> Result<Answer, RedisError> {
        let Shared { redis, script, quota, status, .. } = self.shared();
        status.asks();
        let key = &self.limiter.plan.key;
        let question = redis.ask(within, async |connection| {
            bucket::ask(script, connection, key, *quota, ask).await
        });
        let answer = question.await.map_err(|error| error.with_key(key));
        match &answer {
            Ok(_) => status.shared(redis.place()),
            Err(error) => status.alone(error),
        }
        answer
    }

    fn shared(&self) -> &Shared {
        &self.limiter.plan.shared
    }

    /// What the task does next, while calls wait.
    fn next(&self, now: Instant) -> Option<Next> {
        let mut state = lock(&self.limiter.state);
        let mut told = Told::new();
        self.limiter.serve(&mut state, &mut told);
        let next = self.question(&mut state, now, &mut told);
        state.asking = next.is_some();
        self.limiter.tell(state, told);
        next
    }

    fn question(&self, state: &mut State, now: Instant, told: &mut Told) -> Option<Next> {
        let head = state.queue.front()?;
        let missing = u64::from(head.cost) - state.stock.min(u64::from(head.cost));
        let need = u32::try_from(missing).unwrap_or(u32::MAX);
        let want = state.owed.max(u64::from(self.shared().lease())).saturating_sub(state.stock);
        let most = self.patience_of(head, now).min(self.shared().quota.horizon());
        let oldest = state.queue.iter().nth(state.judged);
        let held = oldest.map_or(Duration::ZERO, |c| now.saturating_duration_since(c.since));
        let within = self.shared().redis.budget().saturating_sub(held);
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
        Some(match state.allow(now, ask) {
            Ok(want) => Next::Ask(Ask { want, ..ask }, within),
            Err(wait) => {
                self.limiter.judge_all(state, now, told);
                Next::Sleep(left.unwrap_or(wait).min(wait))
            }
        })
    }

    /// How long this call would wait for its tokens.
    fn patience_of(&self, call: &Waiting, now: Instant) -> Duration {
        let config = &self.shared().config;
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
    fn use_answer(&self, asked: Ask, answer: Result<Answer, &RedisError>) -> Pause {
        let now = Instant::now();
        let mut state = lock(&self.limiter.state);
        let mut told = Told::new();
        let pause = if let Ok(answer) = answer {
            self.take(&mut state, now, answer, &mut told)
        } else {
            self.do_without(&mut state, now, asked, &mut told);
            (Duration::ZERO, 0)
        };
        self.limiter.tell(state, told);
        pause
    }

    /// The Redis has answered.
    fn take(&self, state: &mut State, now: Instant, answer: Answer, told: &mut Told) -> Pause {
        // The others may still be alone, for as long as it takes them to find the Redis again.
        if state.share.is_some() && (state.until.is_none() || state.debt > 0) {
            state.until = Some(now + self.shared().redis.link.stagger());
        }
        let (quota, granted) = (self.shared().quota, u64::from(answer.granted));
        state.allowance = state.allowance.saturating_sub(granted);
        state.debt = 0;
        state.told = Some((now, answer.ahead));
        let coming = if answer.wait > Duration::ZERO { granted } else { 0 };
        state.stock += granted - coming;
        state.known = Some(Known { at: now, quota, ahead: answer.ahead, coming });
        self.limiter.serve(state, told);
        self.limiter.judge_all(state, now, told);
        if coming > 0 {
            (answer.wait, coming)
        } else if granted == 0 && state.judged > 0 {
            // Too far away to be taken beforehand: it is asked for again when it is not.
            (answer.wait.saturating_sub(quota.horizon()).max(BREATH), 0)
        } else {
            (Duration::ZERO, 0)
        }
    }

    /// The Redis is away.
    fn do_without(&self, state: &mut State, now: Instant, asked: Ask, told: &mut Told) {
        let Shared { redis, config, quota, status, .. } = self.shared();
        match config.outage {
            Outage::Share(nodes) => {
                // What was taken beforehand belongs to the time to come.
                let taken = Duration::from_nanos(asked.ahead.saturating_sub(quota.fill()));
                state.share.get_or_insert_with(|| Share::new(*quota, nodes, now + taken));
                let granted = state.allowance.min(asked.want.max(asked.need.into()));
                state.until = None;
                state.allowance -= granted;
                state.debt += granted;
                state.stock += granted;
                status.gave_alone(granted);
                self.limiter.serve(state, told);
            }
            Outage::Open => {
                let calls = state.drain();
                status.gave_alone(calls.iter().map(|call| u64::from(call.cost)).sum());
                told.extend(calls.into_iter().map(|call| (call.tell, Ok(()))));
            }
            Outage::Closed => {
                let after = redis.link.next_probe();
                let refuse = || self.limiter.refuse(Reason::Unavailable).with_retry_after(after);
                told.extend(state.drain().into_iter().map(|call| (call.tell, Err(refuse()))));
            }
        }
    }

    /// The tokens that were taken beforehand are there.
    fn arrive(&self, tokens: u64) {
        let mut state = lock(&self.limiter.state);
        if let Some(known) = &mut state.known {
            known.coming = 0;
        }
        self.limiter.supply(state, tokens);
    }
}

/// The task has ended with its runtime. Calls that wait in another one enter again.
impl Drop for Refill {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut state = lock(&self.limiter.state);
        state.asking = false;
        let gone = state.drain();
        drop(state);
        self.shared().status.leaves(gone.len());
    }
}
