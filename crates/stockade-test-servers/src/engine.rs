//! The differences between the servers.

use std::{io, net::SocketAddr, path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
    time::timeout,
};

use crate::ServerError;

/// A kind of server.
#[derive(Clone, Debug)]
pub(crate) enum Engine {
    Postgres(crate::Postgres),
    Redis(crate::Redis),
}

/// The longest that a server may take to answer a greeting.
const GREETING: Duration = Duration::from_secs(2);

// === impl Engine ===

impl Engine {
    /// Makes what a server needs before its first start.
    pub(crate) async fn prepare(&self, folder: &Path) -> Result<(), ServerError> {
        match self {
            Self::Postgres(postgres) => postgres.prepare(folder).await,
            Self::Redis(redis) => redis.prepare(folder),
        }
    }

    pub(crate) fn command(&self, folder: &Path, port: u16) -> Result<Command, ServerError> {
        match self {
            Self::Postgres(postgres) => postgres.command(folder, port),
            Self::Redis(redis) => redis.command(folder, port),
        }
    }

    pub(crate) const fn program(&self) -> &'static str {
        match self {
            Self::Postgres(_) => crate::postgres::PROGRAM,
            Self::Redis(_) => crate::redis::PROGRAM,
        }
    }

    pub(crate) fn url(&self, address: SocketAddr) -> String {
        match self {
            Self::Postgres(postgres) => postgres.url(address),
            Self::Redis(redis) => redis.url(address),
        }
    }

    /// Whether the server takes clients, asked in its own protocol: an open port may belong to a server that still
    /// loads its data.
    pub(crate) async fn is_ready(&self, address: SocketAddr) -> bool {
        let greeting = async {
            let mut stream = TcpStream::connect(address).await?;
            let ready = match self {
                Self::Postgres(_) => crate::postgres::greet(&mut stream).await?,
                Self::Redis(redis) => redis.greet(&mut stream).await?,
            };
            // Wait until the server has closed the connection: the next client may need its place. It may have reset it.
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
            Ok(ready)
        };
        let greeted: Result<io::Result<bool>, _> = timeout(GREETING, greeting).await;
        matches!(greeted, Ok(Ok(true)))
    }
}
