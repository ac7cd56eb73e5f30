//! Several processes share one rate, also while the Redis dies and while one of them has a wrong clock.
//!
//! The test binary starts itself again for each node, to run `node`, which is ignored otherwise.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]
#![cfg(all(feature = "redis", target_os = "linux"))]

mod common;

use std::{
    env,
    future::ready,
    path::PathBuf,
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use stockade_core::Error;
use stockade_fleet::{
    Redis,
    rate::{Outage, RateLayer},
};
use stockade_test_servers::{self as servers, Server};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::{Instant, sleep},
};
use tower::{Layer, ServiceExt, service_fn};

const RATE: u32 = 200;
const BURST: u32 = 20;
const NODES: u32 = 4;

/// A plan for all nodes.
#[derive(Clone, Copy)]
struct Plan {
    away: &'static str,
    lease: u32,
    run: Duration,
    /// Whether one node's clock is an hour off.
    skew: bool,
}

const PLAN: Plan = Plan { away: "closed", lease: 1, run: Duration::from_secs(4), skew: false };

/// What came of a run: what the nodes have counted, and what the server knows of the bucket, by its own clock.
struct Counted {
    passed: Vec<u64>,
    /// What the nodes gave out while they were alone.
    alone: u64,
    /// For how long all nodes together were at work, each by its own clock.
    worked: Duration,
    /// The server's time before the first call and after the last one, and when the bucket will be full.
    begin: Duration,
    end: Duration,
    full_at: Duration,
}

#[ignore = "what the other tests start as processes of their own"]
#[tokio::test]
async fn node() {
    let var = |name: &str| env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let number = |name: &str| var(name).parse::<u64>().unwrap();
    let away = match var("NODE_AWAY").as_str() {
        "closed" => Outage::Closed,
        "share" => Outage::Share(NODES),
        other => panic!("NODE_AWAY={other}"),
    };
    let redis = Redis::new(&var("NODE_REDIS")).unwrap().patience(Duration::from_millis(200));
    let layer = RateLayer::per_second(&redis, "fleet", RATE).burst(BURST).outage(away);
    let layer = layer.lease(number("NODE_LEASE") as u32);
    let service = layer.layer(service_fn(move |_: ()| ready(Ok::<_, Error<()>>(()))));
    redis.check().await.unwrap();
    // All begin at once.
    println!("ready {}", SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let (begin, run) = (Instant::now(), Duration::from_millis(number("NODE_RUN")));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let service = service.clone();
            tokio::spawn(async move {
                let mut passed = 0;
                while begin.elapsed() < run {
                    match service.clone().oneshot(()).await {
                        Ok(()) => passed += 1,
                        Err(Error::Rejected(no)) => {
                            sleep(no.retry_after().unwrap().min(Duration::from_millis(100))).await;
                        }
                        Err(Error::Service(())) => unreachable!("it does not fail"),
                    }
                }
                passed
            })
        })
        .collect();
    let mut passed = 0_u64;
    for caller in callers {
        passed += caller.await.unwrap();
    }
    let alone = service.handle().snapshot().alone;
    println!("counted {passed} {alone} {}", begin.elapsed().as_micros());
}

/// A library that puts the clock of a process an hour ahead.
fn wrong_clock(folder: &std::path::Path) -> PathBuf {
    const CODE: &str = r"
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <time.h>
        int clock_gettime(clockid_t id, struct timespec *now) {
            static int (*real)(clockid_t, struct timespec *);
            if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, __func__);
            int result = real(id, now);
            if (id == CLOCK_REALTIME) now->tv_sec += 3600;
            return result;
        }";
    let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
    std::fs::write(&source, CODE).unwrap();
    // The compiler by which every Rust program is linked.
    let mut compiler = std::process::Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).args([&library, &source]);
    assert!(compiler.status().unwrap().success());
    library
}

fn start(plan: Plan, server: &Server, wrong: Option<&PathBuf>) -> Child {
    let mut node = Command::new(env::current_exe().unwrap());
    node.args(["--exact", "node", "--ignored", "--nocapture"]);
    node.env("NODE_REDIS", server.url()).env("NODE_AWAY", plan.away);
    node.env("NODE_LEASE", plan.lease.to_string());
    node.env("NODE_RUN", plan.run.as_millis().to_string());
    if let Some(library) = wrong {
        node.env("LD_PRELOAD", library);
    }
    node.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
}

/// The next line of a node that begins with this word, without it.
async fn line(lines: &mut Lines<BufReader<ChildStdout>>, word: &str) -> String {
    loop {
        let line = lines.next_line().await.unwrap().expect("the node says so");
        if let Some((_, rest)) = line.split_once(word) {
            return rest.trim().to_owned();
        }
    }
}

/// Runs the nodes, and `meanwhile` with the server.
async fn run(plan: Plan, meanwhile: impl AsyncFnOnce(&mut Server)) -> Counted {
    let mut server = servers::Redis::new().start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let wrong = plan.skew.then(|| wrong_clock(folder.path()));
    let mut nodes: Vec<_> =
        (0..NODES).map(|n| start(plan, &server, wrong.as_ref().filter(|_| n == 0))).collect();
    let mut outputs = Vec::new();
    for (n, node) in nodes.iter_mut().enumerate() {
        let mut lines = BufReader::new(node.stdout.take().unwrap()).lines();
        let its = Duration::from_secs(line(&mut lines, "ready ").await.parse().unwrap());
        let off = its.saturating_sub(SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
        assert_eq!(off > Duration::from_secs(3_000), plan.skew && n == 0, "an hour ahead: {off:?}");
        outputs.push(lines);
    }
    let begin = common::time(&server).await;
    for node in &mut nodes {
        node.stdin.take().unwrap().write_all(b"go\n").await.unwrap();
    }
    meanwhile(&mut server).await;
    let (mut passed, mut alone, mut worked) = (Vec::new(), 0, Duration::ZERO);
    for (mut node, mut lines) in nodes.into_iter().zip(outputs) {
        let said = line(&mut lines, "counted ").await;
        let counts: Vec<u64> = said.split(' ').map(|word| word.parse().unwrap()).collect();
        passed.push(counts[0]);
        alone += counts[1];
        worked += Duration::from_micros(counts[2]);
        assert!(node.wait().await.unwrap().success());
    }
    let end = common::time(&server).await;
    // A bucket that is full has no key.
    let full_at = common::full_at(&server, "fleet").await.unwrap_or(end);
    Counted { passed, alone, worked, begin, end, full_at }
}

impl Counted {
    fn all(&self) -> u64 {
        self.passed.iter().sum()
    }

    /// No call has passed without a token that the server gave out, or a node that was alone.
    ///
    /// Each token moves the instant at which the bucket is full by a period, from the first call on at the earliest.
    /// So the server cannot have given more tokens than that instant has moved by.
    fn assert_bounded(&self) {
        let moved = (self.full_at - self.begin).as_secs_f64();
        let given = (moved * f64::from(RATE)).ceil() as u64;
        let (all, alone) = (self.all(), self.alone);
        assert!(all <= given + alone, "{all} calls passed, {given} tokens and {alone} alone");
        // The bucket is never further ahead than what may be taken beforehand.
        let ahead = self.full_at.saturating_sub(self.end).as_secs_f64();
        let fill = f64::from(BURST) / f64::from(RATE);
        assert!(ahead <= 2.0 * fill + 1.0, "{ahead} s ahead");
        // All nodes alone give what their shares bring.
        let shares = f64::from(BURST) + f64::from(RATE / NODES) * self.worked.as_secs_f64();
        assert!(alone as f64 <= shares, "{alone} tokens given alone, at most {shares}");
    }

    fn assert_shares(&self) {
        let fair = self.all() as f64 / self.passed.len() as f64;
        for count in &self.passed {
            let part = *count as f64 / fair;
            assert!((0.6..=1.4).contains(&part), "shares of {:?}", self.passed);
        }
    }

    /// The rate is used, too: at least this part of it. The machine may be busy.
    fn assert_used(&self, part: f64) {
        let time = self.worked.as_secs_f64() / f64::from(NODES);
        let (all, most) = (self.all(), f64::from(RATE) * time);
        assert!(all as f64 >= part * most, "{all} calls of {most}");
    }
}

#[tokio::test]
async fn processes_keep_to_one_rate_together_and_each_gets_its_share() {
    let counted = run(Plan { skew: true, ..PLAN }, async |_| {}).await;

    counted.assert_bounded();
    counted.assert_shares();
    counted.assert_used(0.5);
    assert_eq!(counted.alone, 0);
}

#[tokio::test]
async fn processes_with_leases_go_beyond_the_rate_by_the_leases_at_most() {
    let counted = run(Plan { lease: 5, ..PLAN }, async |_| {}).await;

    counted.assert_bounded();
    counted.assert_shares();
}

#[tokio::test]
async fn processes_keep_to_the_rate_while_the_redis_dies_and_comes_back_and_refuses_meanwhile() {
    let plan = Plan { run: Duration::from_secs(6), ..PLAN };
    let counted = run(plan, async |server| {
        sleep(Duration::from_secs(2)).await;
        server.kill().await;
        sleep(Duration::from_secs(1)).await;
        server.restart().await.unwrap();
    });
    let counted = counted.await;

    counted.assert_bounded();
    counted.assert_shares();
}

#[tokio::test]
async fn processes_keep_to_the_rate_by_their_shares_while_the_redis_dies_and_comes_back() {
    let plan = Plan { away: "share", run: Duration::from_secs(7), skew: true, ..PLAN };
    let counted = run(plan, async |server| {
        sleep(Duration::from_secs(2)).await;
        server.kill().await;
        sleep(Duration::from_secs(2)).await;
        server.restart().await.unwrap();
    });
    let counted = counted.await;

    counted.assert_bounded();
    counted.assert_shares();
    counted.assert_used(0.5);
    assert!(counted.alone > 0, "the fleet goes on in the meantime");
}
