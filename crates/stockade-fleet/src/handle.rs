//! The handle to a Redis: which one it is, for how long a call waits for it, and what it is asked.

use std::{fmt, sync::Arc, time::Duration};

use redis::{Client, IntoConnectionInfo, aio::MultiplexedConnection};
use stockade_core::config::{MAX_DURATION, MIN_DURATION, allow};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::{
    RedisError,
    link::{Ask, Link, Presence, Target},
};

/// A Redis that the processes of a fleet share.
///
/// It is a handle: clones share one connection, over which all calls go at once. Making it connects nothing; the
/// first call that needs it does, or [`check`](Self::check).
///
/// No call waits for it longer than its [`patience`](Self::patience), and while it is known to be away no call waits at
/// all. What happens then is up to the layer that uses it.
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

// === impl Redis ===

impl Redis {
    /// The Redis at `url`: `redis://[[user]:password@]host[:port][/database]`, or the same with `rediss://` for TLS. What
    /// is no letter or digit in a password is written as a %-code, such as `%40` for `@`.
    ///
    /// # Errors
    ///
    /// [`Fault::Url`](crate::Fault::Url), if it is no such URL. What is in it is not repeated.
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
        Self { link: Arc::new(Link::new(to)) }
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

    /// Connects, and looks whether it is a Redis that lets us in and runs the scripts of rate limits and quorums.
    ///
    /// Its user needs `PING`, `EVALSHA`, `SCRIPT LOAD`, `TIME`, `GET` and `SET`, and for a quorum `PTTL`, `PEXPIRE`, `DEL`,
    /// `ZADD`, `ZREM`, `ZREMRANGEBYSCORE` and `ZCARD`. The first that it may not run is named. Nothing is written.
    ///
    /// Layers need no such look, they connect when they need to and go on without it when they cannot. It is for
    /// the start of a program, which may as well end when something is wrong.
    ///
    /// # Errors
    ///
    /// What is wrong, within the [time to connect](Self::connect_timeout).
    pub async fn check(&self) -> Result<(), RedisError> {
        let connection = self.link.connect(Ask::All).await?;
        if self.presence() != Presence::Here {
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
                if !error.is_about_the_question() {
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
    !authority.is_empty() && beyond.contains('@')
}
