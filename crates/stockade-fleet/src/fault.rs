//! What is wrong with a Redis, said so that one knows what to do, and without a credential in it.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use redis::{ErrorKind, ServerErrorKind};

/// What is wrong with a Redis, and which one it is.
///
/// It never shows a user name or a password: the server is named by host, port and database alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisError {
    place: Arc<str>,
    fault: Fault,
    said: String,
}

/// What can be wrong with a Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The URL is none, or none of a Redis.
    Url,
    /// The connection over TLS did not come about: it shows a certificate that is not trusted or not its own, wants one
    /// from us, or speaks no TLS.
    Tls,
    /// Nobody listens there, or there is no way to it.
    Unreachable,
    /// It did not answer in time.
    TimedOut,
    /// It wants another password, or another user.
    Login,
    /// Something listens there that does not speak the protocol of Redis.
    NotRedis,
    /// It does not run scripts for this user.
    NoScripts,
    /// The key holds something that is not ours.
    WrongType,
    /// The connection broke.
    Lost,
    /// It says no for another reason: it loads its data, is a replica, or is out of memory.
    Refused,
}

// === impl RedisError ===

impl RedisError {
    pub(crate) fn new(place: &Arc<str>, fault: Fault, said: impl Into<String>) -> Self {
        Self { place: Arc::clone(place), fault, said: said.into() }
    }

    /// The error of a URL that could not be read. What is in it is not repeated, because a password may be.
    pub(crate) fn url() -> Self {
        let said = "expected redis://[[user]:password@]host[:port][/database], with %-codes in the password";
        Self::new(&"the given URL".into(), Fault::Url, said)
    }

    /// The error of a URL that asks for TLS.
    #[cfg(not(feature = "tls"))]
    pub(crate) fn no_tls() -> Self {
        let said = "TLS needs the feature `tls` of stockade-fleet";
        Self::new(&"the given URL".into(), Fault::Url, said)
    }

    pub(crate) fn timed_out(place: &Arc<str>, doing: &str, limit: Duration) -> Self {
        Self::new(place, Fault::TimedOut, format!("{doing} took longer than {limit:?}"))
    }

    /// What the client says, sorted; `connecting` is whether there was no connection yet.
    pub(crate) fn of(place: &Arc<str>, error: &redis::RedisError, connecting: bool) -> Self {
        #[cfg(feature = "tls")]
        if let Some(said) = crate::tls::said(error) {
            return Self::new(place, Fault::Tls, said);
        }
        let said = without_user(&error.to_string());
        let fault = match error.kind() {
            ErrorKind::AuthenticationFailed => Fault::Login,
            // Found when the connection is made: a key that does not fit its certificate, or `#insecure`.
            ErrorKind::InvalidClientConfig if connecting && said.contains("TLS") => Fault::Tls,
            ErrorKind::InvalidClientConfig => Fault::Url,
            ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Fault::NotRedis,
            ErrorKind::Server(ServerErrorKind::NoPerm | ServerErrorKind::NoScript) => {
                Fault::NoScripts
            }
            ErrorKind::Server(_) | ErrorKind::Extension => by_words(error.code(), &said),
            _ if error.is_timeout() => Fault::TimedOut,
            _ if error.is_connection_refusal() => Fault::Unreachable,
            _ if error.is_connection_dropped() => Fault::Lost,
            _ if connecting => Fault::Unreachable,
            _ => Fault::Lost,
        };
        // The words of the server about a login are not needed, so they are not trusted with it either.
        let said = match fault {
            Fault::Login => String::new(),
            Fault::Lost if connecting => {
                format!("{said}; it may want TLS, or clients from elsewhere")
            }
            _ => said,
        };
        Self::new(place, fault, said)
    }

    /// What is wrong.
    pub const fn fault(&self) -> Fault {
        self.fault
    }

    /// Which Redis it is: host, port and database, as in `127.0.0.1:6379/0`.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The same, with the key that it is about.
    pub(crate) fn with_key(self, key: &str) -> Self {
        if self.fault == Fault::WrongType {
            Self { said: format!("`{key}`"), ..self }
        } else {
            self
        }
    }

    /// Whether it is about the key or the commands of one question, so that others may still be answered.
    pub(crate) const fn is_about_the_question(&self) -> bool {
        matches!(self.fault, Fault::WrongType | Fault::NoScripts)
    }
}

/// What the server says, without the name of the user, which newer ones put into it.
fn without_user(said: &str) -> String {
    let named = said.split_once("User ").zip(said.split_once(" has no permissions"));
    match named {
        Some(((before, _), (_, rest))) => format!("{before}this user has no permissions{rest}"),
        None => said.to_owned(),
    }
}

fn by_words(code: Option<&str>, said: &str) -> Fault {
    let is = |word: &str| code == Some(word) || said.contains(word);
    if is("WRONGPASS") || is("NOAUTH") {
        Fault::Login
    } else if is("WRONGTYPE") {
        Fault::WrongType
    } else if is("NOPERM") || is("can't run this command") || is("unknown command") {
        Fault::NoScripts
    } else {
        Fault::Refused
    }
}

// === impl Fault ===

impl Fault {
    /// A few words that say what is wrong and what to look at, lower case, for messages and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Url => "not the URL of a Redis",
            Self::Tls => "no TLS connection that can be trusted",
            Self::Unreachable => "cannot be reached",
            Self::TimedOut => "did not answer in time",
            Self::Login => "wrong user or password",
            Self::NotRedis => "does not answer as a Redis does",
            Self::NoScripts => "does not run scripts for this user",
            Self::WrongType => "the key holds something else",
            Self::Lost => "the connection broke",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for RedisError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redis at {}: {}", self.place, self.fault)?;
        if self.said.is_empty() { Ok(()) } else { write!(f, " ({})", self.said) }
    }
}

impl Error for RedisError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of the error that a server's answer makes.
    fn said(line: &str) -> RedisError {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        let redis::Value::ServerError(error) = value else { panic!("{value:?} is no error") };
        RedisError::of(&"host:1/0".into(), &error.into(), false)
    }

    #[test]
    fn a_user_that_the_server_names_is_not_named() {
        for who in ["User somebody", "this user"] {
            for what in ["run the 'zadd' command", "access the 'a' key"] {
                let error = said(&format!("NOPERM {who} has no permissions to {what}"));
                assert_eq!(error.fault(), Fault::NoScripts);
                assert!(error.to_string().ends_with(&format!("permissions to {what})")), "{error}");
                assert!(!format!("{error} {error:?}").contains("somebody"), "{error}");
            }
        }
    }

    #[test]
    fn what_the_server_says_of_itself_is_sorted() {
        for (line, fault) in [
            ("LOADING Redis is loading the dataset in memory", Fault::Refused),
            ("MISCONF Redis is configured to save", Fault::Refused),
            ("MASTERDOWN Link with MASTER is down", Fault::Refused),
            ("NOREPLICAS Not enough good replicas to write.", Fault::Refused),
            ("BUSY Redis is busy running a script.", Fault::Refused),
            ("OOM command not allowed when used memory > 'maxmemory'.", Fault::Refused),
            ("ERR max number of clients reached", Fault::Refused),
            ("CLUSTERDOWN The cluster is down", Fault::Refused),
            ("MOVED 3999 127.0.0.1:6381", Fault::Refused),
            ("WRONGTYPE Operation against a key", Fault::WrongType),
            ("NOAUTH Authentication required.", Fault::Login),
            ("ERR unknown command 'EVALSHA'", Fault::NoScripts),
            (
                "ERR The user executing the script can't run this command or subcommand",
                Fault::NoScripts,
            ),
        ] {
            assert_eq!(said(line).fault(), fault, "{line}");
        }
    }
}
