//! A running server.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::Stdio,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    process::Child,
    time::{Instant, sleep},
};

use crate::{ServerError, engine::Engine};

/// A server on a free port of 127.0.0.1, which ends, and is removed with its data, when this is dropped.
///
/// Started by [`Postgres::start`](crate::Postgres::start) and [`Redis::start`](crate::Redis::start).
#[derive(Debug)]
pub struct Server {
    engine: Engine,
    address: SocketAddr,
    child: Option<Child>,
    folder: TempDir,
}

/// The longest that a server may take to be ready; much, because the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// The pause between two looks at a server.
const GLANCE: Duration = Duration::from_millis(10);

/// The longest that a server may take to end when it is asked to.
const FAREWELL: Duration = Duration::from_secs(5);

/// Below the ports that the system hands out: a client that dials one of those again and again while the server is
/// away can connect to itself.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// How many ports are tried before giving up.
const TRIES: u32 = 20;

// === impl Server ===

impl Server {
    pub(crate) async fn start(engine: Engine) -> Result<Self, ServerError> {
        let folder = tempfile::Builder::new().prefix("stockade-").tempdir();
        let folder = folder.map_err(ServerError::io("make a temporary directory"))?;
        engine.prepare(folder.path()).await?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut server = Self { engine, address, child: None, folder };
        // Another process may take the port between the look and the start.
        for _ in 1..TRIES {
            server.address.set_port(free_port()?);
            match server.launch(false).await {
                Err(ServerError::Failed { said, .. }) if said.contains("in use") => {}
                launched => return launched.map(|()| server),
            }
        }
        server.launch(false).await.map(|()| server)
    }

    /// The URL for clients, with the password.
    pub fn url(&self) -> String {
        self.engine.url(self.address)
    }

    /// The URL for clients that connect through `address`, such as that of a proxy.
    pub fn url_at(&self, address: SocketAddr) -> String {
        self.engine.url(address)
    }

    /// The address it listens on.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills it with SIGKILL, which gives it no time to finish anything, and waits until it is gone.
    ///
    /// PostgreSQL has a process for each client. These end as soon as they notice that the first one is gone.
    pub async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Fails only if the process has ended.
            let _ = child.kill().await;
        }
    }

    /// Stops it with SIGSTOP: its port accepts connections, and nothing answers, until it is
    /// [resumed](Self::resume).
    ///
    /// Of PostgreSQL only the first process is stopped: no new client gets in, and the others are still served.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a [paused](Self::pause) server go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Starts it again, and waits until it takes clients. A running one is [killed](Self::kill) first.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        self.kill().await;
        self.launch(true).await
    }

    /// Starts the process and waits until it is ready. With `again`, it tries again while the killed process still
    /// holds the port or a lock.
    async fn launch(&mut self, again: bool) -> Result<(), ServerError> {
        let begin = Instant::now();
        loop {
            match self.attempt(begin).await {
                Err(ServerError::Failed { said, .. })
                    if again && said.contains("in use") && begin.elapsed() < PATIENCE =>
                {
                    sleep(GLANCE).await;
                }
                done => return done,
            }
        }
    }

    async fn attempt(&mut self, begin: Instant) -> Result<(), ServerError> {
        let log = File::create(self.log()).map_err(ServerError::io("write the server's log"))?;
        let errors = log.try_clone().map_err(ServerError::io("write the server's log"))?;
        let mut command = self.engine.command(self.folder.path(), self.address.port())?;
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        let child = self.child.insert(child.map_err(ServerError::io("start the server"))?);
        loop {
            // In this order: a port that answers may belong to another process.
            let gone = child.try_wait().map_err(ServerError::io("watch the server"))?.is_some();
            if gone {
                self.child = None;
                return Err(self.failed());
            }
            if self.engine.is_ready(self.address).await {
                return Ok(());
            }
            if begin.elapsed() > PATIENCE {
                return Err(self.failed());
            }
            sleep(GLANCE).await;
        }
    }

    fn failed(&self) -> ServerError {
        let log = fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        let said = lines[lines.len().saturating_sub(10)..].join("\n");
        ServerError::Failed { program: self.engine.program(), said }
    }

    fn log(&self) -> std::path::PathBuf {
        self.folder.path().join("log")
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().and_then(Child::id);
        if let Some(pid) = id.and_then(|id| Pid::from_raw(id.cast_signed())) {
            // Fails only if the process has ended.
            let _ = kill_process(pid, signal);
        }
    }
}

/// Waits until the processes are gone, because they write into the directory that is removed next.
impl Drop for Server {
    fn drop(&mut self) {
        self.resume();
        // PostgreSQL ends its clients' processes at once, and Redis stores nothing, on this signal.
        self.signal(match self.engine {
            Engine::Postgres(_) => Signal::QUIT,
            Engine::Redis(_) => Signal::KILL,
        });
        let Some(mut child) = self.child.take() else { return };
        let mut waited = Duration::ZERO;
        while matches!(child.try_wait(), Ok(None)) && waited < FAREWELL {
            thread::sleep(GLANCE);
            waited += GLANCE;
        }
        let _ = child.start_kill();
    }
}

fn free_port() -> Result<u16, ServerError> {
    for _ in 0..1_000 {
        let port = fastrand::u16(PORTS);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    let said = "no free port on 127.0.0.1".to_owned();
    Err(ServerError::Failed { program: "server", said })
}
