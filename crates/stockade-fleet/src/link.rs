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

use std::{fmt, sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, Script,
    aio::MultiplexedConnection,
};
use stockade_core::config::{MAX_DURATION, MIN_DURATION, allow};
use stockade_core::internal::lock;
use stockade_core::internal::sync::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

use crate::{Fault, RedisError};

/// A Redis that the processes of a fleet share.
///
/// It is a handle: clones share one connection, over which all calls go at once. Making it connects nothing; the
/// first call that needs it does, or [`check`](Self::check).
///
/// Nobody waits for it longer than its [`patience`](Self::patience), and while it is away nobody waits at all: what
/// happens then is up to the layer that uses it.
///
/// With the feature `tls` a URL that begins with `rediss://` makes connections over TLS. The server's certificate has to
/// be for the host in the URL, and by an authority that the system trusts, or that [`trust`](Self::trust) names.
///
/// # Example
///
/// ```no_run
/// use std::time::Duration;
/// use stockade_fleet::Redis;
///
/// # async fn run() -> Result<(), stockade_fleet::RedisError> {
/// let redis = Redis::new("redis://:secret@redis.internal:6379/0")?.patience(Duration::from_millis(20));
/// redis.check().await?; // says at the start what is wrong, if anything is
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Redis {
    pub(crate) link: Arc<Link>,
}

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
    presence: watch::Sender<Presence>,
}

/// Which Redis it is, and how long to wait for it.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) client: Client,
    #[cfg(feature = "tls")]
    pub(crate) certificates: redis::TlsCertificates,
    pub(crate) place: Arc<str>,
    connect_timeout: Duration,
    patience: Duration,
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
    Away(Away),
}

struct Away {
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

/// Whether scripts may do what the layers' scripts do. It writes nothing, because that expiry is refused, but only after
/// the server has looked whether this user may write here at all.
const CHECK: &str = r#"
local is = function(why, words) return string.find(why, words, 1, true) end
for _, words in ipairs({{'TIME'}, {'GET', 'stockade'}, {'SET', 'stockade', '', 'PX', '0'}}) do
  local said = redis.pcall(unpack(words))
  local why = type(said) == 'table' and said.err
  if why and is(why, 'READONLY') then
    return said
  elseif why and (is(why, 'permissions to run') or is(why, "can't run this command")) then
    return redis.error_reply("NOPERM scripts of this user may not run '" .. string.lower(words[1]) .. "'")
  end
end
return 7
"#;

const FIRST_PROBE: Duration = Duration::from_millis(50);
const LAST_PROBE: Duration = Duration::from_millis(250);

// === impl Redis ===

impl Redis {
    /// The Redis at `url`: `redis://[[user]:password@]host[:port][/database]`, or the same with `rediss://` for TLS. What
    /// is no letter or digit in a password is written as a %-code, such as `%40` for `@`.
    ///
    /// # Errors
    ///
    /// [`Fault::Url`], if it is no such URL. What is in it is not repeated.
    pub fn new(url: &str) -> Result<Self, RedisError> {
        if is_doubtful(url) {
            return Err(RedisError::url());
        }
        #[cfg(not(feature = "tls"))]
        if url.starts_with("rediss:") || url.starts_with("valkeys:") {
            return Err(RedisError::no_tls());
        }
        let info = url.into_connection_info().map_err(|_| RedisError::url())?;
        let place = format!("{}/{}", info.addr(), info.redis_settings().db()).into();
        let client = Client::open(info).map_err(|_| RedisError::url())?;
        Ok(Self::to(Target {
            client,
            #[cfg(feature = "tls")]
            certificates: crate::tls::SYSTEM,
            place,
            connect_timeout: Duration::from_secs(1),
            patience: Duration::from_millis(50),
        }))
    }

    fn to(to: Target) -> Self {
        let presence = watch::Sender::new(Presence::Unknown);
        Self { link: Arc::new(Link { to, state: Mutex::new(State::Idle), presence }) }
    }

    /// How long a call may be held by a Redis that does not answer: 50 ms by default. After that it is decided
    /// without it. A setter makes a handle with a connection of its own, so clone it after the last one.
    ///
    /// # Panics
    ///
    /// If it is zero or above ten years.
    #[track_caller]
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        let patience = allow("Redis::patience", patience, MIN_DURATION..=MAX_DURATION);
        self.set(|to| to.patience = patience)
    }

    /// How long a connection may take, the login and the first answer included: 1 s by default.
    ///
    /// # Panics
    ///
    /// If it is zero or above ten years.
    #[track_caller]
    #[must_use]
    pub fn connect_timeout(self, limit: Duration) -> Self {
        let limit = allow("Redis::connect_timeout", limit, MIN_DURATION..=MAX_DURATION);
        self.set(|to| to.connect_timeout = limit)
    }

    /// Connects, and looks whether it is a Redis that lets us in and runs scripts.
    ///
    /// Layers need no such look, they connect when they need to and go on without it when they cannot. It is for
    /// the start of a program, which may as well end when something is wrong.
    ///
    /// # Errors
    ///
    /// What is wrong, within the [time to connect](Self::connect_timeout).
    pub async fn check(&self) -> Result<(), RedisError> {
        let connection = self.link.connect().await?;
        let is_needed = !matches!(*lock(&self.link.state), State::Up { .. });
        if is_needed {
            self.link.connected(Ok(connection));
        }
        Ok(())
    }

    /// Whether it is there, as far as is known.
    pub fn presence(&self) -> Presence {
        *self.link.presence.borrow()
    }

    /// Follows whether it is there.
    pub fn watch(&self) -> watch::Receiver<Presence> {
        self.link.presence.subscribe()
    }

    /// Which Redis it is: host, port and database.
    pub fn place(&self) -> &str {
        &self.link.to.place
    }

    pub(crate) fn set(self, setter: impl FnOnce(&mut Target)) -> Self {
        let mut to = self.link.to.clone();
        setter(&mut to);
        Self::to(to)
    }

    pub(crate) fn budget(&self) -> Duration {
        self.link.to.patience
    }

    /// How long after one process the last one finds that it is there again, if it needs it.
    pub(crate) fn stagger(&self) -> Duration {
        LAST_PROBE + self.link.to.connect_timeout
    }

    /// When it is worth while to come back, while it is away.
    pub(crate) fn next_probe(&self) -> Duration {
        match &*lock(&self.link.state) {
            State::Away(away) => {
                away.probe_at.saturating_duration_since(Instant::now()).max(FIRST_PROBE)
            }
            _ => FIRST_PROBE,
        }
    }

    /// Asks it something, and waits no longer than `within`.
    pub(crate) async fn ask<T>(
        &self,
        within: Duration,
        question: impl AsyncFnOnce(&mut MultiplexedConnection) -> redis::RedisResult<T>,
    ) -> Result<T, RedisError> {
        let link = &self.link;
        let until = Instant::now() + within.min(link.to.patience);
        let found = timeout_at(until, link.connection()).await;
        let (mut connection, life) = found.map_err(|_| link.timed_out())??;
        match timeout_at(until, question(&mut connection)).await {
            Ok(Ok(answer)) => {
                link.settle(life, true);
                Ok(answer)
            }
            Ok(Err(error)) => {
                let error = RedisError::of(&link.to.place, &error, false);
                if !error.is_about_a_key() {
                    link.lose(life, &error);
                }
                Err(error)
            }
            Err(_) => {
                let error = link.timed_out();
                // What was cut short to keep the budget of an earlier wait says nothing about the Redis.
                if within >= link.to.patience && link.settle(life, false) {
                    link.lose(life, &error);
                }
                Err(error)
            }
        }
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("place", &self.link.to.place)
            .field("presence", &self.presence())
            .finish_non_exhaustive()
    }
}

/// Whether a part of a password may have been taken for the host: what is left after that still has an `@`.
fn is_doubtful(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (authority, beyond) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
    !authority.is_empty() && !authority.contains('@') && beyond.contains('@')
}

// === impl Link ===

impl Link {
    fn timed_out(&self) -> RedisError {
        RedisError::timed_out(&self.to.place, "an answer", self.to.patience)
    }

    /// The connection, or why there is none. Waits only for the very first one.
    async fn connection(self: &Arc<Self>) -> Result<(MultiplexedConnection, u64), RedisError> {
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
            let connected = attempt.link.connect().await;
            attempt.settled = true;
            attempt.link.connected(connected);
        });
    }

    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        #[cfg(feature = "tls")]
        crate::tls::choose_provider();
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connecting = async {
            let mut connection =
                self.to.client.get_multiplexed_async_connection_with_config(&config).await?;
            let said: String = redis::cmd("PING").query_async(&mut connection).await?;
            let ran: i64 = Script::new(CHECK).invoke_async(&mut connection).await?;
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

    fn connected(&self, connected: Result<MultiplexedConnection, RedisError>) {
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
                *state = State::Away(Away::new(error, failures));
                Presence::Away
            }
        };
        drop(state);
        self.presence.send_replace(presence);
    }

    /// Counts an answer that came in time, or did not: true says that it was late too often.
    fn settle(&self, asked: u64, in_time: bool) -> bool {
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
    fn lose(&self, lost: u64, error: &RedisError) {
        let mut state = lock(&self.state);
        let failures = match &*state {
            State::Up { life, failures, .. } if *life == lost => *failures,
            _ => return,
        };
        *state = State::Away(Away::new(error.clone(), failures));
        drop(state);
        self.presence.send_replace(Presence::Away);
    }
}

// === impl Away ===

impl Away {
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
