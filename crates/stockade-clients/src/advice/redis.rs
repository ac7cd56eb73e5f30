//! Redis.

use redis::{ErrorKind, RedisError};

use super::{Advice, CREDENTIALS, LATE, LOST, REFUSED};

const URL: Advice =
    ("the URL or an option is wrong", "write redis://user:password@host:port/number");
const NONSENSE: Advice =
    ("the answer is no Redis", "check that a Redis listens at this port, and no other server");
const CROWDED: Advice = ("too many clients", "raise maxclients, or share connections");

pub(super) fn advice(error: &RedisError) -> Option<Advice> {
    match error.kind() {
        ErrorKind::AuthenticationFailed => Some(CREDENTIALS),
        ErrorKind::InvalidClientConfig => Some(URL),
        ErrorKind::Parse => Some(NONSENSE),
        ErrorKind::Io if error.is_connection_refusal() => Some(REFUSED),
        ErrorKind::Io if error.is_timeout() => Some(LATE),
        ErrorKind::Io if error.is_connection_dropped() => Some(LOST),
        ErrorKind::Server(_) | ErrorKind::Extension => match error.code()? {
            "NOAUTH" | "WRONGPASS" => Some(CREDENTIALS),
            "LOADING" => Some(("the server loads its data", "try again when it is done")),
            "BUSY" => Some(("the server runs a script", "wait for its end, or kill it")),
            "OOM" => {
                Some(("the server may use no more memory", "raise maxmemory, or let it evict"))
            }
            "ERR" if error.detail()?.starts_with("max number of clients") => Some(CROWDED),
            _ => None,
        },
        _ => None,
    }
}
