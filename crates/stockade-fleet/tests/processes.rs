//! Several processes share one rate, also while the Redis dies and while one of them has a wrong clock.
//!
//! The test binary starts itself again for each node, to run `node`, which is ignored otherwise.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]
#![cfg(all(feature = "redis", target_os = "linux"))]

use std::{
    env,
    future::ready,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use stockade_core::Error;
use stockade_fleet::{
    Redis,
    rate::{Away, RateLayer},
};
use stockade_test_servers::{self as servers, Server};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};
use tower::{Layer, ServiceExt, service_fn};

const RATE: u32 = 200;
const BURST: u32 = 20;
const NODES: u32 = 4;

/// What a busy machine may hold up a call that has its token.
const HOLD_UP: Duration = Duration::from_millis(150);

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

/// When each node's calls passed, by the one clock that is right.
struct Passed(Vec<Vec<Duration>>);

#[ignore = "what the other tests start as processes of their own"]
#[tokio::test]
async fn node() {
    let var = |name: &str| env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let number = |name: &str| var(name).parse::<u64>().unwrap();
    let away = match var("NODE_AWAY").as_str() {
        "closed" => Away::Closed,
        "share" => Away::Share(NODES),
        other => panic!("NODE_AWAY={other}"),
    };
    let redis = Redis::new(&var("NODE_REDIS")).unwrap().patience(Duration::from_millis(200));
    let layer = RateLayer::per_second(&redis, "fleet", RATE).burst(BURST).away(away);
    let layer = layer.lease(number("NODE_LEASE") as u32);
    let passed = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&passed);
    let service = layer.layer(service_fn(move |_: ()| {
        log.lock().unwrap().push(SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
        ready(Ok::<_, Error<()>>(()))
    }));
    let (begin, run) = (Instant::now(), Duration::from_millis(number("NODE_RUN")));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let service = service.clone();
            tokio::spawn(async move {
                while begin.elapsed() < run {
                    if let Err(Error::Rejected(no)) = service.clone().oneshot(()).await {
                        sleep(no.retry_after().unwrap().min(Duration::from_millis(100))).await;
                    }
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let passed = passed.lock().unwrap();
    for at in &*passed {
        println!("passed {}", at.as_micros());
    }
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
    node.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
}

/// Runs the nodes, and `meanwhile` with the server.
async fn run(plan: Plan, meanwhile: impl AsyncFnOnce(&mut Server)) -> Passed {
    let mut server = servers::Redis::new().start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let wrong = plan.skew.then(|| wrong_clock(folder.path()));
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let nodes: Vec<_> =
        (0..NODES).map(|n| start(plan, &server, wrong.as_ref().filter(|_| n == 0))).collect();
    meanwhile(&mut server).await;
    let mut passed = Vec::new();
    for (n, node) in nodes.into_iter().enumerate() {
        let output = node.wait_with_output().await.unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let micros = text.lines().filter_map(|line| line.split_once("passed ")?.1.parse().ok());
        let mut at: Vec<_> = micros.map(Duration::from_micros).collect();
        if plan.skew && n == 0 {
            let off = at[0] - began;
            assert!(off > Duration::from_secs(3_600), "its clock is an hour ahead: {off:?}");
            at.iter_mut().for_each(|at| *at -= Duration::from_secs(3_600));
        }
        passed.push(at);
    }
    Passed(passed)
}

impl Passed {
    fn all(&self) -> Vec<Duration> {
        let mut all = self.0.concat();
        all.sort_unstable();
        all
    }

    /// Never more than the burst, what the rate gives, and what nodes may have had in hand.
    fn assert_bounded(&self, in_hand: u32) {
        let all = self.all();
        for (from, first) in all.iter().enumerate() {
            // From the very first call on, nothing was held up before.
            let slack = if from == 0 { Duration::ZERO } else { HOLD_UP };
            for (to, last) in all.iter().enumerate().skip(from) {
                let time = (*last - *first + slack).as_secs_f64();
                let most = f64::from(BURST + in_hand) + f64::from(RATE) * time + 1.0;
                let count = to + 1 - from;
                assert!(count as f64 <= most, "{count} calls in {time} s, at most {most}");
            }
        }
    }

    fn assert_shares(&self) {
        let counts: Vec<_> = self.0.iter().map(Vec::len).collect();
        let fair = counts.iter().sum::<usize>() as f64 / counts.len() as f64;
        for count in &counts {
            let part = *count as f64 / fair;
            assert!((0.8..=1.2).contains(&part), "shares of {counts:?}");
        }
    }

    /// Calls in the time from `begin` on that the fleet was at work for, against what the rate gives.
    fn rate(&self) -> f64 {
        let all = self.all();
        (all.len() as f64 - f64::from(BURST)) / (all[all.len() - 1] - all[0]).as_secs_f64()
    }
}

#[tokio::test]
async fn processes_keep_to_one_rate_together_and_each_gets_its_share() {
    let passed = run(Plan { skew: true, ..PLAN }, async |_| {}).await;

    passed.assert_bounded(0);
    passed.assert_shares();
    let rate = passed.rate();
    assert!(rate >= 0.9 * f64::from(RATE), "the rate is used, too: {rate} a second");
}

#[tokio::test]
async fn processes_with_leases_go_beyond_the_rate_by_the_leases_at_most() {
    let passed = run(Plan { lease: 5, ..PLAN }, async |_| {}).await;

    passed.assert_bounded(NODES * 4);
    passed.assert_shares();
}

#[tokio::test]
async fn processes_keep_to_the_rate_while_the_redis_dies_and_comes_back_and_refuses_meanwhile() {
    let plan = Plan { run: Duration::from_secs(6), ..PLAN };
    let passed = run(plan, async |server| {
        sleep(Duration::from_secs(2)).await;
        server.kill().await;
        sleep(Duration::from_secs(1)).await;
        server.restart().await.unwrap();
    });
    let passed = passed.await;

    passed.assert_bounded(0);
    passed.assert_shares();
}

#[tokio::test]
async fn processes_keep_to_the_rate_by_their_shares_while_the_redis_dies_and_comes_back() {
    let plan = Plan { away: "share", run: Duration::from_secs(7), skew: true, ..PLAN };
    let passed = run(plan, async |server| {
        sleep(Duration::from_secs(2)).await;
        server.kill().await;
        sleep(Duration::from_secs(2)).await;
        server.restart().await.unwrap();
    });
    let passed = passed.await;

    passed.assert_bounded(0);
    passed.assert_shares();
    let rate = passed.rate();
    assert!(rate >= 0.8 * f64::from(RATE), "the fleet goes on meanwhile: {rate} a second");
}
