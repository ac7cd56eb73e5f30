//! Redis.

use std::{io, net::SocketAddr, path::Path};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
};

use super::{Server, ServerError, engine::Engine, program::find};

pub(super) const PROGRAM: &str = "redis-server";
const PACKAGE: &str = "redis-server";

/// A Redis to be started. Unless told otherwise it keeps everything in memory, and so is empty after a restart.
#[derive(Clone, Debug, Default)]
pub struct Redis {
    settings: Vec<(String, String)>,
    password: Option<String>,
}

// === impl Redis ===

impl Redis {
    /// Without a password, and without a file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another line of its configuration, such as `appendonly` and `yes`.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Each command is in a file before it is answered, so that it survives a kill.
    #[must_use]
    pub fn durable(self) -> Self {
        self.set("appendonly", "yes").set("appendfsync", "always")
    }

    /// Asks clients for this password.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Starts it, and waits until it takes clients.
    ///
    /// # Errors
    ///
    /// When it is not installed, or does not start.
    pub async fn start(self) -> Result<Server, ServerError> {
        Server::start(Engine::Redis(self)).await
    }

    pub(super) fn command(&self, folder: &Path, port: u16) -> Result<Command, ServerError> {
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

    pub(super) fn url(&self, address: SocketAddr) -> String {
        match &self.password {
            Some(password) => format!("redis://:{password}@{address}"),
            None => format!("redis://{address}"),
        }
    }
}

/// A server that loads its data says so in place of the pong; one with a password asks for it, and is ready.
pub(super) async fn greet(stream: &mut TcpStream) -> io::Result<bool> {
    stream.write_all(b"PING\r\n").await?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await?;
    Ok(&answer == b"+PONG\r\n" || &answer == b"-NOAUTH")
}
