//! What is different between the servers.

use std::{io, net::SocketAddr, path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
    time::timeout,
};

use super::ServerError;

/// A kind of server.
#[derive(Clone, Debug)]
pub(super) enum Engine {
    Postgres(super::Postgres),
    Redis(super::Redis),
}

/// How long a server may take to answer a greeting.
const GREETING: Duration = Duration::from_secs(2);

// === impl Engine ===

impl Engine {
    /// What a server needs before its first start.
    pub(super) async fn prepare(&self, folder: &Path) -> Result<(), ServerError> {
        match self {
            Self::Postgres(postgres) => postgres.prepare(folder).await,
            Self::Redis(_) => Ok(()),
        }
    }

    pub(super) fn command(&self, folder: &Path, port: u16) -> Result<Command, ServerError> {
        match self {
            Self::Postgres(postgres) => postgres.command(folder, port),
            Self::Redis(redis) => redis.command(folder, port),
        }
    }

    pub(super) const fn program(&self) -> &'static str {
        match self {
            Self::Postgres(_) => super::postgres::PROGRAM,
            Self::Redis(_) => super::redis::PROGRAM,
        }
    }

    pub(super) fn url(&self, address: SocketAddr) -> String {
        match self {
            Self::Postgres(postgres) => postgres.url(address),
            Self::Redis(redis) => redis.url(address),
        }
    }

    /// Whether the server takes clients, by its own protocol: an open port alone says too little.
    pub(super) async fn is_ready(&self, address: SocketAddr) -> bool {
        let greeting = async {
            let mut stream = TcpStream::connect(address).await?;
            let ready = match self {
                Self::Postgres(_) => super::postgres::greet(&mut stream).await?,
                Self::Redis(_) => super::redis::greet(&mut stream).await?,
            };
            // Whoever comes next may need the place that this connection takes.
            stream.shutdown().await?;
            stream.read_to_end(&mut Vec::new()).await?;
            Ok(ready)
        };
        let greeted: Result<io::Result<bool>, _> = timeout(GREETING, greeting).await;
        matches!(greeted, Ok(Ok(true)))
    }
}
