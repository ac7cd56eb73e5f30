//! Redis.

use std::{io, net::SocketAddr, path::Path};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
};

use crate::{Server, ServerError, engine::Engine, program::find};

pub(crate) const PROGRAM: &str = "redis-server";
const PACKAGE: &str = "redis-server";

/// Starts a Redis. By default it keeps everything in memory, so that it is empty after a restart.
#[derive(Clone, Debug, Default)]
pub struct Redis {
    settings: Vec<(String, String)>,
    password: Option<String>,
}

// === impl Redis ===

impl Redis {
    /// Without a password, and without files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a line to its configuration, such as `appendonly` and `yes`.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes each command to a file before answering it, so that it survives a kill.
    #[must_use]
    pub fn durable(self) -> Self {
        self.set("appendonly", "yes").set("appendfsync", "always")
    }

    /// Requires this password from clients.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Starts it, and waits until it takes clients.
    ///
    /// # Errors
    ///
    /// If it is not installed or does not start.
    pub async fn start(self) -> Result<Server, ServerError> {
        Server::start(Engine::Redis(self)).await
    }

    pub(crate) fn command(&self, folder: &Path, port: u16) -> Result<Command, ServerError> {
        let mut command = Command::new(find(PROGRAM, PACKAGE)?);
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
        command.arg("--dir").arg(folder);
        for (name, value) in &self.settings {
            command.arg(format!("--{name}")).arg(value);
        }
        if let Some(password) = &self.password {
            command.arg("--requirepass").arg(password);
        }
        Ok(command)
    }

    pub(crate) fn url(&self, address: SocketAddr) -> String {
        match &self.password {
            Some(password) => format!("redis://:{password}@{address}"),
            None => format!("redis://{address}"),
        }
    }
}

/// Whether it answers a ping. While it loads its data it answers with an error; one that asks for its password is
/// ready.
pub(crate) async fn greet(stream: &mut TcpStream) -> io::Result<bool> {
    stream.write_all(b"PING\r\n").await?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await?;
    Ok(&answer == b"+PONG\r\n" || &answer == b"-NOAUTH")
}
