//! Redis that is killed, crowded, busy and behind a bad network.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod ledger;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ledger::{ATTEMPT, Rig, within};
use redis::{
    AsyncConnectionConfig, Client, RedisError, RedisResult,
    aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection},
};
use stockade_clients::redis::Redis as Judge;
use stockade_core::{Class, Classify, Error, Reason};
use stockade_retry::{Backoff, Budget, RetryLayer};
use stockade_test_servers::{
    Redis,
    proxy::{Fault, Proxy},
};
use stockade_timeout::TimeoutLayer;
use tokio::time::sleep;
use tower::{ServiceBuilder, ServiceExt, service_fn};

/// A connection that makes itself anew, and repeats nothing: the layers do.
async fn manager(url: &str) -> ConnectionManager {
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(0)
        .set_connection_timeout(Some(ATTEMPT / 2))
        .set_response_timeout(None);
    ConnectionManager::new_with_config(Client::open(url).unwrap(), config).await.unwrap()
}

/// A connection that ends when it is lost.
async fn connect(url: String) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await
}

/// Adds a number to a list unless it is in a set, both in one step: so it may be repeated.
const WRITE: &str = "if redis.call('SADD', KEYS[1], ARGV[1]) == 1 then
    redis.call('RPUSH', KEYS[2], ARGV[1]) end";

async fn write(mut connection: ConnectionManager, id: i64) -> RedisResult<()> {
    redis::cmd("EVAL")
        .arg(WRITE)
        .arg(2)
        .arg("numbers")
        .arg("written")
        .arg(id)
        .query_async(&mut connection)
        .await
}

fn rig(connection: &ConnectionManager) -> Arc<Rig<RedisError>> {
    let connection = connection.clone();
    Arc::new(Rig::new(service_fn(move |id| write(connection.clone(), id)), Judge::new()))
}

/// All numbers below `count` are there, each exactly once.
async fn check(url: String, count: i64) {
    let mut connection = connect(url).await.unwrap();
    let written: Vec<i64> = redis::cmd("LRANGE")
        .arg(&["written", "0", "-1"])
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(written.len(), usize::try_from(count).unwrap());
    assert!(written.into_iter().collect::<BTreeSet<_>>().into_iter().eq(0..count));
}

fn class(error: &Error<RedisError>) -> Class {
    Judge::new().classify(Err::<&(), _>(error))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_under_load_costs_no_entry_and_doubles_none() {
    let mut server = Redis::new().durable().start().await.unwrap();
    let url = server.url();
    let rig = rig(&manager(&url).await);
    let load = rig.load();

    for _ in 0..2 {
        load.written(200).await;
        // Both need the server, one after the other.
        let cell = tokio::sync::Mutex::new(&mut server);
        rig.outage(
            async || {
                cell.lock().await.kill().await;
                Ok(())
            },
            async || Ok(cell.lock().await.restart().await?),
        )
        .await;
    }
    load.written(200).await;

    let written = load.stop().await;
    check(url, written).await;
    rig.check_amplification();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_does_its_worst_costs_no_entry_and_doubles_none() {
    let server = Redis::new().durable().start().await.unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let rig = rig(&manager(&server.url_at(proxy.addr())).await);
    let load = rig.load();
    load.written(50).await;

    proxy.answers(Fault::delay(Duration::from_millis(5)));
    load.written(50).await;
    proxy.answers(Fault::throttle(20_000));
    load.written(50).await;
    proxy.answers(Fault::garble().connections(1));
    load.written(50).await;
    proxy.heal();
    // What was read wrong so far may have a client wait for more of it.
    proxy.cut();

    rig.outage(
        async || {
            proxy.answers(Fault::stall());
            Ok(())
        },
        async || {
            proxy.heal();
            Ok(())
        },
    )
    .await;
    load.written(50).await;

    // After that many bytes of answers: what was done by then is not known.
    for after in [1, 20, 100, 300] {
        proxy.answers(Fault::cut(after).connections(1));
        load.written(50).await;
        proxy.heal();
    }
    rig.outage(
        async || {
            proxy.refuse();
            proxy.cut();
            Ok(())
        },
        async || {
            proxy.heal();
            Ok(())
        },
    )
    .await;
    load.written(50).await;

    let written = load.stop().await;
    check(server.url(), written).await;
    rig.check_amplification();
    assert!(proxy.stats().cut > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_meets_the_limit_of_clients_is_let_in_once_there_is_room() {
    let server = Redis::new().set("maxclients", "2").start().await.unwrap();
    let held = [connect(server.url()).await.unwrap(), connect(server.url()).await.unwrap()];
    let ping = |url: String| async move {
        let mut connection = connect(url).await?;
        redis::cmd("PING").query_async::<()>(&mut connection).await
    };

    // Whether the client hears why, or only that it was cut off, is a matter of luck.
    let error = Error::Service(ping(server.url()).await.unwrap_err());
    let (no_effect, lost) = (Class::NoEffect { after: None }, Class::Transient { after: None });
    assert!([no_effect, lost].contains(&class(&error)), "{error:?}");

    let retry = RetryLayer::max_attempts(1_000)
        .backoff(Backoff::constant(Duration::from_millis(5)))
        .budget(Budget::unlimited())
        .classify(Judge::new());
    let (retry, retries) = retry.with_handle();
    let stack = ServiceBuilder::new().layer(retry).map_err(Error::Service).service_fn(ping);
    let call = tokio::spawn(stack.oneshot(server.url()));
    within(async {
        while retries.stats().retried < 2 {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    drop(held);

    within(call).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_hangs_is_timed_out_and_a_busy_server_says_so() {
    let server = Redis::new().set("lua-time-limit", "20").start().await.unwrap();
    let mut other = connect(server.url()).await.unwrap();
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(ATTEMPT))
        .map_err(Error::Service)
        .service_fn(|mut connection: MultiplexedConnection| async move {
            let forever = redis::cmd("EVAL").arg("while true do end").arg(0).to_owned();
            forever.query_async::<()>(&mut connection).await
        });

    let hanging = connect(server.url()).await.unwrap();
    let error = within(stack.oneshot(hanging)).await.unwrap_err();
    let Error::Rejected(no) = error else { panic!("{error}") };
    assert_eq!(no.reason(), Reason::Elapsed);

    // To everybody else the server is busy, and that is for another time.
    let busy = redis::cmd("SET").arg(&["key", "1"]).query_async::<()>(&mut other).await;
    let error = Error::Service(busy.unwrap_err());
    assert_eq!(class(&error), Class::Transient { after: None }, "{error}");
    assert!(error.to_string().contains("BUSY"), "{error}");

    redis::cmd("SCRIPT").arg("KILL").query_async::<()>(&mut other).await.unwrap();
    let set = redis::cmd("SET").arg(&["key", "1"]).to_owned();
    within(async { while set.query_async::<()>(&mut other).await.is_err() {} }).await;
}

#[tokio::test]
async fn a_transaction_that_a_replica_discarded_is_for_another_time() {
    let server = Redis::new().start().await.unwrap();
    let mut connection = connect(server.url()).await.unwrap();
    let follow = redis::cmd("REPLICAOF").arg(&["127.0.0.1", "1"]).to_owned();
    follow.query_async::<()>(&mut connection).await.unwrap();

    let mut transaction = redis::pipe();
    transaction.atomic().incr("counter", 1).incr("counter", 1);
    let error = transaction.query_async::<()>(&mut connection).await.unwrap_err();
    assert_eq!(error.code(), Some("EXECABORT"), "{error}");

    let error = Error::Service(error);
    assert_eq!(class(&error), Class::Transient { after: None });
    let gated = Judge::new().gated().classify(Err::<&(), _>(&error));
    assert_eq!(gated, Class::NoEffect { after: None }, "none of it ran");

    // A command that is wrong is so on every server.
    let mut wrong = redis::pipe();
    wrong.atomic().cmd("NOSUCHCOMMAND");
    let error = wrong.query_async::<()>(&mut connection).await.unwrap_err();
    assert_eq!(class(&Error::Service(error)), Class::Permanent);
}
