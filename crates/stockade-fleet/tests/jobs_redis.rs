//! Jobs of a queue in Redis.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]
#![cfg(feature = "apalis")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use apalis_core::{
    backend::TaskSink,
    worker::{builder::WorkerBuilder, context::WorkerContext},
};
use apalis_redis::{Config, ConnectionManager, RedisStorage};
use stockade_core::BoxError;
use stockade_fleet::jobs::{self, JobsLayer};
use stockade_rate::RateLayer;
use stockade_test_servers as servers;
use tokio::time::{sleep, timeout};
use tower::{Layer, ServiceBuilder};

const LONG: Duration = Duration::from_secs(180);

#[tokio::test]
async fn ten_jobs_through_a_stack_that_refuses_are_all_done_and_the_worker_returns() {
    let server = servers::Redis::new().start().await.unwrap();
    let client = apalis_redis::Client::open(server.url()).unwrap();
    let connection = ConnectionManager::new(client).await.unwrap();
    // It looks for jobs with each heartbeat. On a busy machine it may miss many, and must not take itself for dead then:
    // what it had in hand would go to a worker that it no longer is.
    let config = Config::default().queue("test").heartbeat_interval(Duration::from_millis(100));
    let config = config.missed_heartbeats(600);
    let mut storage = RedisStorage::<u32>::new(connection).with_config(config);
    for job in 0..10 {
        storage.push(job).await.unwrap();
    }
    let worker = WorkerContext::new("worker");
    let done = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&done);
    let stack = ServiceBuilder::new().layer(RateLayer::per_second(5).burst(1).queue(0)).service_fn(
        move |job: u32| {
            log.lock().unwrap().push(job);
            async { Ok::<_, BoxError>(()) }
        },
    );
    let service = JobsLayer::new(jobs::repush(storage.clone())).layer(stack);
    let running = tokio::spawn(WorkerBuilder::new(&worker).backend(storage).build(service).run());
    let all = async {
        while done.lock().unwrap().len() < 10 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    if timeout(LONG, all).await.is_err() {
        panic!("only {:?} are done", done.lock().unwrap());
    }
    worker.stop().unwrap();
    timeout(LONG, running).await.expect("the worker returns").unwrap().unwrap();

    let mut done = done.lock().unwrap().clone();
    done.sort_unstable();
    assert_eq!(done, (0..10).collect::<Vec<_>>());
}
