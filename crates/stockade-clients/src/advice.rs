//! What is wrong, and what to do about it, in the words of an operator.

#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "sqlx", feature = "tokio-postgres"))]
mod sql;

use std::{error::Error as StdError, io};

use crate::judge::{find, is_about_a_certificate};

/// What is wrong, and what to do.
pub(crate) type Advice = (&'static str, &'static str);

const REFUSED: Advice = ("connection refused", "check the port, and that the server runs");
const UNREACHABLE: Advice = ("not reachable", "check the address and the network");
const LATE: Advice =
    ("no answer in time", "check the address and the network, or allow it more time");
const LOST: Advice =
    ("connection lost", "the server may be restarting; the call may have had an effect");
#[cfg(any(feature = "connect", feature = "reqwest"))]
const NO_CONNECTION: Advice =
    ("no connection in time", "check the address, the network, and what is between");
#[cfg(any(feature = "redis", feature = "sqlx", feature = "tokio-postgres"))]
const CREDENTIALS: Advice =
    ("the server knows no such user and password", "check them, and who may come from where");
#[cfg(any(feature = "hyper-util", feature = "reqwest"))]
const NONSENSE: Advice =
    ("the answer is no HTTP", "check that an HTTP server listens at this port, and the scheme");

/// What to do where only the innermost error has said what is wrong.
pub(crate) fn hint(error: &(dyn StdError + 'static)) -> Option<&'static str> {
    if is_about_a_certificate(error) {
        return Some("check the host in the URL, and which authorities the client trusts");
    }
    #[cfg(feature = "tonic")]
    if find::<tonic::Status>(error).is_some_and(|status| status.source().is_some()) {
        return Some("check that a gRPC server listens at this port, and the scheme");
    }
    None
}

/// What `error` says on its own, whatever its sources are.
pub(crate) fn advice(error: &(dyn StdError + 'static)) -> Option<Advice> {
    #[cfg(feature = "reqwest")]
    if let Some(advice) = find(error).and_then(of_reqwest) {
        return Some(advice);
    }
    #[cfg(any(feature = "hyper-util", feature = "reqwest"))]
    if let Some(advice) = find(error).and_then(of_hyper) {
        return Some(advice);
    }
    #[cfg(feature = "tonic")]
    if let Some(advice) = find(error).and_then(of_tonic) {
        return Some(advice);
    }
    #[cfg(feature = "redis")]
    if let Some(advice) = find(error).and_then(redis::advice) {
        return Some(advice);
    }
    #[cfg(feature = "sqlx")]
    if let Some(advice) = find(error).and_then(sql::of_sqlx) {
        return Some(advice);
    }
    #[cfg(feature = "tokio-postgres")]
    if let Some(advice) = find(error).and_then(sql::of_tokio_postgres) {
        return Some(advice);
    }
    #[cfg(feature = "connect")]
    if error.is::<crate::connect::NoConnection>() {
        return Some(NO_CONNECTION);
    }
    find(error).and_then(of_io)
}

fn of_io(error: &io::Error) -> Option<Advice> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some(REFUSED),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Some(UNREACHABLE),
        io::ErrorKind::TimedOut => Some(LATE),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => Some(LOST),
        _ => None,
    }
}

#[cfg(any(feature = "hyper-util", feature = "reqwest"))]
fn of_hyper(error: &hyper::Error) -> Option<Advice> {
    if error.is_parse() {
        Some(NONSENSE)
    } else if error.is_incomplete_message() {
        Some(LOST)
    } else if error.is_timeout() {
        Some(LATE)
    } else {
        None
    }
}

#[cfg(feature = "reqwest")]
fn of_reqwest(error: &reqwest::Error) -> Option<Advice> {
    if error.is_builder() {
        Some(("the request could not be built", "check the URL: http://host:port/path"))
    } else if error.is_redirect() {
        Some(("redirected too often", "check the URL, and where the server sends it"))
    } else if let Some(status) = error.status() {
        Some(match status.as_u16() {
            401 | 403 | 407 => ("refused by the server", "check the credentials"),
            429 | 503 => ("the server has too much to do", "ask less often, or later"),
            500.. => ("the server failed", "see what it has logged"),
            _ => ("refused by the server", "check the URL, and what is sent"),
        })
    } else if error.is_dns() {
        Some(("no such host", "check the name"))
    } else if error.is_connect() && error.is_timeout() {
        Some(NO_CONNECTION)
    } else if error.is_timeout() {
        Some(LATE)
    } else {
        None
    }
}

/// Of what the server said: a status with a source was made here, and its source says more.
#[cfg(feature = "tonic")]
fn of_tonic(status: &tonic::Status) -> Option<Advice> {
    match status.code() {
        _ if status.source().is_some() => None,
        tonic::Code::Unauthenticated | tonic::Code::PermissionDenied => {
            Some(("refused by the server", "check the credentials"))
        }
        tonic::Code::Unimplemented => {
            Some(("unknown to the server", "check the address, and the versions of both sides"))
        }
        _ => None,
    }
}
