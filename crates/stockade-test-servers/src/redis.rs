//! Redis.

use std::{fs, io, net::SocketAddr, path::Path};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
};

use crate::{Server, ServerError, engine::Engine, program::find, url::encode};

pub(crate) const PROGRAM: &str = "redis-server";
const PACKAGE: &str = "redis-server";

/// The names of the files, as they are in the names of the options.
const CERTIFICATE: &str = "cert";
const KEY: &str = "key";
const AUTHORITY: &str = "ca-cert";

/// Starts a Redis. By default it keeps everything in memory, so that it is empty after a restart.
#[derive(Clone, Debug, Default)]
pub struct Redis {
    settings: Vec<(String, String)>,
    password: Option<String>,
    tls: Option<Tls>,
}

/// What a server needs for TLS, each as PEM.
#[derive(Clone, Debug)]
struct Tls {
    certificate: String,
    key: String,
    authority: String,
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

    /// Takes clients only over TLS, and shows them this certificate. All three are PEM. It asks no client for a certificate,
    /// unless `tls-auth-clients` is set to `yes`; then it has to be one by `authority`.
    #[must_use]
    pub fn tls(mut self, certificate: &str, key: &str, authority: &str) -> Self {
        let [certificate, key, authority] = [certificate, key, authority].map(str::to_owned);
        self.tls = Some(Tls { certificate, key, authority });
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

    pub(crate) fn prepare(&self, folder: &Path) -> Result<(), ServerError> {
        for (name, text) in self.tls.iter().flat_map(Tls::files) {
            fs::write(folder.join(name), text)
                .map_err(ServerError::io("write the server's certificate"))?;
        }
        Ok(())
    }

    pub(crate) fn command(&self, folder: &Path, port: u16) -> Result<Command, ServerError> {
        let mut command = Command::new(find(PROGRAM, PACKAGE)?);
        let port = port.to_string();
        command.args(["--bind", "127.0.0.1", "--save", "", "--dir"]).arg(folder);
        if self.tls.is_some() {
            command.args(["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"]);
            for name in [CERTIFICATE, KEY, AUTHORITY] {
                command.arg(format!("--tls-{name}-file")).arg(folder.join(name));
            }
        } else {
            command.args(["--port", &port]);
        }
        for (name, value) in &self.settings {
            command.arg(format!("--{name}")).arg(value);
        }
        if let Some(password) = &self.password {
            command.arg("--requirepass").arg(password);
        }
        Ok(command)
    }

    pub(crate) fn url(&self, address: SocketAddr) -> String {
        let scheme = if self.tls.is_some() { "rediss" } else { "redis" };
        match &self.password {
            Some(password) => format!("{scheme}://:{}@{address}", encode(password)),
            None => format!("{scheme}://{address}"),
        }
    }

    /// Whether it answers a ping. While it loads its data it answers with an error; one that asks for its password is
    /// ready. That one speaks TLS shows without it only in that it closes the connection.
    pub(crate) async fn greet(&self, stream: &mut TcpStream) -> io::Result<bool> {
        stream.write_all(b"PING\r\n").await?;
        let mut answer = [0; 7];
        match stream.read_exact(&mut answer).await {
            Ok(_) => Ok(&answer == b"+PONG\r\n" || &answer == b"-NOAUTH"),
            Err(_) if self.tls.is_some() => Ok(true),
            Err(error) => Err(error),
        }
    }
}

// === impl Tls ===

impl Tls {
    fn files(&self) -> [(&'static str, &str); 3] {
        [(CERTIFICATE, &self.certificate), (KEY, &self.key), (AUTHORITY, &self.authority)]
    }
}
