//! Making a connection in time, with an error that says what is wrong.

use std::{error::Error as StdError, fmt, time::Duration};

use tokio::time::timeout;

use crate::Failure;

/// Why there is no connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError<E> {
    /// What the client says.
    Client(E),
    /// It took too long: the server is away, or something else answers in its place and does not say so.
    Late(NoConnection),
}

/// There was no connection in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoConnection {
    limit: Duration,
}

/// What `connecting` to `address` comes to, if that is within `limit`.
///
/// Clients limit some of the ways in which a connection can fail to come about, and each of them others. `address` is
/// a URL or `host:port`, of which only that is kept: a [`Failure`] names no password. To the classifiers a connection
/// that was too late is `NoEffect`.
///
/// # Errors
///
/// When there is no connection by then, or the client says no.
///
/// # Cancel safety
///
/// Dropping the future drops `connecting`.
///
/// # Example
///
/// ```
/// use std::{io, time::Duration};
/// use stockade_clients::connect;
/// use tokio::net::TcpStream;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let limit = Duration::from_secs(2);
/// let hangs = std::future::pending::<io::Result<TcpStream>>();
/// # tokio::time::pause();
/// let failure = connect("postgres://me:hunter2@db.example:5432/app", limit, hangs).await.unwrap_err();
/// assert_eq!(
///     failure.to_string(),
///     "db.example:5432: no connection in time; check the address, the network, and what is between",
/// );
/// # }
/// ```
pub async fn connect<T, E: StdError + 'static>(
    address: &str,
    limit: Duration,
    connecting: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure<ConnectError<E>>> {
    let connected = match timeout(limit, connecting).await {
        Ok(connected) => connected.map_err(ConnectError::Client),
        Err(_) => Err(ConnectError::Late(NoConnection { limit })),
    };
    connected.map_err(|error| Failure::at(address, error))
}

// === impl ConnectError ===

impl<E: fmt::Display> fmt::Display for ConnectError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(_) => f.write_str("cannot connect"),
            Self::Late(late) => late.fmt(f),
        }
    }
}

impl<E: StdError + 'static> StdError for ConnectError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Client(error) => Some(error),
            Self::Late(late) => Some(late),
        }
    }
}

// === impl NoConnection ===

impl NoConnection {
    /// The time in which there was none.
    pub const fn limit(&self) -> Duration {
        self.limit
    }
}

impl fmt::Display for NoConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no connection within {:?}", self.limit)
    }
}

impl StdError for NoConnection {}
