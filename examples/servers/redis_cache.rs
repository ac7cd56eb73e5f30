//! A cache in Redis in front of something slow. When the cache is down, it is soon left alone, and no caller notices.
//!
//! `cargo run --example redis_cache [URL]`; without a URL it starts a Redis of its own, and kills it halfway.

use std::{
    env,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use redis::{
    Client, Cmd, FromRedisValue, RedisError, Value,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use stockade::{
    BoxError, BreakerLayer, Error, RetryLayer, TimeoutLayer,
    breaker::{State, Window},
};
use stockade_clients::{connect, redis::Redis};
use stockade_test_servers as servers;
use tower::{Service, ServiceBuilder, ServiceExt};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut own =
        if env::args().len() > 1 { None } else { Some(servers::Redis::new().start().await?) };
    let url = own.as_ref().map_or_else(|| env::args().nth(1).unwrap_or_default(), |own| own.url());
    let limit = Duration::from_secs(2);
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(0) // the retry layer does that
        .set_response_timeout(None); // and the timeout layer this
    let manager = connect(&url, limit, async {
        Client::open(&*url)?.get_connection_manager_with_config(config).await
    });
    let manager = manager.await.map_err(|no| no.to_string())?;

    // A cache should be fast or not asked: a short timeout, one retry, and a breaker that opens soon.
    let breaker = BreakerLayer::new()
        .window(Window::calls(10))
        .consecutive(3)
        .open_for(Duration::from_secs(5))
        .classify(Redis::new());
    let (breaker, state) = breaker.with_handle();
    let mut cache = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_millis(100)))
        .layer(
            RetryLayer::max_attempts(2)
                .classify(Redis::new())
                .clone_request(|cmd: &Cmd| Some(cmd.clone())),
        )
        .layer(breaker)
        .map_err(Error::Service)
        .service_fn(move |cmd| run(manager.clone(), cmd));
    stockade::check::<Cmd>(&cache);

    let prefix = format!("stockade:{}", std::process::id());
    for n in 0..100 {
        assert_eq!(get(&mut cache, &prefix, n % 20).await?, (n % 20) * 2);
    }
    let computed = COMPUTED.swap(0, Relaxed);
    println!("100 answers, {computed} of them computed");
    assert_eq!((computed, state.state()), (20, State::Closed));

    if let Some(own) = &mut own {
        own.kill().await;
        for n in 0..100 {
            assert_eq!(get(&mut cache, &prefix, n % 20).await?, (n % 20) * 2);
        }
        let refused = state.snapshot().refused;
        println!("without the cache: 100 answers, all computed; it was left alone {refused} times");
        assert_eq!((COMPUTED.load(Relaxed), state.state()), (100, State::Open));
        assert!(refused > 100, "two commands an answer, and few of them reached for it");
    }
    Ok(())
}

async fn run(mut manager: ConnectionManager, cmd: Cmd) -> Result<Value, RedisError> {
    cmd.query_async(&mut manager).await
}

/// Returns the value from the cache, or computes it. An error of the cache is not an error.
async fn get<S>(cache: &mut S, prefix: &str, n: u32) -> Result<u32, BoxError>
where
    S: Service<Cmd, Response = Value, Error = Error<RedisError>>,
{
    let key = format!("{prefix}:{n}");
    if let Ok(found) = cache.ready().await?.call(Cmd::get(&key)).await
        && let Some(value) = Option::from_redis_value(found)?
    {
        return Ok(value);
    }
    COMPUTED.fetch_add(1, Relaxed);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let _ = cache.ready().await?.call(Cmd::set_ex(&key, n * 2, 60)).await;
    Ok(n * 2)
}

static COMPUTED: AtomicU32 = AtomicU32::new(0);
