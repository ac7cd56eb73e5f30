//! Databases.

use super::{Advice, CREDENTIALS};

const URL: Advice =
    ("the URL or an option is wrong", "write postgres://user:password@host:port/database");
const NONSENSE: Advice = (
    "the answer is no PostgreSQL",
    "check that a PostgreSQL listens at this port, and no other server",
);

#[cfg(feature = "sqlx")]
pub(super) fn of_sqlx(error: &sqlx::Error) -> Option<Advice> {
    match error {
        sqlx::Error::Configuration(_) => Some(URL),
        sqlx::Error::Protocol(_) => Some(NONSENSE),
        sqlx::Error::PoolTimedOut => Some((
            "no connection in time",
            "check that the server runs and has room, or give the pool more connections",
        )),
        sqlx::Error::Database(error) => of_sqlstate(&error.code()?),
        _ => None,
    }
}

#[cfg(feature = "tokio-postgres")]
pub(super) fn of_tokio_postgres(error: &tokio_postgres::Error) -> Option<Advice> {
    use std::{error::Error as _, io};

    use super::{LATE, LOST};

    if let Some(code) = error.code() {
        return of_sqlstate(code.code());
    }
    if error.is_closed() {
        return Some(LOST);
    }
    // What cannot be read as a message while the connection is made is an I/O error to the client.
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    let unread = [io::ErrorKind::InvalidData, io::ErrorKind::InvalidInput];
    if source.is_some_and(|source| unread.contains(&source.kind())) {
        return Some(NONSENSE);
    }
    // The kind of an error shows in nothing but its text.
    match error.to_string() {
        text if text.starts_with("invalid co") => Some(URL),
        text if text.starts_with("error parsing response") => Some(NONSENSE),
        text if text.starts_with("unexpected message") => Some(NONSENSE),
        text if text.starts_with("timeout") => Some(LATE),
        text if text.starts_with("authentication error") => Some(CREDENTIALS),
        _ => None,
    }
}

fn of_sqlstate(code: &str) -> Option<Advice> {
    match code {
        "28000" | "28P01" => Some(CREDENTIALS),
        "3D000" => Some(("no such database", "check its name, or create it")),
        // MySQL says the same in its own way.
        "53300" | "08004" => {
            Some(("too many connections", "raise max_connections, or make pools smaller"))
        }
        "57014" => Some(("cancelled", "the statement took too long, or somebody stopped it")),
        "57P01" | "57P02" => Some(super::LOST),
        "57P03" => Some(("the server starts up or shuts down", "try again in a moment")),
        _ => None,
    }
}
