//! What the fleet knows, in Redis, and the script that moves it on.
//!
//! ```text
//!            (1) enough nodes fail            (2) its time is over, and a node asks
//!    none ──────────────────────────> open ────────────────────────────────> leased
//!     ^ ^                              ^                                       │ │ │
//!     │ │                              │            (4) its probes fail        │ │ │
//!     │ │                              └───────────────────────────────────────┘ │ │
//!     │ └────────────────────────────────────────────────────────────────────────┘ │
//!     │                      (3) its probes succeed                                │
//!     └────────────────────────────────────────────────────────────────────────────┘
//!                 the lease runs out, and nobody else asks for long
//! ```
//!
//! All times are the server's. Each node reports again and again, and is forgotten when it does not.

use std::time::Duration;

use redis::{FromRedisValue, Script, aio::MultiplexedConnection};

/// What a node reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// Its calls succeed.
    Well,
    /// Its breaker has opened by what it has seen itself.
    Failing,
    /// It has nothing to say: it is open because the fleet is, or forced open by hand.
    Nothing,
    /// Its probes for all have succeeded.
    Recovered,
    /// They have failed.
    Failed,
}

/// The times, and how many nodes have to agree: zero is more than half.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) quorum: u32,
    pub(crate) open_for: Duration,
    pub(crate) lease: Duration,
    pub(crate) forget_after: Duration,
}

/// What the fleet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) state: Shared,
    pub(crate) reporting: u32,
    pub(crate) failing: u32,
}

/// The state of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shared {
    /// Each as it likes.
    None,
    /// All are open, for so long yet.
    Open(Duration),
    /// Somebody else probes.
    Leased,
    /// This node probes.
    Mine,
    /// Somebody's probes have just succeeded: all close.
    Closed,
}

/// KEYS are the nodes, those that fail, the verdict and the lease; ARGV the node, its report, the quorum, and in
/// milliseconds how long to be open, to probe and to remember a node.
///
/// What would last longer than it was written for was written before the server's clock stepped back: it is shortened.
const SCRIPT: &str = r"
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local node, report, quorum = ARGV[1], ARGV[2], tonumber(ARGV[3])
local open, lease, memory = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local function decide(until_)
  redis.call('SET', KEYS[3], string.format('%.0f', until_), 'PX', open + 4 * lease)
end
for i = 1, 2 do
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now)
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '(' .. string.format('%.0f', now + memory), '+inf')
end
if redis.call('PTTL', KEYS[4]) > lease then
  redis.call('PEXPIRE', KEYS[4], lease)
end
redis.call('ZADD', KEYS[1], now + memory, node)
redis.call('PEXPIRE', KEYS[1], memory)
if report == 'Failing' then
  redis.call('ZADD', KEYS[2], now + memory, node)
  redis.call('PEXPIRE', KEYS[2], memory)
elseif report == 'Well' or report == 'Nothing' then
  redis.call('ZREM', KEYS[2], node)
end
local kept = redis.call('GET', KEYS[3])
local verdict = kept and tonumber(kept)
local state, left = kept == 'closed' and 4 or 0, 0
if kept == 'closed' and redis.call('PTTL', KEYS[3]) > memory then
  redis.call('PEXPIRE', KEYS[3], memory)
elseif verdict and verdict - now > open then
  verdict = now + open
  decide(verdict)
end
if verdict then
  local mine = redis.call('GET', KEYS[4]) == node
  if report == 'Recovered' and mine then
    redis.call('DEL', KEYS[2], KEYS[4])
    redis.call('SET', KEYS[3], 'closed', 'PX', memory)
    verdict, state = nil, 4
  elseif report == 'Failed' and mine then
    redis.call('DEL', KEYS[4])
    verdict = now + open
    decide(verdict)
  end
end
local reporting, failing = redis.call('ZCARD', KEYS[1]), redis.call('ZCARD', KEYS[2])
if not verdict then
  local enough = quorum
  if enough == 0 then
    enough = math.max(math.floor(reporting / 2) + 1, 2)
  end
  if failing >= enough then
    verdict = now + open
    redis.call('DEL', KEYS[4])
    decide(verdict)
  end
end
if verdict then
  left = math.min(verdict - now, open)
  if left > 0 then
    state = 1
  elseif redis.call('GET', KEYS[4]) == node or redis.call('SET', KEYS[4], node, 'NX', 'PX', lease) then
    state = 3
  else
    state = 2
  end
end
return {state, math.max(left, 0), reporting, failing}
";

// === impl Report ===

impl Report {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Well => "Well",
            Self::Failing => "Failing",
            Self::Nothing => "Nothing",
            Self::Recovered => "Recovered",
            Self::Failed => "Failed",
        }
    }
}

pub(crate) fn script() -> Script {
    Script::new(SCRIPT)
}

/// Reports, and hears what the fleet says.
pub(crate) async fn report(
    script: &Script,
    connection: &mut MultiplexedConnection,
    key: &str,
    node: &str,
    report: Report,
    terms: Terms,
) -> redis::RedisResult<Verdict> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    let keys = ["nodes", "failing", "verdict", "lease"].map(|part| format!("{{{key}}}:{part}"));
    let mut call = script.key(&keys[0]);
    call.key(&keys[1]).key(&keys[2]).key(&keys[3]);
    call.arg(node).arg(report.as_str()).arg(terms.quorum);
    call.arg(millis(terms.open_for)).arg(millis(terms.lease)).arg(millis(terms.forget_after));
    call.invoke_async(connection).await
}

impl FromRedisValue for Verdict {
    fn from_redis_value(value: redis::Value) -> Result<Self, redis::ParsingError> {
        let (state, left, reporting, failing): (u8, u64, u32, u32) =
            redis::from_redis_value(value)?;
        let state = match state {
            1 => Shared::Open(Duration::from_millis(left)),
            2 => Shared::Leased,
            3 => Shared::Mine,
            4 => Shared::Closed,
            _ => Shared::None,
        };
        Ok(Self { state, reporting, failing })
    }
}
