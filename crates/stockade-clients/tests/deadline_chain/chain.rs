//! The processes of the chain, and what is asked of them.

use std::{
    env,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use stockade_test_servers::{Postgres, Server};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};
use tokio_postgres::{Client, NoTls};

use crate::{AHEAD, Counts, NEXT, ROLE, Role, SAYS};

/// Much, because the machine may be busy; far less than what hangs takes.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Chain {
    /// The first place first.
    places: Vec<Process>,
    http: reqwest::Client,
    watcher: Client,
    _database: Server,
    /// The longest that it took until all rested.
    pub(crate) slowest: Duration,
}

/// A process that ends when this is dropped.
struct Process {
    child: Child,
    service: SocketAddr,
    control: SocketAddr,
}

// === impl Chain ===

impl Chain {
    pub(crate) async fn start() -> Self {
        Self::start_ahead([0; 3]).await
    }

    /// With the clock of each place so many hours ahead.
    pub(crate) async fn start_ahead(hours: [u32; 3]) -> Self {
        let database = Postgres::new().start().await.unwrap();
        let (watcher, connection) = tokio_postgres::connect(&database.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        let (mut places, mut next) = (Vec::new(), database.url());
        for (role, ahead) in Role::ALL.into_iter().zip(hours).rev() {
            let place = spawn_blocking(move || Process::start(role, &next, ahead)).await.unwrap();
            next = place.service.to_string();
            places.insert(0, place);
        }
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { places, http, watcher, _database: database, slowest: Duration::ZERO }
    }

    /// The status of the answer to a request that takes each place so many milliseconds.
    pub(crate) async fn ask(&self, plan: [u64; 4], headers: &[(&str, &str)]) -> u16 {
        let plan = plan.map(|millis| millis.to_string()).join("-");
        let mut request = self.http.get(format!("http://{}/{plan}", self.places[0].service));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap().status().as_u16()
    }

    pub(crate) async fn counts(&self) -> [Counts; 3] {
        let mut counts = [Counts::default(); 3];
        for (place, counts) in self.places.iter().zip(&mut counts) {
            let answer = self.http.get(format!("http://{}/", place.control)).send().await.unwrap();
            *counts = Counts::of(&answer.text().await.unwrap());
        }
        counts
    }

    pub(crate) async fn begun(&self) -> [u64; 3] {
        self.counts().await.map(|counts| counts.begun)
    }

    /// Waits until no handler is alive and no statement runs, and says how long that took.
    pub(crate) async fn rests(&mut self, plan: [u64; 4]) -> Duration {
        let since = Instant::now();
        loop {
            let alive = self.counts().await.map(|counts| counts.alive);
            let statements = self.statements().await;
            if (alive, statements) == ([0, 0, 0], 0) {
                let took = since.elapsed();
                self.slowest = self.slowest.max(took);
                return took;
            }
            let is_patient = since.elapsed() < PATIENCE;
            assert!(is_patient, "{plan:?}: {alive:?} handlers, {statements} statements");
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Those that the database is running.
    async fn statements(&self) -> i64 {
        let running = "SELECT count(*) FROM pg_stat_activity
            WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%'";
        self.watcher.query_one(running, &[]).await.unwrap().get(0)
    }
}

// === impl Process ===

impl Process {
    fn start(role: Role, next: &str, ahead: u32) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["serve", "--exact", "--ignored", "--nocapture"])
            .env(ROLE, format!("{role:?}"))
            .env(NEXT, next)
            .env(AHEAD, ahead.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let said = lines.find_map(|line| line.split_once(SAYS).map(|(_, said)| said.to_owned()));
        let said = said.unwrap();
        let (service, control) = said.split_once(' ').unwrap();
        let (service, control) = (service.parse().unwrap(), control.parse().unwrap());
        Self { child, service, control }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
