//! PostgreSQL.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{MetadataExt as _, chown},
    path::Path,
    process::Stdio,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
};

use crate::{Server, ServerError, engine::Engine, program::find, url::encode};

pub(crate) const PROGRAM: &str = "postgres";
const PACKAGE: &str = "postgresql";

/// The owner of the databases, and the user that clients name.
const OWNER: &str = "postgres";

/// The accounts that the server may run under when root starts it: PostgreSQL refuses to run as root.
const ACCOUNTS: [&str; 2] = ["postgres", "nobody"];

/// Starts a PostgreSQL with a database and a user that are both called `postgres`.
///
/// A commit survives a kill of the server. It does not wait for the disk, so it may not survive a crash of the
/// system.
#[derive(Clone, Debug, Default)]
pub struct Postgres {
    settings: Vec<(String, String)>,
    password: Option<String>,
}

// === impl Postgres ===

impl Postgres {
    /// Without a password: it trusts every client on this machine.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a line to its configuration, such as `max_connections` and `8`.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Requires this password from clients.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Creates its files, starts it, and waits until it takes clients.
    ///
    /// # Errors
    ///
    /// If it is not installed or does not start.
    pub async fn start(self) -> Result<Server, ServerError> {
        Server::start(Engine::Postgres(self)).await
    }

    pub(crate) async fn prepare(&self, folder: &Path) -> Result<(), ServerError> {
        // Looked for before initdb, so that the error names the server.
        find(PROGRAM, PACKAGE)?;
        let account = account(folder)?;
        if let Some((user, group)) = account {
            chown(folder, Some(user), Some(group))
                .map_err(ServerError::io("hand the server its directory"))?;
        }
        let mut initdb = as_account("initdb", account)?;
        initdb.arg("--pgdata").arg(folder.join("data"));
        initdb.args(["--username", OWNER, "--encoding", "UTF8", "--locale", "C", "--no-sync"]);
        if let Some(password) = &self.password {
            let file = folder.join("password");
            fs::write(&file, password)
                .and_then(|()| account.map_or(Ok(()), |(u, g)| chown(&file, Some(u), Some(g))))
                .map_err(ServerError::io("write the password"))?;
            initdb.args(["--auth", "scram-sha-256", "--pwfile"]).arg(file);
        } else {
            initdb.args(["--auth", "trust"]);
        }
        let output = initdb.stdin(Stdio::null()).output().await;
        let output = output.map_err(ServerError::io("run initdb"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(ServerError::Failed { program: "initdb", said })
    }

    pub(crate) fn command(&self, folder: &Path, port: u16) -> Result<Command, ServerError> {
        let mut command = as_account(PROGRAM, account(folder)?)?;
        command.arg("-D").arg(folder.join("data")).args(["-p", &port.to_string()]);
        let own = [
            ("listen_addresses", "127.0.0.1"),
            ("unix_socket_directories", ""),
            ("fsync", "off"),
            ("shared_buffers", "16MB"),
        ];
        let own = own.into_iter();
        for (name, value) in own.chain(self.settings.iter().map(|(n, v)| (n.as_str(), v.as_str())))
        {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        Ok(command)
    }

    pub(crate) fn url(&self, address: SocketAddr) -> String {
        match &self.password {
            Some(password) => {
                format!("postgres://{OWNER}:{}@{address}/{OWNER}", encode(password))
            }
            None => format!("postgres://{OWNER}@{address}/{OWNER}"),
        }
    }
}

/// The command that runs `program` as `account`.
fn as_account(program: &'static str, account: Option<(u32, u32)>) -> Result<Command, ServerError> {
    let mut command = Command::new(find(program, PACKAGE)?);
    if let Some((user, group)) = account {
        command.uid(user).gid(group);
    }
    // The account may have no access to the current directory.
    command.current_dir("/");
    Ok(command)
}

/// The user and the group, by number, that run the server when root runs the tests.
fn account(folder: &Path) -> Result<Option<(u32, u32)>, ServerError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let metadata = fs::metadata(folder).map_err(ServerError::io("read the server's directory"))?;
    if metadata.uid() != 0 {
        return Ok(Some((metadata.uid(), metadata.gid())));
    }
    let accounts =
        fs::read_to_string("/etc/passwd").map_err(ServerError::io("read /etc/passwd"))?;
    let found = ACCOUNTS.iter().find_map(|name| numbers(&accounts, name));
    let none = || ServerError::Failed {
        program: PROGRAM,
        said: format!("root may not run it, and there is no account {}", ACCOUNTS.join(" or ")),
    };
    found.map(Some).ok_or_else(none)
}

/// The user and the group of `name` in the text of `/etc/passwd`.
fn numbers(accounts: &str, name: &str) -> Option<(u32, u32)> {
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

/// Whether it lets a session start. While it starts up or shuts down it answers with an error; when it is ready, with
/// the kind of authentication that it wants.
pub(crate) async fn greet(stream: &mut TcpStream) -> io::Result<bool> {
    const VERSION_3: u32 = 3 << 16;
    let mut message = vec![0; 4];
    message.extend_from_slice(&VERSION_3.to_be_bytes());
    for text in ["user", OWNER, "database", OWNER, ""] {
        message.extend_from_slice(text.as_bytes());
        message.push(0);
    }
    let length = message.len() as u32;
    message[..4].copy_from_slice(&length.to_be_bytes());
    stream.write_all(&message).await?;
    Ok(stream.read_u8().await? == b'R')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_only_by_its_whole_name() {
        let accounts = "postgres2:x:7:8::/:/bin/sh\npostgres:x:101:104:,,,:/var/lib:/bin/bash\n";

        assert_eq!(numbers(accounts, "postgres"), Some((101, 104)));
        assert_eq!(numbers(accounts, "nobody"), None);
    }
}
