//! A fleet's verdict over breakers that decide for themselves.
//!
//! The test binary starts itself again for each process, to run `node`, which is ignored otherwise.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]
#![cfg(feature = "redis")]

mod common;

use std::{
    env,
    future::ready,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use common::{command, server};
use stockade_breaker::{Breaker, BreakerHandle, BreakerLayer, State};
use stockade_core::{Error, Reason};
use stockade_fleet::{
    Fault, Mode, Redis,
    breaker::{Member, Quorum},
};
use tokio::{
    process::Command,
    time::{Instant, sleep, timeout},
};
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneService};

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(20);

type Service = BoxCloneService<(), (), Error<&'static str>>;

/// A node of a fleet, with a service that works or does not.
struct Node {
    service: Service,
    breaker: BreakerHandle,
    member: Option<Member>,
    works: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
}

impl Node {
    fn new(quorum: Quorum, works: bool) -> Self {
        let (works, calls) = (Arc::new(AtomicBool::new(works)), Arc::new(AtomicUsize::new(0)));
        let (is_up, counts) = (Arc::clone(&works), Arc::clone(&calls));
        let layer = BreakerLayer::new().consecutive(3).open_for(200 * MS).probes(1);
        let (layer, breaker) = layer.with_handle();
        let service: Breaker<_> = layer.layer(service_fn(move |()| {
            counts.fetch_add(1, Relaxed);
            ready(if is_up.load(Relaxed) { Ok(()) } else { Err(Error::Service("down")) })
        }));
        let member = Some(quorum.join(breaker.clone()));
        Self { service: BoxCloneService::new(service), breaker, member, works, calls }
    }

    async fn call(&self) -> Result<(), Error<&'static str>> {
        self.service.clone().oneshot(()).await
    }

    fn is_open(&self) -> bool {
        self.member.as_ref().is_some_and(|member| member.snapshot().open)
    }
}

fn quorum(redis: &Redis) -> Quorum {
    // The interval is what makes the tests quick; a lease is longer than a test may take.
    Quorum::majority(redis, "search").open_for(600 * MS).interval(50 * MS).lease(LONG)
}

fn fleet(redis: &Redis, works: [bool; 5]) -> [Node; 5] {
    works.map(|works| Node::new(quorum(redis), works))
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waits = async {
        while !is_so() {
            sleep(5 * MS).await;
        }
    };
    timeout(LONG, waits).await.unwrap_or_else(|_| panic!("not within {LONG:?}: {what}"));
}

async fn all_report(nodes: &[Node]) {
    let reports = |n: &Node| n.member.as_ref().unwrap().snapshot().reporting == 5;
    until("all report", || nodes.iter().all(reports)).await;
}

async fn fail(nodes: &[Node]) {
    for node in nodes {
        for _ in 0..3 {
            node.call().await.unwrap_err();
        }
    }
}

#[tokio::test]
async fn one_sick_node_of_five_opens_nobody_but_itself() {
    let (_server, redis) = server().await;
    let nodes = fleet(&redis, [false, true, true, true, true]);
    all_report(&nodes).await;

    fail(&nodes[..1]).await;
    until("its report is there", || nodes[1].member.as_ref().unwrap().snapshot().failing == 1)
        .await;
    sleep(200 * MS).await;

    for node in &nodes[1..] {
        assert!(node.call().await.is_ok());
        assert_eq!(node.breaker.state(), State::Closed);
    }
    assert_eq!(nodes[0].member.as_ref().unwrap().snapshot().mode, Mode::Shared);
}

#[tokio::test]
async fn four_of_five_open_all_then_exactly_one_probes_and_all_close() {
    let (_server, redis) = server().await;
    let nodes = fleet(&redis, [false, false, false, false, true]);
    all_report(&nodes).await;

    fail(&nodes[..4]).await;
    until("all are open", || nodes.iter().all(Node::is_open)).await;
    let Err(Error::Rejected(no)) = nodes[4].call().await else { panic!("the fifth one passed") };
    assert_eq!(no.reason(), Reason::BreakerOpen);
    assert!(no.retry_after().is_some());

    for node in &nodes {
        node.works.store(true, Relaxed);
        node.calls.store(0, Relaxed);
    }
    let begin = Instant::now();
    while nodes.iter().any(Node::is_open) {
        assert!(begin.elapsed() < LONG);
        for node in &nodes {
            // Those that have closed already are not asked: their calls are no probes.
            if node.is_open() {
                let _ = node.call().await;
            }
        }
        sleep(2 * MS).await;
    }
    let probed = nodes.iter().filter(|node| node.calls.load(Relaxed) > 0).count();
    assert_eq!(probed, 1);
    until("all are closed", || nodes.iter().all(|n| n.breaker.state() == State::Closed)).await;
}

#[tokio::test]
async fn probes_that_fail_keep_all_open_and_the_lease_goes_on() {
    let (_server, redis) = server().await;
    let nodes = fleet(&redis, [false; 5]);
    all_report(&nodes).await;
    fail(&nodes).await;
    until("all are open", || nodes.iter().all(Node::is_open)).await;
    nodes.iter().for_each(|node| node.calls.store(0, Relaxed));

    let begin = Instant::now();
    while begin.elapsed() < 2_000 * MS {
        for node in &nodes {
            let _ = node.call().await;
        }
        sleep(5 * MS).await;
    }

    let probes: usize = nodes.iter().map(|node| node.calls.load(Relaxed)).sum();
    assert!((1..=3).contains(&probes), "one each open time, for all five: {probes}");
    assert!(nodes.iter().all(Node::is_open));
}

#[tokio::test]
async fn a_node_that_has_the_lease_and_dies_leaves_it_to_another() {
    let (_server, redis) = server().await;
    let short = || quorum(&redis).lease(500 * MS).open_for(200 * MS);
    let mut nodes = [true; 5].map(|_| Node::new(short(), false));
    all_report(&nodes).await;
    fail(&nodes).await;
    let probing = |n: &Node| n.member.as_ref().is_some_and(|member| member.snapshot().probing);
    until("one has the lease", || nodes.iter().any(probing)).await;

    let first = nodes.iter().position(probing).unwrap();
    nodes[first].member = None;

    until("another has it", || nodes.iter().any(probing)).await;
    assert!(!probing(&nodes[first]));
}

#[tokio::test]
async fn with_the_redis_away_each_goes_on_alone_and_comes_back() {
    let (mut server, redis) = server().await;
    let nodes = fleet(&redis, [false, false, false, false, true]);
    all_report(&nodes).await;
    fail(&nodes[..4]).await;
    until("all are open", || nodes.iter().all(Node::is_open)).await;

    server.kill().await;
    let alone = |n: &Node| n.member.as_ref().unwrap().is_alone();
    until("all are alone", || nodes.iter().all(alone)).await;
    let fault = nodes[0].member.as_ref().unwrap().snapshot().fault.unwrap();
    assert_eq!(fault.place(), redis.place());
    // The breakers go on by themselves: each probes, and closes if its calls succeed.
    let begin = Instant::now();
    while nodes[4].breaker.state() != State::Closed {
        assert!(begin.elapsed() < LONG);
        let _ = nodes[4].call().await;
        let _ = nodes[0].call().await;
        sleep(5 * MS).await;
    }
    assert_ne!(nodes[0].breaker.state(), State::Closed, "its network is still broken");

    server.restart().await.unwrap();
    until("all are back", || nodes.iter().all(|n| !alone(n))).await;
}

#[tokio::test]
async fn breakers_that_the_fleet_has_opened_are_no_reason_to_open_again() {
    let (server, redis) = server().await;
    let nodes = fleet(&redis, [false, false, false, false, true]);
    all_report(&nodes).await;
    fail(&nodes[..4]).await;
    until("all are open", || nodes.iter().all(Node::is_open)).await;

    // As after a restart: nobody knows of the verdict any more, and all breakers are open.
    command(&server, &["FLUSHALL"]).await.unwrap();
    until("it is forgotten", || !nodes.iter().any(Node::is_open)).await;
    sleep(400 * MS).await;

    assert!(!nodes.iter().any(Node::is_open));
    let failing = nodes[4].member.as_ref().unwrap().snapshot().failing;
    assert_eq!(failing, 0);
}

#[tokio::test]
async fn a_key_that_holds_something_else_leaves_each_alone_and_is_named() {
    let (server, redis) = server().await;
    command(&server, &["SET", "{search}:nodes", "mine"]).await.unwrap();
    let node = Node::new(quorum(&redis), true);
    until("it is alone", || node.member.as_ref().unwrap().is_alone()).await;

    let fault = node.member.as_ref().unwrap().snapshot().fault.unwrap();
    assert_eq!(fault.fault(), Fault::WrongType);
    assert!(fault.to_string().contains("`search`"), "{fault}");
    assert!(node.call().await.is_ok());
}

#[tokio::test]
async fn what_dead_nodes_have_left_goes_although_the_clock_of_the_server_has_stepped_back() {
    let (server, redis) = server().await;
    let time: Vec<u64> =
        redis::from_redis_value(command(&server, &["TIME"]).await.unwrap()).unwrap();
    let in_an_hour = ((time[0] + 3_600) * 1_000).to_string();
    let [nodes, failing, verdict, lease] =
        ["nodes", "failing", "verdict", "lease"].map(|part| format!("{{search}}:{part}"));
    for dead in ["dead-1", "dead-2", "dead-3"] {
        for key in [&nodes, &failing] {
            command(&server, &["ZADD", key, &in_an_hour, dead]).await.unwrap();
        }
    }
    command(&server, &["SET", &verdict, &in_an_hour, "PX", "7200000"]).await.unwrap();
    command(&server, &["SET", &lease, "dead-1", "PX", "7200000"]).await.unwrap();

    let quorum = quorum(&redis).open_for(200 * MS).lease(400 * MS);
    let node = Node::new(quorum, true);
    until("it has heard the fleet", || node.is_open()).await;
    until("it probes, and closes again", || {
        tokio::spawn(node.service.clone().oneshot(()));
        !node.is_open()
    })
    .await;

    let snapshot = node.member.as_ref().unwrap().snapshot();
    assert_eq!((snapshot.reporting, snapshot.failing), (1, 0));
    assert!(node.call().await.is_ok());
}

#[tokio::test]
async fn a_verdict_is_reached_again_after_one_probe_although_the_clock_of_the_server_has_stepped_forward()
 {
    let (server, redis) = server().await;
    let nodes = [false; 5].map(|works| Node::new(quorum(&redis).open_for(LONG), works));
    all_report(&nodes).await;
    fail(&nodes).await;
    until("all are open", || nodes.iter().all(Node::is_open)).await;
    nodes.iter().for_each(|node| node.calls.store(0, Relaxed));

    // All that was written is an hour old.
    let script = "for i = 1, 2 do
          for _, node in ipairs(redis.call('ZRANGE', KEYS[i], 0, -1)) do
            redis.call('ZINCRBY', KEYS[i], -3600000, node)
          end
        end
        redis.call('SET', KEYS[3], redis.call('GET', KEYS[3]) - 3600000)";
    let keys = ["nodes", "failing", "verdict"].map(|part| format!("{{search}}:{part}"));
    command(&server, &["EVAL", script, "3", &keys[0], &keys[1], &keys[2]]).await.unwrap();
    let probing = |node: &Node| node.member.as_ref().unwrap().snapshot().probing;
    until("one probes", || nodes.iter().any(probing)).await;
    let begin = Instant::now();
    while nodes.iter().any(probing) {
        assert!(begin.elapsed() < LONG);
        for node in &nodes {
            let _ = node.call().await;
        }
        sleep(5 * MS).await;
    }

    until("all are open again", || nodes.iter().all(Node::is_open)).await;
    let probes: usize = nodes.iter().map(|node| node.calls.load(Relaxed)).sum();
    assert_eq!(probes, 1);
}

/// A process of the fleet: it calls for some time, and prints what came of it.
#[ignore = "what the other tests start as processes of their own"]
#[tokio::test]
async fn node() {
    let var = |name: &str| env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let heals_after = MS * var("NODE_HEALS_AFTER").parse::<u32>().unwrap();
    let redis = Redis::new(&var("NODE_REDIS")).unwrap().patience(500 * MS);
    let node = Node::new(quorum(&redis).open_for(2_000 * MS), heals_after.is_zero());
    let reports = || node.member.as_ref().unwrap().snapshot().reporting == 5;
    until("all report", reports).await;
    let begin = Instant::now();
    let (mut passed, mut refused, mut probes) = (0, 0, 0);
    let (mut was_open, mut closed_again) = (false, false);
    while begin.elapsed() < Duration::from_secs(5) {
        node.works.store(begin.elapsed() >= heals_after, Relaxed);
        let (open, before) = (node.is_open(), node.calls.load(Relaxed));
        match node.call().await {
            Err(Error::Rejected(_)) => refused += 1,
            _ => passed += 1,
        }
        if open && node.is_open() && node.calls.load(Relaxed) > before {
            probes += 1;
        }
        was_open |= open;
        closed_again = was_open && !node.is_open();
        sleep(5 * MS).await;
    }
    println!("said {passed} {refused} {probes} {was_open} {closed_again}");
}

/// What a process says: calls passed, refused, and probes; whether the fleet opened, and closed again.
type Said = (u32, u32, u32, bool, bool);

async fn processes(heals_after: [u64; 5]) -> Vec<Said> {
    let (server, _) = server().await;
    let processes: Vec<_> = heals_after
        .iter()
        .map(|heals_after| {
            let mut process = Command::new(env::current_exe().unwrap());
            process.args(["--exact", "node", "--ignored", "--nocapture"]);
            process.env("NODE_REDIS", server.url());
            process.env("NODE_HEALS_AFTER", heals_after.to_string());
            process.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
        })
        .collect();
    let mut said = Vec::new();
    for process in processes {
        let output = process.wait_with_output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        let line = text.lines().find_map(|line| Some(line.split_once("said ")?.1));
        let line = line.unwrap_or_else(|| panic!("{text}"));
        let words: Vec<_> = line.split(' ').collect();
        let number = |n: usize| words[n].parse().unwrap();
        said.push((number(0), number(1), number(2), words[3] == "true", words[4] == "true"));
    }
    said
}

#[tokio::test]
async fn of_five_processes_one_with_a_broken_network_does_not_open_the_others() {
    let said = processes([60_000, 0, 0, 0, 0]).await;

    for (passed, refused, _, opened, _) in &said[1..] {
        assert!(!opened && *refused == 0 && *passed > 100, "{said:?}");
    }
    assert!(said[0].1 > 100, "its own breaker is open: {said:?}");
}

#[tokio::test]
async fn of_five_processes_four_that_see_failures_open_all_and_exactly_one_probes() {
    let said = processes([1_000, 1_000, 1_000, 1_000, 0]).await;

    assert!(
        said.iter().all(|(_, refused, _, opened, closed)| *refused > 0 && *opened && *closed),
        "{said:?}"
    );
    let probed = said.iter().filter(|(_, _, probes, ..)| *probes > 0).count();
    assert_eq!(probed, 1, "{said:?}");
}
