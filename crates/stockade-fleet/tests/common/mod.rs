//! What the tests share.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]
#![allow(dead_code, unreachable_pub, reason = "no test uses all of it")]

use std::{
    future::{Ready, ready},
    sync::{Arc, Mutex},
    time::Duration,
};

use redis::Value;
use stockade_core::{Error, Rejected};
use stockade_fleet::{
    Redis,
    rate::{Policy, PolicyFor, RateHandle, RateLayer},
};
use stockade_test_servers::{self as servers, Server};
use tower::{Layer, ServiceExt, service_fn};

pub type Answer = Result<u32, Error<()>>;

/// A Redis of one's own, and the way to it.
pub async fn server() -> (Server, Redis) {
    let server = servers::Redis::new().start().await.unwrap();
    // Patient, lest a busy machine count as a Redis that is away.
    let redis = Redis::new(&server.url()).unwrap().patience(Duration::from_secs(2));
    redis.check().await.unwrap();
    (server, redis)
}

pub fn handle<P: Policy<Handle = RateHandle> + Clone>(layer: &RateLayer<P>) -> RateHandle {
    layer.layer(()).handle()
}

pub fn echo(n: u32) -> Ready<Answer> {
    ready(Ok(n))
}

pub async fn call<P>(layer: &RateLayer<P>) -> Answer
where
    P: Policy + PolicyFor<u32> + Clone,
{
    layer.layer(service_fn(echo)).oneshot(1).await
}

pub async fn passes<P: PolicyFor<u32> + Clone>(layer: &RateLayer<P>) -> bool {
    call(layer).await.is_ok()
}

pub async fn refusal<P: PolicyFor<u32> + Clone>(layer: &RateLayer<P>) -> Rejected {
    match call(layer).await {
        Err(Error::Rejected(rejected)) => rejected,
        other => panic!("expected a refusal: {other:?}"),
    }
}

/// What was called, in the order of the calls.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u32>>>);

impl Log {
    pub fn recorder(&self) -> impl Fn(u32) -> Ready<Answer> + Clone + use<> {
        let log = Arc::clone(&self.0);
        move |n| {
            log.lock().unwrap().push(n);
            echo(n)
        }
    }

    pub fn order(&self) -> Vec<u32> {
        self.0.lock().unwrap().clone()
    }
}

/// Sends the server a command of one's own.
pub async fn command(server: &Server, words: &[&str]) -> redis::RedisResult<Value> {
    let client = redis::Client::open(server.url())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let mut command = redis::cmd(words[0]);
    for word in &words[1..] {
        command.arg(*word);
    }
    command.query_async(&mut connection).await
}

pub async fn keys(server: &Server, pattern: &str) -> Vec<String> {
    redis::from_redis_value(command(server, &["KEYS", pattern]).await.unwrap()).unwrap()
}

/// The time of the server's clock.
pub async fn time(server: &Server) -> Duration {
    let time = command(server, &["TIME"]).await.unwrap();
    let (seconds, micros): (u64, u64) = redis::from_redis_value(time).unwrap();
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

/// When the bucket will be full, by the server's clock, unless it is.
pub async fn full_at(server: &Server, key: &str) -> Option<Duration> {
    let kept = command(server, &["GET", key]).await.unwrap();
    let kept: String = redis::from_redis_value::<Option<String>>(kept).unwrap()?;
    let parts: Vec<u64> = kept.split(':').map(|part| part.parse().unwrap()).collect();
    Some(Duration::from_secs(parts[0]) + Duration::from_nanos(parts[1]))
}
