//! The token bucket: the arithmetic, once in Lua for the server and once in Rust for the share that a node has while
//! the server is away.
//!
//! It is the generic cell rate algorithm (ITU-T I.371), in whole nanoseconds: what is kept is one instant, at which the
//! bucket will be full again, as seconds and nanoseconds of the server's own clock. No clock of a node is part of it.
//! Both reckon with *ahead*, the time from now to that instant, which is exact in the doubles of Lua up to 104 days.
//!
//! Tokens that are not there yet can be taken for later: the answer says how long to wait for them, and nobody else
//! gets them. So nodes that wait do not race at each refill, and each node waits for one call at a time.

use std::time::Duration;

use redis::{FromRedisValue, Script};
use tokio::time::Instant;

/// A bucket and the rate at which it fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    /// The time in which one token comes, in nanoseconds.
    pub(crate) period: u64,
    pub(crate) burst: u32,
}

/// What a node asks a bucket for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    /// The tokens that are needed, all or none: for those it pays to wait.
    pub(crate) need: u32,
    /// The tokens that would be taken if they are there now.
    pub(crate) want: u64,
    /// How long they would be waited for.
    pub(crate) most: Duration,
    /// The tokens that this node gave out alone, and that the bucket does not know of.
    pub(crate) debt: u32,
    /// After what time the bucket will be full at the earliest, in nanoseconds: what was told last.
    pub(crate) ahead: u64,
}

/// What a bucket answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The tokens that were taken. They come after `wait`.
    pub(crate) granted: u32,
    /// With no tokens: after what time those needed would be there.
    pub(crate) wait: Duration,
    /// After what time the bucket will be full, now that they are taken, in nanoseconds.
    pub(crate) ahead: u64,
}

/// The longest that an empty bucket may take to fill up: what the arithmetic holds exactly, several times over.
pub(crate) const MAX_FILL: Duration = Duration::from_secs(10 * 86_400);

/// The longest wait for which tokens are taken beforehand, beyond the time in which the bucket fills up.
const SLACK: u64 = 1_000_000_000;

/// A share of the rate, for a node that is alone. It begins empty: its part of the burst may have been used.
#[derive(Debug)]
pub(crate) struct Share {
    quota: Quota,
    full_at: Instant,
}

// === impl Quota ===

impl Quota {
    /// The time in which an empty bucket fills up, in nanoseconds.
    pub(crate) fn fill(self) -> u64 {
        self.period.saturating_mul(self.burst.into())
    }

    /// The longest that tokens are taken beforehand.
    pub(crate) fn horizon(self) -> Duration {
        Duration::from_nanos(self.fill().saturating_add(SLACK))
    }

    /// A share of one in `nodes`.
    pub(crate) fn share(self, nodes: u32) -> Self {
        let period = self.period.saturating_mul(nodes.into());
        Self { period, burst: (self.burst / nodes).max(1) }
    }

    /// The answer of a bucket that will be full after `ahead`. It is what the script does.
    pub(crate) fn answer(self, ahead: u64, ask: Ask) -> Answer {
        let (period, fill) = (self.period, self.fill());
        // What was given elsewhere is taken out of the bucket, as far as there is something in it.
        let debt = period.saturating_mul(ask.debt.into());
        let ahead = ahead.min(fill.saturating_mul(3).saturating_add(SLACK));
        let ahead = ahead.saturating_add(debt).min(fill).max(ahead);
        let have = fill.saturating_sub(ahead) / period;
        // A share may be smaller than what a call costs: then it passes with all there can be, and the rest is owed.
        let enough = ask.need.min(self.burst);
        let cost = |tokens: u64| period.saturating_mul(tokens);
        let wait = (ahead + cost(enough.into())).saturating_sub(fill);
        let granted = if wait == 0 {
            have.min(ask.want).max(ask.need.into())
        } else if u128::from(wait) <= ask.most.as_nanos() {
            ask.need.into()
        } else {
            0
        };
        let granted = u32::try_from(granted).unwrap_or(u32::MAX);
        let ahead = ahead.saturating_add(cost(granted.into()));
        Answer { granted, wait: Duration::from_nanos(wait), ahead }
    }
}

// === impl Share ===

impl Share {
    pub(crate) fn new(quota: Quota, nodes: u32, now: Instant) -> Self {
        let quota = quota.share(nodes);
        Self { quota, full_at: now + Duration::from_nanos(quota.fill()) }
    }

    pub(crate) const fn quota(&self) -> Quota {
        self.quota
    }

    pub(crate) fn answer(&mut self, now: Instant, ask: Ask) -> Answer {
        let ahead = self.full_at.saturating_duration_since(now).as_nanos();
        let answer = self.quota.answer(u64::try_from(ahead).unwrap_or(u64::MAX), ask);
        self.full_at = now + Duration::from_nanos(answer.ahead);
        answer
    }
}

// === the script ===

/// KEYS[1] is the bucket, ARGV are period, fill, need, want, most, debt, the longest that may be ahead, and what is
/// ahead at least, as the node knows.
///
/// A key that is not there stands for a full bucket, because it expires when its bucket is full. The instant only ever
/// moves on, so what a node has been told stays true: a server that has lost the key, or has an older state of it, is
/// told so by the first node that knows better.
///
/// Beside the instant stands what was ahead when it was written. If more is ahead now, the server's clock has stepped
/// back, and the instant is moved along.
const SCRIPT: &str = r"
local time = redis.call('TIME')
local sec, nanos = tonumber(time[1]), tonumber(time[2]) * 1000
local period, fill, need = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local want, most, debt = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local kept, ahead, stepped = redis.call('GET', KEYS[1]), 0, false
if kept then
  local s, n, written = string.match(kept, '^(%d+):(%d+):?(%d*)$')
  if not s then
    return redis.error_reply('WRONGTYPE ' .. KEYS[1] .. ' holds no bucket')
  end
  ahead = (tonumber(s) - sec) * 1000000000 + tonumber(n) - nanos
  local most = math.min(tonumber(written) or math.huge, tonumber(ARGV[7]))
  stepped = ahead > most
  ahead = math.min(ahead, most)
end
ahead = math.min(math.max(ahead, tonumber(ARGV[8])), tonumber(ARGV[7]))
ahead = math.max(ahead, math.min(ahead + debt * period, fill))
local wait, granted = ahead + need * period - fill, 0
if wait <= 0 then
  wait, granted = 0, math.max(math.min(math.floor((fill - ahead) / period), want), need)
elseif wait <= most then
  granted = need
end
ahead = ahead + granted * period
if granted > 0 or debt > 0 or stepped then
  local at = nanos + ahead
  local s, n = sec + math.floor(at / 1000000000), at % 1000000000
  redis.call('SET', KEYS[1], string.format('%.0f:%.0f:%.0f', s, n, ahead), 'PX', math.ceil(ahead / 1000000) + 1000)
end
return {granted, wait, ahead}
";

/// The script of the bucket, which the server is sent once and then called by its hash.
pub(crate) fn script() -> Script {
    Script::new(SCRIPT)
}

/// Puts the question to the script.
pub(crate) async fn ask(
    script: &Script,
    connection: &mut redis::aio::MultiplexedConnection,
    key: &str,
    quota: Quota,
    ask: Ask,
) -> redis::RedisResult<Answer> {
    let fill = quota.fill();
    let most = u64::try_from(ask.most.as_nanos()).unwrap_or(u64::MAX).min(fill + SLACK);
    let mut call = script.key(key);
    call.arg(quota.period).arg(fill).arg(ask.need).arg(ask.want).arg(most);
    call.arg(ask.debt).arg(fill * 3 + SLACK).arg(ask.ahead);
    call.invoke_async(connection).await
}

impl FromRedisValue for Answer {
    fn from_redis_value(value: redis::Value) -> Result<Self, redis::ParsingError> {
        let (granted, wait, ahead): (u32, u64, u64) = redis::from_redis_value(value)?;
        Ok(Self { granted, wait: Duration::from_nanos(wait), ahead })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QUOTA: Quota = Quota { period: 10, burst: 5 };

    fn ask(need: u32, want: u64, most: u64) -> Ask {
        Ask { need, want, most: Duration::from_nanos(most), debt: 0, ahead: 0 }
    }

    #[test]
    fn a_full_bucket_gives_what_is_wanted_up_to_the_burst() {
        let answer = QUOTA.answer(0, ask(1, 9, 0));
        assert_eq!(answer, Answer { granted: 5, wait: Duration::ZERO, ahead: 50 });
    }

    #[test]
    fn tokens_that_are_not_there_are_taken_for_later_only_by_who_would_wait() {
        let refused = QUOTA.answer(50, ask(2, 2, 19));
        assert_eq!(refused, Answer { granted: 0, wait: Duration::from_nanos(20), ahead: 50 });
        let taken = QUOTA.answer(50, ask(2, 2, 20));
        assert_eq!(taken, Answer { granted: 2, wait: Duration::from_nanos(20), ahead: 70 });
        let next = QUOTA.answer(70, ask(1, 1, 1_000));
        assert_eq!(next.wait, Duration::from_nanos(30));
    }

    #[test]
    fn a_debt_is_taken_out_of_the_bucket_first() {
        let answer = QUOTA.answer(0, Ask { debt: 4, ..ask(1, 9, 0) });
        assert_eq!((answer.granted, answer.ahead), (1, 50));
        let empty = QUOTA.answer(0, Ask { debt: 99, ..ask(1, 9, 0) });
        assert_eq!(
            (empty.granted, empty.wait),
            (0, Duration::from_nanos(10)),
            "and no more than it holds"
        );
    }

    #[test]
    fn a_call_that_costs_more_than_a_share_holds_passes_with_all_of_it_and_is_paid_for_later() {
        let share = QUOTA.share(5);
        assert_eq!(share, Quota { period: 50, burst: 1 });
        let answer = share.answer(0, ask(3, 3, 0));
        assert_eq!((answer.granted, answer.ahead), (3, 150));
        assert_eq!(share.answer(150, ask(1, 1, 0)).wait, Duration::from_nanos(150));
    }

    proptest! {
        #[test]
        fn over_any_time_no_more_is_given_than_the_burst_and_what_the_time_brings(
            period in 1..1_000_u64, burst in 1..50_u32,
            steps in prop::collection::vec((0..2_000_u64, 1..50_u32, 0..80_u64, 0..3_000_u64), 1..200),
        ) {
            let quota = Quota { period, burst };
            let (mut now, mut full_at) = (0, 0_u64);
            let mut given: Vec<(u64, u64)> = Vec::new();
            for (pause, need, want, most) in steps {
                now += pause;
                let ahead = full_at.saturating_sub(now);
                let answer = quota.answer(ahead, ask(need.min(burst), want, most));
                full_at = now + answer.ahead;
                if answer.granted > 0 {
                    let at = now + u64::try_from(answer.wait.as_nanos()).unwrap();
                    given.push((at, answer.granted.into()));
                }
            }
            for from in 0..given.len() {
                let mut sum = 0;
                for to in from..given.len() {
                    sum += given[to].1;
                    let time = given[to].0 - given[from].0;
                    prop_assert!(sum <= u64::from(burst) + time / period);
                }
            }
        }
    }
}
