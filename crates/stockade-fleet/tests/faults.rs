//! What is wrong with a Redis is said in time, by name, and without a credential.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]
#![cfg(feature = "redis")]

mod common;

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use common::{command, passes, refusal};
use stockade_breaker::BreakerLayer;
use stockade_core::{Error, Reason};
use stockade_fleet::{
    Fault, Presence, Redis, RedisError,
    breaker::Quorum,
    rate::{Outage, RateLayer},
};
use stockade_test_servers::{self as servers, Server};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

const LIMIT: Duration = Duration::from_millis(300);
const HOUR: Duration = Duration::from_secs(3_600);

/// Looks at the Redis at `url`, and expects an error in time that says nothing secret.
async fn error(url: &str) -> RedisError {
    let begin = Instant::now();
    let redis = Redis::new(url).unwrap().connect_timeout(LIMIT);
    let error = redis.check().await.unwrap_err();
    assert!(begin.elapsed() < LIMIT + Duration::from_secs(5), "{:?}", begin.elapsed());
    secretive(&redis);
    secretive(&error);
    assert!(!error.to_string().contains("secret"), "{error}");
    error
}

fn secretive(value: &impl Debug) {
    let text = format!("{value:?}");
    assert!(!text.contains("secret") && !text.contains("somebody"), "{text}");
}

#[test]
fn a_url_that_is_none_is_refused_and_not_repeated() {
    for url in [
        "",
        "127.0.0.1",
        "http://somebody:secret@host/",
        "redis://:secret@host:port",
        "redis://:secret@/x",
        // What is special in a password was left as it is, so that a part of it stands where the host does.
        "redis://somebody:12/secret@host:6379",
        "redis://somebody:12?secret@host:6379/0",
        "redis://somebody:12#secret@host",
    ] {
        let error = Redis::new(url).unwrap_err();
        assert_eq!(error.fault(), Fault::Url, "{url}");
        assert!(error.to_string().contains("redis://"), "{error}");
        assert!(!error.to_string().contains("secret@"), "{error}");
        secretive(&error);
    }
}

#[test]
fn of_a_password_that_was_left_as_it_is_nothing_is_shown() {
    let special = || (' '..='~').filter(|c| !c.is_ascii_alphanumeric());
    for (a, b) in special().flat_map(|a| special().map(move |b| (a, b))) {
        for user in ["somebody", ""] {
            let url = format!("redis://{user}:secret{a}secret{b}secret@host:6379/1");
            match Redis::new(&url) {
                Ok(redis) => assert_eq!(redis.place(), "host:6379/1", "{url}"),
                Err(error) => {
                    assert_eq!(error.fault(), Fault::Url, "{url}");
                    secretive(&error);
                }
            }
        }
    }
}

#[cfg(not(feature = "tls"))]
#[test]
fn a_url_that_asks_for_tls_names_the_feature_that_is_missing() {
    let error = Redis::new("rediss://somebody:secret@host").unwrap_err();
    assert_eq!(error.fault(), Fault::Url);
    assert!(error.to_string().contains("TLS needs the feature `tls`"), "{error}");
    secretive(&error);
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_named() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let error = error(&format!("redis://somebody:secret@127.0.0.1:{port}/3")).await;
    assert_eq!(error.fault(), Fault::Unreachable);
    assert_eq!(error.place(), format!("127.0.0.1:{port}/3"));
    assert!(
        error.to_string().starts_with(&format!("redis at 127.0.0.1:{port}/3: cannot be reached"))
    );
}

#[tokio::test]
async fn a_wrong_password_and_none_at_all_are_told_as_such() {
    let server = servers::Redis::new().password("right").start().await.unwrap();
    for login in [":secret@", "somebody:secret@", ""] {
        let error = error(&format!("redis://{login}{}", server.address())).await;
        assert_eq!(error.fault(), Fault::Login, "{login}: {error}");
        assert_eq!(
            error.to_string(),
            format!("redis at {}/0: wrong user or password", server.address())
        );
    }
    Redis::new(&server.url()).unwrap().check().await.unwrap();
}

/// A server that answers to the first bytes, if it does.
async fn stranger(answer: Option<&'static [u8]>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://:secret@{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut bytes = [0; 512];
                let _ = stream.read(&mut bytes).await;
                if let Some(answer) = answer {
                    let _ = stream.write_all(answer).await;
                } else {
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn a_server_that_is_no_redis_is_told_as_such() {
    let http = stranger(Some(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")).await;
    assert_eq!(error(&http).await.fault(), Fault::NotRedis);
    let memcached = stranger(Some(b"ERROR\r\n")).await;
    assert_eq!(error(&memcached).await.fault(), Fault::NotRedis);
    let silent = stranger(None).await;
    assert_eq!(error(&silent).await.fault(), Fault::TimedOut);
    let rude = stranger(Some(b"")).await;
    assert!(matches!(error(&rude).await.fault(), Fault::Lost | Fault::NotRedis));
}

#[tokio::test]
async fn a_redis_that_runs_no_scripts_is_told_as_such() {
    let server = servers::Redis::new().start().await.unwrap();
    let user = ["ACL", "SETUSER", "somebody", "on", ">secret", "~*", "+@all", "-@scripting"];
    command(&server, &user).await.unwrap();
    let url = format!("redis://somebody:secret@{}", server.address());
    let error = error(&url).await;
    assert_eq!(error.fault(), Fault::NoScripts, "{error}");

    let redis = Redis::new(&url).unwrap().patience(Duration::from_secs(2));
    let layer = RateLayer::new(&redis, "key", 1, HOUR).queue(0).outage(Outage::Share(1)).burst(1);
    assert!(!passes(&layer).await, "the share begins empty");
    let snapshot = common::handle(&layer).snapshot();
    assert_eq!(snapshot.fault.unwrap().fault(), Fault::NoScripts);
}

#[tokio::test]
async fn a_key_that_holds_something_else_stays_as_it_is_and_the_others_go_on() {
    let (server, redis) = common::server().await;
    command(&server, &["RPUSH", "users:list", "a", "b"]).await.unwrap();
    command(&server, &["SET", "users:text", "hello"]).await.unwrap();
    let layer = RateLayer::new(&redis, "users", 1, HOUR).queue(0).outage(Outage::Closed);
    let names = ["list", "text", "free"];
    let layer = layer.keyed(move |n: &u32| names[*n as usize], 10);
    let call = async |n| {
        use tower::{Layer, ServiceExt, service_fn};
        layer.layer(service_fn(common::echo)).oneshot(n).await
    };

    for (n, name) in ["list", "text"].into_iter().enumerate() {
        assert!(call(n as u32).await.is_err());
        let fault = common::handle(&layer).snapshot().fault.unwrap();
        assert_eq!(fault.fault(), Fault::WrongType);
        assert_eq!(fault.place(), format!("{}/0", server.address()));
        let said = format!(
            "redis at {}/0: the key holds something else (`users:{name}`)",
            server.address()
        );
        assert_eq!(fault.to_string(), said);
    }
    assert!(call(2).await.is_ok(), "another key is not concerned");
    assert_eq!(redis.presence(), Presence::Here, "nor is the connection");
    let list = command(&server, &["LRANGE", "users:list", "0", "-1"]).await.unwrap();
    assert_eq!(redis::from_redis_value::<Vec<String>>(list).unwrap(), ["a", "b"]);
    let text = command(&server, &["GET", "users:text"]).await.unwrap();
    assert_eq!(redis::from_redis_value::<String>(text).unwrap(), "hello");
}

#[tokio::test]
async fn a_server_whose_clock_was_hours_ahead_stops_nobody_for_hours() {
    let (server, redis) = common::server().await;
    let layer = RateLayer::new(&redis, "skew", 10, Duration::from_millis(200)).queue(0);
    let micros: u64 = {
        let time: Vec<u64> =
            redis::from_redis_value(command(&server, &["TIME"]).await.unwrap()).unwrap();
        time[0] + 10 * 3_600
    };
    command(&server, &["SET", "skew", &format!("{micros}:0")]).await.unwrap();

    let no = refusal(&layer).await;
    assert_eq!(no.reason(), Reason::RateLimited);
    let after = no.retry_after().unwrap();
    assert!(after < Duration::from_secs(2), "three fillings and a second at most: {after:?}");
    sleep(after).await;
    assert!(passes(&layer).await, "when it was told to come back");
}

#[tokio::test]
async fn a_bucket_that_is_reset_by_hand_is_told_by_who_knows_it() {
    let (server, redis) = common::server().await;
    let layer = RateLayer::new(&redis, "lost", 1, HOUR).queue(0);
    assert!(passes(&layer).await);
    command(&server, &["FLUSHALL"]).await.unwrap();
    sleep(Duration::from_millis(10)).await;
    assert!(!passes(&layer).await);
}

/// What a key of the server looks like once the server's clock has stepped back by so many seconds.
async fn step_back(server: &Server, key: &str, seconds: i64) {
    let kept: String =
        redis::from_redis_value(command(server, &["GET", key]).await.unwrap()).unwrap();
    let (instant, rest) = kept.split_once(':').unwrap();
    let instant = instant.parse::<i64>().unwrap() + seconds;
    command(server, &["SET", key, &format!("{instant}:{rest}")]).await.unwrap();
}

#[tokio::test]
async fn a_server_whose_clock_steps_forward_gives_no_more_than_another_bucket() {
    let (server, redis) = common::server().await;
    let period = Duration::from_secs(60);
    let layer = |redis: &Redis| RateLayer::new(redis, "forward", 10, period).queue(0);
    let knows = layer(&redis);
    while passes(&knows).await {}
    for expires in [false, true] {
        step_back(&server, "forward", -3_600).await;
        if expires {
            // A key lives for no longer than it takes its bucket to fill up.
            command(&server, &["DEL", "forward"]).await.unwrap();
        }
        // A node that has not asked before knows nothing better.
        let (stranger, mut passed, begin) = (layer(&redis), 0, Instant::now());
        while passes(&stranger).await {
            passed += 1;
        }
        let most = 10.0 + begin.elapsed().as_secs_f64() / 6.0;
        assert!(passed >= 9 && f64::from(passed) <= most, "{passed} of at most {most}");
        // One that has tells what it knows.
        let no = refusal(&knows).await;
        assert!(no.retry_after().unwrap() <= period, "{no}");
        assert!(!passes(&stranger).await);
    }
}

#[tokio::test]
async fn a_server_whose_clock_steps_back_refuses_nobody_for_longer_than_a_period() {
    let (server, redis) = common::server().await;
    let period = Duration::from_millis(200);
    let layer = |redis: &Redis| RateLayer::new(redis, "back", 10, period).queue(0);
    let knows = layer(&redis);
    for _ in 0..2 {
        while passes(&knows).await {}
        step_back(&server, "back", 3_600).await;
        // A node that has not asked before comes back when it is told.
        let stranger = layer(&redis);
        for node in [&stranger, &knows] {
            let (mut told, mut refusals) = (Duration::ZERO, 0);
            while let Err(Error::Rejected(no)) = common::call(node).await {
                told += no.retry_after().unwrap();
                refusals += 1;
                sleep(no.retry_after().unwrap()).await;
            }
            assert!(told <= period && refusals <= 3, "{told:?} in {refusals} refusals");
        }
    }
}

#[tokio::test]
async fn the_command_that_a_user_may_not_run_is_named_at_the_start() {
    let server = servers::Redis::new().start().await.unwrap();
    let of_rate = ["evalsha", "script|load", "time", "get", "set"];
    let of_quorum = ["pttl", "pexpire", "del", "zadd", "zrem", "zremrangebyscore", "zcard"];
    for denied in of_rate.into_iter().chain(of_quorum) {
        let rule = format!("-{denied}");
        let user = ["ACL", "SETUSER", "node", "reset", "on", ">word", "~*", "+@all", &rule];
        command(&server, &user).await.unwrap();
        let redis = Redis::new(&format!("redis://node:word@{}", server.address())).unwrap();
        let error = redis.check().await.unwrap_err();
        assert_eq!(error.fault(), Fault::NoScripts, "{error}");
        assert!(error.to_string().contains(&format!("'{denied}'")), "{error}");
    }
    // A user that is let to some keys only may use them.
    let user = ["ACL", "SETUSER", "node", "reset", "on", ">word", "~users:*", "+@all"];
    command(&server, &user).await.unwrap();
    let redis = Redis::new(&format!("redis://node:word@{}", server.address())).unwrap();
    redis.check().await.unwrap();
    assert!(common::keys(&server, "*").await.is_empty(), "it writes nothing");
}

#[tokio::test]
async fn a_quorum_whose_commands_are_denied_is_told_so_and_takes_no_rate_with_it() {
    let server = servers::Redis::new().start().await.unwrap();
    let user = ["ACL", "SETUSER", "node", "on", ">word", "~*", "+@all", "-zadd"];
    command(&server, &user).await.unwrap();
    let redis = Redis::new(&format!("redis://node:word@{}", server.address())).unwrap();
    let redis = redis.patience(Duration::from_secs(2));
    let layer = RateLayer::per_second(&redis, "key", 1_000_000).queue(0).outage(Outage::Closed);
    let quorum = Quorum::majority(&redis, "search").interval(Duration::from_millis(5));
    let member = quorum.join(BreakerLayer::new().with_handle().1);

    let told = async {
        while member.snapshot().fault.is_none() {
            common::call(&layer).await.unwrap();
        }
        // Several more reports are refused.
        for _ in 0..500 {
            common::call(&layer).await.unwrap();
        }
    };
    timeout(Duration::from_secs(30), told).await.unwrap();

    let fault = member.snapshot().fault.unwrap();
    assert_eq!(fault.fault(), Fault::NoScripts, "{fault}");
    assert_eq!(redis.presence(), Presence::Here);
}

#[tokio::test]
async fn a_replica_that_answers_and_may_not_be_written_to_is_not_connected_to_again_and_again() {
    let (server, redis) = common::server().await;
    let layer = RateLayer::new(&redis, "replica", 1_000, HOUR).queue(0).outage(Outage::Closed);
    assert!(passes(&layer).await);
    command(&server, &["REPLICAOF", "127.0.0.1", "1"]).await.unwrap();
    let connections = async || {
        let info = command(&server, &["INFO", "stats"]).await.unwrap();
        let info: String = redis::from_redis_value(info).unwrap();
        let count = info.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
        count.unwrap().trim().parse::<u32>().unwrap()
    };
    let (before, begin) = (connections().await, Instant::now());
    while begin.elapsed() < Duration::from_secs(2) {
        assert_eq!(refusal(&layer).await.reason(), Reason::Unavailable);
        sleep(Duration::from_millis(2)).await;
    }
    let made = connections().await - before;
    // The longest pause is 250 ms, of which chance takes off up to a half; the first ones are shorter.
    let most = 6 + (begin.elapsed().as_millis() / 125) as u32;
    assert!(made <= most, "{made} connections, at most {most}");
    command(&server, &["REPLICAOF", "NO", "ONE"]).await.unwrap();
    while common::call(&layer).await.is_err() {
        sleep(Duration::from_millis(10)).await;
    }
}

/// A server that is a Redis until the second script on a connection, and what it does then.
struct Odd {
    url: String,
    connections: Arc<AtomicU32>,
    answers: Arc<AtomicU32>,
}

/// What it does with every script after the first.
#[derive(Clone, Copy)]
enum Then {
    Say(&'static [u8]),
    Close,
    /// Answers as a Redis does, and closes the connection.
    SayAndClose(&'static [u8]),
}

// === impl Odd ===

impl Odd {
    async fn start(then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://:secret@{}", listener.local_addr().unwrap());
        let odd = Self { url, connections: Arc::default(), answers: Arc::default() };
        let (connections, answers) = (Arc::clone(&odd.connections), Arc::clone(&odd.answers));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, SeqCst);
                tokio::spawn(Self::serve(stream, then, Arc::clone(&answers)));
            }
        });
        odd
    }

    async fn serve(stream: TcpStream, then: Then, answers: Arc<AtomicU32>) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let (mut line, mut scripts) = (String::new(), 0);
        while stream.read_line(&mut line).await? > 0 {
            let said: &[u8] = match (line.trim_end(), then) {
                ("AUTH" | "CLIENT", _) => b"+OK\r\n",
                ("PING", _) => b"+PONG\r\n",
                ("EVALSHA", _) if scripts == 0 => {
                    scripts = 1;
                    b":7\r\n"
                }
                ("EVALSHA", Then::Say(answer)) => answer,
                ("EVALSHA", Then::Close) => return Ok(()),
                ("EVALSHA", Then::SayAndClose(answer)) => {
                    stream.write_all(answer).await?;
                    answers.fetch_add(1, SeqCst);
                    stream.shutdown().await?;
                    // What is not read would have the system reset the connection, and the answer be lost.
                    while stream.read(&mut [0; 512]).await? > 0 {}
                    return Ok(());
                }
                _ => b"",
            };
            stream.write_all(said).await?;
            line.clear();
        }
        Ok(())
    }
}

/// What a rate over an odd Redis does for two seconds.
async fn odd(then: Then, expected: Fault) {
    let odd = Odd::start(then).await;
    let redis = Redis::new(&odd.url).unwrap().patience(Duration::from_secs(2));
    let layer = |key, outage| RateLayer::new(&redis, key, 1, HOUR).queue(0).outage(outage);
    let (closed, open) = (layer("closed", Outage::Closed), layer("open", Outage::Open));
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(2) {
        let no = refusal(&closed).await;
        assert_eq!(no.reason(), Reason::Unavailable);
        assert!(no.retry_after().unwrap() <= Duration::from_millis(250), "{no}");
        assert!(passes(&open).await);
        let fault = common::handle(&closed).snapshot().fault.unwrap();
        assert_eq!(fault.fault(), expected, "{fault}");
        assert!(!fault.to_string().contains("secret"), "{fault}");
        sleep(Duration::from_millis(2)).await;
    }
    // The longest pause is 250 ms, of which chance takes off up to a half; the first ones are shorter.
    let most = 6 + (begin.elapsed().as_millis() / 125) as u32;
    let made = odd.connections.load(SeqCst);
    assert!((2..=most).contains(&made), "{made} connections, at most {most}");
}

#[tokio::test]
async fn a_redis_that_closes_instead_of_an_answer_is_away_and_is_left_alone_for_a_while() {
    odd(Then::Close, Fault::Lost).await;
}

#[tokio::test]
async fn a_redis_that_complains_is_away_and_is_left_alone_for_a_while_whatever_it_says() {
    let mut complaints = JoinSet::new();
    for complaint in [
        "-LOADING Redis is loading the dataset in memory\r\n",
        "-BUSY Redis is busy running a script.\r\n",
        "-MISCONF Redis is configured to save\r\n",
        "-MASTERDOWN Link with MASTER is down\r\n",
        "-NOREPLICAS Not enough good replicas to write.\r\n",
        "-OOM command not allowed when used memory > 'maxmemory'.\r\n",
        "-CLUSTERDOWN The cluster is down\r\n",
        "-ERR max number of clients reached\r\n",
        "-no upstream host\r\n",
    ] {
        complaints.spawn(odd(Then::Say(complaint.as_bytes()), Fault::Refused));
    }
    while let Some(done) = complaints.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn a_redis_that_answers_with_what_is_no_bucket_is_away_and_is_left_alone_for_a_while() {
    for nonsense in [&b"+hello\r\n"[..], b":7\r\n", b"*0\r\n", b"*3\r\n$1\r\na\r\n:1\r\n:1\r\n"] {
        odd(Then::Say(nonsense), Fault::NotRedis).await;
    }
}

#[tokio::test]
async fn a_redis_that_answers_with_what_is_no_protocol_is_away_and_is_left_alone_for_a_while() {
    odd(Then::Say(b"\0\0\0\0"), Fault::NotRedis).await;
}

#[tokio::test]
async fn a_redis_that_closes_after_each_answer_lets_as_many_pass_as_it_has_granted() {
    // One token, at once, and the bucket is full again at once.
    let odd = Odd::start(Then::SayAndClose(b"*3\r\n:1\r\n:0\r\n:0\r\n")).await;
    let redis = Redis::new(&odd.url).unwrap().patience(Duration::from_secs(2));
    let layer = RateLayer::new(&redis, "key", 1, HOUR).queue(0).outage(Outage::Closed);
    let (mut passed, begin) = (0, Instant::now());
    while begin.elapsed() < Duration::from_secs(2) {
        match common::call(&layer).await {
            Ok(_) => passed += 1,
            Err(Error::Rejected(no)) => {
                assert_eq!(no.reason(), Reason::Unavailable);
                let fault = common::handle(&layer).snapshot().fault.unwrap();
                assert_eq!(fault.fault(), Fault::Lost, "{fault}");
            }
            Err(other) => panic!("{other:?}"),
        }
        sleep(Duration::from_millis(2)).await;
    }
    assert!(passed >= 2, "{passed} passed");
    assert_eq!(odd.answers.load(SeqCst), passed);
    // An answer that was of use starts the pauses anew; the first is of 25 ms or more.
    let most = 2 + (begin.elapsed().as_millis() / 25) as u32;
    let made = odd.connections.load(SeqCst);
    assert!(made <= most, "{made} connections, at most {most}");
}
