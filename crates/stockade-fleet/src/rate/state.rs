//! The calls that wait on this node, and what is known of their bucket: what is under the lock of a limiter.

use std::{num::NonZeroU32, time::Duration};

use stockade_core::internal::{Key, Queue};
use tokio::{sync::oneshot, time::Instant};

use super::{
    bucket::{Ask, Quota, Share},
    limiter::Answered,
};

/// What is under the lock.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) queue: Queue<Waiting>,
    /// What those in the queue cost.
    pub(crate) owed: u64,
    /// How many of them are judged: the first ones.
    pub(crate) judged: usize,
    /// Tokens of this node that nobody has used yet.
    pub(crate) stock: u64,
    /// Whether the task is there.
    pub(crate) asking: bool,
    pub(crate) known: Option<Known>,
    /// What the Redis has said last.
    pub(crate) told: Option<(Instant, u64)>,
    pub(crate) share: Option<Share>,
    /// Until when this node keeps to its share, too, although the Redis decides again; and the tokens that the share
    /// has given for that.
    pub(crate) until: Option<Instant>,
    pub(crate) allowance: u64,
    /// Tokens that were given alone, and that the bucket in Redis does not know of.
    pub(crate) debt: u64,
}

/// The calls whose wait is over, to be told when the lock is free.
pub(crate) type Told = Vec<(oneshot::Sender<Answered>, Answered)>;

#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) key: Option<Key>,
    pub(crate) tell: oneshot::Sender<Answered>,
    pub(crate) cost: u32,
    pub(crate) since: Instant,
    pub(crate) deadline: Option<Instant>,
    pub(crate) judged: bool,
}

/// What was known of the bucket at an instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) at: Instant,
    pub(crate) quota: Quota,
    pub(crate) ahead: u64,
    /// The tokens that are taken already, and come later.
    pub(crate) coming: u64,
}

// === impl State ===

impl State {
    /// Takes tokens of this node's stock, if there are enough and no call waits for them.
    pub(crate) fn pass(&mut self, cost: NonZeroU32) -> bool {
        let cost = u64::from(cost.get());
        let passes = self.queue.is_empty() && self.stock >= cost;
        if passes {
            self.stock -= cost;
        }
        passes
    }

    pub(crate) fn push(&mut self, call: Waiting) -> Key {
        self.owed += u64::from(call.cost);
        self.judged += usize::from(call.judged);
        let key = self.queue.push_back(call);
        if let Some(call) = self.queue.get_mut(key) {
            call.key = Some(key);
        }
        key
    }

    /// Takes a call out of the queue, if it is there.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Waiting> {
        let gone = self.queue.remove(key)?;
        self.owed -= u64::from(gone.cost);
        self.judged -= usize::from(gone.judged);
        Some(gone)
    }

    fn pop(&mut self) -> Option<Waiting> {
        self.queue.front_key().and_then(|key| self.remove(key))
    }

    /// Serves from the stock, in order.
    pub(crate) fn serve(&mut self, told: &mut Told) {
        while let Some(head) = self.queue.front()
            && self.stock >= u64::from(head.cost)
        {
            self.stock -= u64::from(head.cost);
            told.extend(self.pop().map(|head| (head.tell, Ok(()))));
        }
    }

    pub(crate) fn drain(&mut self) -> Vec<Waiting> {
        std::iter::from_fn(|| self.pop()).collect()
    }

    /// Where there is a share, asks it too. Returns how much may be asked for, or after what time to come back.
    pub(crate) fn allow(&mut self, now: Instant, ask: Ask) -> Result<u64, Duration> {
        let Some(share) = &mut self.share else { return Ok(ask.want) };
        if self.allowance < u64::from(ask.need) {
            let allowed = u32::try_from(self.allowance).unwrap_or(u32::MAX);
            let (need, want) = (ask.need - allowed, ask.want.saturating_sub(self.allowance));
            let answer = share.answer(now, Ask { need, want, debt: 0, ..ask });
            let granted = u64::from(answer.granted);
            self.allowance += granted;
            if answer.wait > Duration::ZERO {
                let (quota, ahead) = (share.quota(), answer.ahead);
                self.known = Some(Known { at: now, quota, ahead, coming: granted });
                // A call that would not wait for it is told so now. Then the next one is asked for.
                return Err(if granted > 0 { answer.wait } else { Duration::ZERO });
            }
        }
        Ok(ask.want.min(self.allowance))
    }

    /// After what time so many tokens, counted from the head on, are there, as far as is known and if nobody else
    /// comes.
    pub(crate) fn predicted(&self, now: Instant, tokens: u64) -> Option<Duration> {
        let Known { at, quota, ahead, coming } = self.known?;
        let here = self.stock;
        if tokens <= here {
            return Some(Duration::ZERO);
        }
        let further = (tokens - here).saturating_sub(coming);
        let due = ahead.saturating_add(quota.period.saturating_mul(further));
        let due = Duration::from_nanos(due.saturating_sub(quota.fill()));
        Some(due.saturating_sub(now.saturating_duration_since(at)))
    }
}
