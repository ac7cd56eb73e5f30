//! The gate of one bucket on one node: who passes at once, who waits, and the one task that asks for tokens.
//!
//! Calls wait in the order in which they came. While any do, one task asks the bucket on their behalf: for what they
//! all cost together, as far as it is there, or else for the tokens of the one at the head, which it takes beforehand
//! and waits for. So however many calls wait, there is one question at a time, many calls share a round trip, and
//! nodes take turns: none can take more than one call's tokens ahead of the others.
//!
//! A call is *judged* when the first answer after its coming is there: it is told the true wait, and is refused if
//! that is too long for it. Until then it is held by the round trip alone, and no longer than the patience of the
//! [`Redis`] allows. Those who are judged are the first ones of the queue.

use std::{mem, sync::Arc, time::Duration};

use redis::Script;
use stockade_core::{
    Reason, Rejected,
    internal::{Key, lock, sync::Mutex},
};
use tokio::{sync::oneshot, time::Instant};

use super::{
    bucket::{Answer, Ask, Quota, Share},
    errand::Errand,
    line::{Known, Line, Waiting},
    status::Status,
};
use crate::{Redis, RedisError};

/// What to do with calls while the Redis is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Away {
    /// Lets all calls pass: the rate does not hold meanwhile.
    Open,
    /// Refuses all calls, also those that wait: nothing passes meanwhile.
    Closed,
    /// Gives this node one part in so many of the rate and of the burst, from an empty bucket. With as many nodes as
    /// are said, the rate holds while the Redis is away for all of them; where it is away for some only, these have their
    /// shares beyond it.
    Share(u32),
}

/// What the layer says of all its buckets.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) quota: Quota,
    pub(crate) queue: usize,
    pub(crate) max_wait: Option<Duration>,
    pub(crate) lease: u32,
    pub(crate) away: Away,
    pub(crate) name: Option<&'static str>,
}

/// What all gates of a layer share.
#[derive(Debug)]
pub(crate) struct Office {
    pub(crate) redis: Redis,
    pub(crate) script: Script,
    pub(crate) rules: Rules,
    pub(crate) status: Status,
}

/// The gate of one bucket.
#[derive(Debug)]
pub(crate) struct Gate {
    office: Arc<Office>,
    key: String,
    line: Mutex<Line>,
}

/// What a call that waits is told in the end.
pub(crate) type Verdict = Result<(), Rejected>;

/// What a call gets at the door.
pub(crate) enum Entry {
    Passed,
    Refused(Rejected),
    Waits(Key, oneshot::Receiver<Verdict>),
}

/// What the task does next.
pub(crate) enum Next {
    Ask(Ask, Duration),
    Sleep(Duration, u64),
    End,
}

/// Those whose wait is over, to be told when the lock is free.
#[derive(Default)]
struct Told(Vec<(oneshot::Sender<Verdict>, Verdict)>);

/// The shortest pause before the same thing is asked again.
const BREATH: Duration = Duration::from_millis(1);

/// The most calls that wait for the first answer of a Redis.
const MAX_ASKING: usize = 65_536;

// === impl Gate ===

impl Gate {
    pub(crate) fn new(office: Arc<Office>, key: String) -> Self {
        Self { office, key, line: Mutex::default() }
    }

    /// A call comes: it passes if there are tokens on this node, and nobody waits for them.
    pub(crate) fn pass(&self, cost: u32) -> bool {
        let mut line = lock(&self.line);
        let passes = line.queue.is_empty() && line.stock >= u64::from(cost);
        if passes {
            line.stock -= u64::from(cost);
        }
        passes
    }

    /// The refusal of a call that costs too much, which says no time.
    pub(crate) fn too_costly(&self, cost: u32) -> Option<Rejected> {
        (cost > self.rules().quota.burst).then(|| self.rejected(Reason::TooCostly))
    }

    /// A call takes its place.
    pub(crate) fn enter(self: &Arc<Self>, cost: u32, deadline: Option<Instant>) -> Entry {
        let now = Instant::now();
        let mut line = lock(&self.line);
        if line.queue.is_empty() && line.stock >= u64::from(cost) {
            line.stock -= u64::from(cost);
            return Entry::Passed;
        }
        if line.queue.len() - line.judged >= MAX_ASKING {
            let after = self.office.redis.budget();
            return Entry::Refused(self.rejected(Reason::QueueFull).with_retry_after(after));
        }
        let (tell, told) = oneshot::channel();
        let mut call = Waiting { key: None, tell, cost, since: now, deadline, judged: false };
        // All before it are judged, so it can be, too, without another round trip.
        if line.judged == line.queue.len()
            && let Some(wait) = line.predicted(now, line.owed + u64::from(cost))
            && (line.judged > 0 || line.known.is_some_and(|known| known.coming > 0))
        {
            if let Err(rejected) = self.judge(&line, now, &call, wait) {
                return Entry::Refused(rejected);
            }
            call.judged = true;
            line.judged += 1;
        }
        let key = line.queue.push_back(call);
        if let Some(call) = line.queue.get_mut(key) {
            call.key = Some(key);
        }
        line.owed += u64::from(cost);
        self.office.status.enters();
        if !mem::replace(&mut line.asking, true) {
            tokio::spawn(Errand::new(Arc::clone(self)).run());
        }
        Entry::Waits(key, told)
    }

    /// A call goes that was not served yet, if it is there.
    pub(crate) fn leave(&self, key: Key) {
        let mut line = lock(&self.line);
        if let Some(gone) = line.queue.remove(key) {
            line.owed -= u64::from(gone.cost);
            line.judged -= usize::from(gone.judged);
            drop(line);
            self.office.status.leaves(1);
        }
    }

    /// Takes back what a call was given that does not need it.
    pub(crate) fn give_back(&self, cost: u32) {
        let mut line = lock(&self.line);
        line.stock += u64::from(cost);
        let told = self.serve(&mut line);
        self.tell(line, told);
    }

    /// Whether nobody needs it: then it can be made again.
    pub(crate) fn is_idle(&self) -> bool {
        let line = lock(&self.line);
        line.queue.is_empty() && !line.asking && line.debt == 0
    }

    pub(crate) fn office(&self) -> &Office {
        &self.office
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// The task has ended with its runtime. Who waits in another one comes again.
    pub(crate) fn abandon(&self) {
        let mut line = lock(&self.line);
        line.asking = false;
        let gone = line.drain();
        drop(line);
        self.office.status.leaves(gone.len());
    }

    fn rules(&self) -> &Rules {
        &self.office.rules
    }

    fn rejected(&self, reason: Reason) -> Rejected {
        Rejected::new(&"rate", reason).with_name(self.rules().name)
    }

    /// Serves from the stock, in order. What is left over when nobody waits is bounded by the lease.
    fn serve(&self, line: &mut Line) -> Told {
        let mut told = Told::default();
        while let Some(head) = line.queue.front()
            && line.stock >= u64::from(head.cost)
        {
            line.stock -= u64::from(head.cost);
            told.0.extend(line.pop().map(|head| (head.tell, Ok(()))));
        }
        if line.queue.is_empty() {
            line.stock = line.stock.min(u64::from(self.rules().lease - 1));
        }
        told
    }

    fn tell(&self, line: stockade_core::internal::sync::MutexGuard<'_, Line>, told: Told) {
        drop(line);
        if !told.0.is_empty() {
            self.office.status.leaves(told.0.len());
        }
        for (call, verdict) in told.0 {
            // One that is gone has given its place back, and its tokens are lost with it.
            let _ = call.send(verdict);
        }
    }

    /// Whether `call` may wait for so long.
    fn judge(
        &self,
        line: &Line,
        now: Instant,
        call: &Waiting,
        wait: Duration,
    ) -> Result<(), Rejected> {
        let refuse = |reason, after| Err(self.rejected(reason).with_retry_after(after));
        if wait == Duration::ZERO {
            return Ok(());
        }
        let rules = self.rules();
        let too_long = rules.max_wait.map_or(Duration::ZERO, |max| wait.saturating_sub(max));
        if line.judged >= rules.queue {
            if rules.queue == 0 {
                return refuse(Reason::RateLimited, wait);
            }
            let first = line.queue.front().and_then(|head| line.predicted(now, head.cost.into()));
            return refuse(Reason::QueueFull, first.unwrap_or(wait).max(too_long));
        }
        if too_long > Duration::ZERO {
            return refuse(Reason::WaitExceeded, too_long);
        }
        match call.deadline.map(|deadline| deadline.saturating_duration_since(now)) {
            Some(left) if wait > left => refuse(Reason::Expired, wait - left),
            _ => Ok(()),
        }
    }

    /// Judges those who came since the last answer.
    fn judge_all(&self, line: &mut Line, now: Instant, told: &mut Told) {
        let mut ahead: u64 = line.queue.iter().take(line.judged).map(|c| u64::from(c.cost)).sum();
        let new: Vec<_> = line.queue.iter().skip(line.judged).filter_map(|call| call.key).collect();
        for key in new {
            let Some(call) = line.queue.get(key) else { continue };
            let cost = u64::from(call.cost);
            let wait = line.predicted(now, ahead + cost).unwrap_or_default();
            match self.judge(line, now, call, wait) {
                Ok(()) => {
                    ahead += cost;
                    line.judged += 1;
                    if let Some(call) = line.queue.get_mut(key) {
                        call.judged = true;
                    }
                }
                Err(rejected) => {
                    line.owed -= cost;
                    told.0.extend(line.queue.remove(key).map(|call| (call.tell, Err(rejected))));
                }
            }
        }
    }

    /// What the task is to do, now that it has nothing on its hands.
    pub(crate) fn next(&self, now: Instant) -> Next {
        let mut line = lock(&self.line);
        let mut told = self.serve(&mut line);
        let next = if line.queue.is_empty() {
            line.asking = false;
            Next::End
        } else {
            self.question(&mut line, now, &mut told)
        };
        self.tell(line, told);
        next
    }

    fn question(&self, line: &mut Line, now: Instant, told: &mut Told) -> Next {
        let Some(head) = line.queue.front() else { return Next::Sleep(Duration::ZERO, 0) };
        let rules = self.rules();
        let missing = u64::from(head.cost) - line.stock.min(u64::from(head.cost));
        let need = u32::try_from(missing).unwrap_or(u32::MAX);
        let want = line.owed.max(u64::from(rules.lease)).saturating_sub(line.stock);
        let most = self.patience_of(head, now).min(rules.quota.horizon());
        let oldest = line.queue.iter().nth(line.judged);
        let held = oldest.map_or(Duration::ZERO, |c| now.saturating_duration_since(c.since));
        let within = self.office.redis.budget().saturating_sub(held);
        let debt = u32::try_from(line.debt).unwrap_or(u32::MAX);
        let ahead = line.told.map_or(0, |(at, ahead)| {
            let since = now.saturating_duration_since(at).as_nanos();
            ahead.saturating_sub(u64::try_from(since).unwrap_or(u64::MAX))
        });
        let ask = Ask { need, want, most, debt, ahead };
        if let Some(known) = &mut line.known {
            known.coming = 0;
        }
        let left = line.until.map(|until| until.saturating_duration_since(now));
        if left == Some(Duration::ZERO) {
            (line.until, line.share) = (None, None);
        }
        match line.allow(now, ask) {
            Ok(want) => Next::Ask(Ask { want, ..ask }, within),
            Err(wait) => {
                self.judge_all(line, now, told);
                Next::Sleep(left.unwrap_or(wait).min(wait), 0)
            }
        }
    }

    /// How long this call would wait for its tokens.
    fn patience_of(&self, call: &Waiting, now: Instant) -> Duration {
        let rules = self.rules();
        if call.judged {
            return Duration::MAX;
        }
        if rules.queue == 0 {
            return Duration::ZERO;
        }
        let max = rules.max_wait.unwrap_or(Duration::MAX);
        call.deadline.map_or(max, |deadline| deadline.saturating_duration_since(now).min(max))
    }

    /// Puts the answer to use, or does without.
    pub(crate) fn heed(&self, asked: Ask, answer: Result<Answer, &RedisError>) -> Next {
        let now = Instant::now();
        let rules = self.rules();
        let mut line = lock(&self.line);
        let mut told = Told::default();
        let (quota, answer) = match (answer, rules.away) {
            (Ok(answer), _) => {
                // The others may still be alone, for as long as it takes them to find the Redis again.
                if line.share.is_some() && (line.until.is_none() || line.debt > 0) {
                    line.until = Some(now + self.office.redis.stagger());
                }
                line.allowance = line.allowance.saturating_sub(answer.granted.into());
                line.debt = 0;
                line.told = Some((now, answer.ahead));
                (rules.quota, answer)
            }
            (Err(_), Away::Share(nodes)) => {
                let granted = line.allowance.min(asked.want.max(asked.need.into()));
                if line.share.is_none() {
                    // What was taken beforehand belongs to the time to come.
                    let taken =
                        Duration::from_nanos(asked.ahead.saturating_sub(rules.quota.fill()));
                    line.share = Some(Share::new(rules.quota, nodes, now + taken));
                }
                line.until = None;
                line.allowance -= granted;
                line.debt += granted;
                line.stock += granted;
                self.office.status.gave_alone(granted);
                let told = self.serve(&mut line);
                self.tell(line, told);
                return Next::Sleep(Duration::ZERO, 0);
            }
            (Err(_), Away::Open) => {
                let calls = line.drain();
                self.office.status.gave_alone(calls.iter().map(|call| u64::from(call.cost)).sum());
                told.0.extend(calls.into_iter().map(|call| (call.tell, Ok(()))));
                self.tell(line, told);
                return Next::Sleep(Duration::ZERO, 0);
            }
            (Err(_), Away::Closed) => {
                let after = self.office.redis.next_probe();
                let refused = self.rejected(Reason::RateLimited).with_retry_after(after);
                told.0.extend(line.drain().into_iter().map(|call| (call.tell, Err(refused))));
                self.tell(line, told);
                return Next::Sleep(Duration::ZERO, 0);
            }
        };
        let granted = u64::from(answer.granted);
        let coming = if answer.wait > Duration::ZERO { granted } else { 0 };
        line.stock += granted - coming;
        line.known = Some(Known { at: now, quota, ahead: answer.ahead, coming });
        told.0.extend(self.serve(&mut line).0);
        self.judge_all(&mut line, now, &mut told);
        let next = if coming > 0 {
            Next::Sleep(answer.wait, coming)
        } else if granted == 0 && line.judged > 0 {
            // Too far away to be taken beforehand: it is asked for again when it is not.
            Next::Sleep(answer.wait.saturating_sub(quota.horizon()).max(BREATH), 0)
        } else {
            Next::Sleep(Duration::ZERO, 0)
        };
        self.tell(line, told);
        next
    }

    /// The tokens that were taken beforehand are there.
    pub(crate) fn arrive(&self, tokens: u64) {
        let mut line = lock(&self.line);
        line.stock += tokens;
        if let Some(known) = &mut line.known {
            known.coming = 0;
        }
        let told = self.serve(&mut line);
        self.tell(line, told);
    }
}
