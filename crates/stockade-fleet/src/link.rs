//! The connection to Redis: one for each process, shared by all layers that need it. Nothing waits for it while the
//! Redis is away.
//!
//! ```text
//!          first use            answered                (2) broke, or late three times in a row
//!    Idle ───────────> First ───────────> Up ─────────────────────────────> Away
//!                        │                 ^                                │  ^
//!                        │                 │      (3) a probe succeeds      │  │ a probe fails:
//!                        │                 └────────────────────────────────┘  │ later next time
//!                        └──────────────────────────────────────────────────────┘
//!                            not answered
//! ```
//!
//! Nothing happens by itself. When the time of the next probe has come, the next call that needs the Redis starts it: one
//! at a time and in the background, while calls go on without the Redis. The time between probes doubles, and is
//! jittered so that a fleet does not come back at once. A Redis that lets us connect and then refuses, such as a replica
//! that cannot be written to, goes on from where the pauses were: only a useful answer starts them anew.

use std::{sync::Arc, time::Duration};

use redis::{AsyncConnectionConfig, Client, ConnectionAddr, Script, aio::MultiplexedConnection};
use stockade_core::internal::{lock, sync::Mutex};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::{Fault, RedisError};

/// Whether a Redis is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Presence {
    /// Nobody has needed it yet, or it has not answered for the first time.
    Unknown,
    /// It answers.
    Here,
    /// It does not answer: every process goes on alone.
    Away,
}

pub(crate) struct Link {
    pub(crate) to: Target,
    state: Mutex<State>,
    pub(crate) presence: watch::Sender<Presence>,
}

/// Which Redis it is, and how long to wait for it.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) client: Client,
    #[cfg(feature = "tls")]
    pub(crate) certificates: redis::TlsCertificates,
    pub(crate) place: Arc<str>,
    pub(crate) connect_timeout: Duration,
    pub(crate) patience: Duration,
}

enum State {
    Idle,
    First,
    /// `failures` is how often in a row it was of no use, and 0 once it has answered something.
    Up {
        connection: MultiplexedConnection,
        life: u64,
        late: u32,
        failures: u32,
    },
    Away(Outage),
}

struct Outage {
    error: RedisError,
    probing: bool,
    probe_at: Instant,
    failures: u32,
}

/// An attempt to connect, which leaves no state behind that waits for it, also when its runtime ends.
struct Attempt {
    link: Arc<Link>,
    settled: bool,
}

/// How often in a row it may be late before it counts as away.
const LATE: u32 = 3;

/// Whether scripts may do what the layers' scripts do: those of a rate, and where there is an argument those of a quorum
/// too. It writes nothing, because those values and that expiry are refused and that key is not there, but only after the
/// server has looked whether this user may run the command here at all.
const CHECK: &str = r#"
local is = function(why, words) return string.find(why, words, 1, true) end
local first_denied = function(commands)
  for _, words in ipairs(commands) do
    local said = redis.pcall(unpack(words))
    local why = type(said) == 'table' and said.err
    if why and is(why, 'READONLY') then
      return said
    elseif why and (is(why, 'permissions to run') or is(why, "can't run this command")) then
      return redis.error_reply("NOPERM scripts of this user may not run '" .. string.lower(words[1]) .. "'")
    end
  end
end
local rate = {{'TIME'}, {'GET', 'stockade'}, {'SET', 'stockade', '', 'PX', '0'}}
local quorum = {
  {'PTTL', 'stockade'}, {'PEXPIRE', 'stockade', ''}, {'DEL', 'stockade:nothing'},
  {'ZADD', 'stockade', '', ''}, {'ZREM', 'stockade:nothing', ''},
  {'ZREMRANGEBYSCORE', 'stockade', '', ''}, {'ZCARD', 'stockade'},
}
return first_denied(rate) or (ARGV[1] and first_denied(quorum)) or 7
"#;

/// What is asked of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// What every layer needs.
    Little,
    /// What any layer needs.
    All,
}

const FIRST_PROBE: Duration = Duration::from_millis(50);
const LAST_PROBE: Duration = Duration::from_millis(250);

// === impl Link ===

impl Link {
    pub(crate) fn new(to: Target) -> Self {
        let presence = watch::Sender::new(Presence::Unknown);
        Self { to, state: Mutex::new(State::Idle), presence }
    }

    /// How long after one process the last one finds that it is there again, if it needs it.
    pub(crate) fn stagger(&self) -> Duration {
        LAST_PROBE + self.to.connect_timeout
    }

    /// When it is worth while to come back, while it is away.
    pub(crate) fn next_probe(&self) -> Duration {
        match &*lock(&self.state) {
            State::Away(away) => {
                away.probe_at.saturating_duration_since(Instant::now()).max(FIRST_PROBE)
            }
            _ => FIRST_PROBE,
        }
    }

    pub(crate) fn timed_out(&self) -> RedisError {
        RedisError::timed_out(&self.to.place, "an answer", self.to.patience)
    }

    /// The connection, or why there is none. Waits only for the very first one.
    pub(crate) async fn connection(
        self: &Arc<Self>,
    ) -> Result<(MultiplexedConnection, u64), RedisError> {
        loop {
            let mut presence = self.presence.subscribe();
            {
                let mut state = lock(&self.state);
                match &mut *state {
                    State::Up { connection, life, .. } => return Ok((connection.clone(), *life)),
                    State::Idle => {
                        *state = State::First;
                        self.probe();
                    }
                    State::First => {}
                    State::Away(away) => {
                        if !away.probing && away.probe_at <= Instant::now() {
                            away.probing = true;
                            self.probe();
                        }
                        return Err(away.error.clone());
                    }
                }
            }
            // It fails only when the sender is gone, which is in `self`.
            let _ = presence.wait_for(|presence| *presence != Presence::Unknown).await;
        }
    }

    /// Connects in the background.
    fn probe(self: &Arc<Self>) {
        let mut attempt = Attempt { link: Arc::clone(self), settled: false };
        tokio::spawn(async move {
            let connected = attempt.link.connect(Ask::Little).await;
            attempt.settled = true;
            attempt.link.connected(connected);
        });
    }

    pub(crate) async fn connect(&self, ask: Ask) -> Result<MultiplexedConnection, RedisError> {
        #[cfg(feature = "tls")]
        crate::tls::choose_provider();
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connecting = async {
            let mut connection =
                self.to.client.get_multiplexed_async_connection_with_config(&config).await?;
            let said: String = redis::cmd("PING").query_async(&mut connection).await?;
            let check = Script::new(CHECK);
            let mut call = check.prepare_invoke();
            if ask == Ask::All {
                // Where the server knows it already, nothing else shows whether scripts may be sent to it.
                check.load_async(&mut connection).await?;
                call.arg("quorum");
            }
            let ran: i64 = call.invoke_async(&mut connection).await?;
            Ok::<_, redis::RedisError>((said == "PONG" && ran == 7).then_some(connection))
        };
        match timeout(self.to.connect_timeout, connecting).await {
            Ok(Ok(Some(connection))) => Ok(connection),
            Ok(Ok(None)) => Err(RedisError::new(&self.to.place, Fault::NotRedis, "")),
            Ok(Err(error)) => Err(RedisError::of(&self.to.place, &error, true)),
            Err(_) => {
                let tls = matches!(
                    self.to.client.get_connection_info().addr(),
                    ConnectionAddr::TcpTls { .. }
                );
                let doing = if tls { "connecting over TLS" } else { "connecting" };
                Err(RedisError::timed_out(&self.to.place, doing, self.to.connect_timeout))
            }
        }
    }

    pub(crate) fn connected(&self, connected: Result<MultiplexedConnection, RedisError>) {
        let mut state = lock(&self.state);
        let before = match &*state {
            State::Away(away) => Some(away.failures),
            _ => None,
        };
        let presence = match connected {
            Ok(connection) => {
                let (life, failures) =
                    (fastrand::u64(..), before.map_or(0, |n| n.saturating_add(1)));
                *state = State::Up { connection, life, late: 0, failures };
                Presence::Here
            }
            Err(error) => {
                let failures = before.map_or(0, |failures| failures.saturating_add(1));
                *state = State::Away(Outage::new(error, failures));
                Presence::Away
            }
        };
        drop(state);
        self.presence.send_replace(presence);
    }

    /// Counts an answer that came in time, or did not: true says that it was late too often.
    pub(crate) fn settle(&self, asked: u64, in_time: bool) -> bool {
        match &mut *lock(&self.state) {
            State::Up { life, late, failures, .. } if *life == asked => {
                if in_time {
                    (*late, *failures) = (0, 0);
                } else {
                    *late += 1;
                }
                *late >= LATE
            }
            _ => false,
        }
    }

    /// The connection of that life is of no use any more.
    pub(crate) fn lose(&self, lost: u64, error: &RedisError) {
        let mut state = lock(&self.state);
        let failures = match &*state {
            State::Up { life, failures, .. } if *life == lost => *failures,
            _ => return,
        };
        *state = State::Away(Outage::new(error.clone(), failures));
        drop(state);
        self.presence.send_replace(Presence::Away);
    }
}

// === impl Outage ===

impl Outage {
    fn new(error: RedisError, failures: u32) -> Self {
        let wait = FIRST_PROBE.saturating_mul(2_u32.saturating_pow(failures)).min(LAST_PROBE);
        let wait = wait.mul_f64(0.5 + 0.5 * fastrand::f64());
        Self { error, probing: false, probe_at: Instant::now() + wait, failures }
    }
}

// === impl Attempt ===

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.settled {
            let place = &self.link.to.place;
            let error = RedisError::new(place, Fault::Lost, "the runtime ended");
            self.link.connected(Err(error));
        }
    }
}
