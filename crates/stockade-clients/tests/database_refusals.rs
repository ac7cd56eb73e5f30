//! What one is told when a database cannot be reached, or will not have one: the host, what to do, and no password.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use std::{error::Error as StdError, net::SocketAddr, time::Duration};

use common::{SECRET, everything_said, logged, nobody};
use redis::{AsyncConnectionConfig, Client, TlsCertificates, aio::MultiplexedConnection};
use sqlx::{Connection as _, PgConnection};
use stockade_clients::{
    ConnectError, Failure, connect,
    redis::Redis as RedisJudge,
    sql::{Sqlx, TokioPostgres},
};
use stockade_core::{Class, Classify, Error};
use stockade_test_servers::{
    Postgres, Redis,
    proxy::{Fault, Proxy},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::{Instant, timeout},
};
use tokio_postgres::NoTls;

const LIMIT: Duration = Duration::from_millis(500);
/// What a machine that is busy may take on top.
const SLACK: Duration = Duration::from_secs(60);

const UNSENT: Class = Class::NoEffect { after: None };
const TRANSIENT: Class = Class::Transient { after: None };

/// What three clients are told at a URL, each with the class of it; the URL has no scheme.
async fn refusals(limit: Duration, postgres: &str, redis: &str) -> [(String, Class); 3] {
    let begin = Instant::now();
    let sql = format!("postgres://{postgres}");
    let sqlx = connect(&sql, limit, PgConnection::connect(&sql)).await;
    let tokio = connect(&sql, limit, tokio_postgres::connect(&sql, NoTls)).await;
    let url = format!("redis://{redis}");
    let redis = connect(&url, limit, open(&url)).await;
    let told = [
        tell(sqlx.err().unwrap(), Sqlx::new()),
        tell(tokio.err().unwrap(), TokioPostgres::new()),
        tell(redis.err().unwrap(), RedisJudge::new()),
    ];
    assert!(begin.elapsed() < 3 * limit + SLACK);
    told
}

async fn open(url: &str) -> redis::RedisResult<MultiplexedConnection> {
    // Its own limit is a second, which is little on a busy machine.
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(SLACK));
    Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await
}

/// What `failure` says, which is no secret, and its class.
fn tell<E, C>(failure: Failure<ConnectError<E>>, classify: C) -> (String, Class)
where
    E: StdError + 'static,
    C: Classify<(), Error<Failure<ConnectError<E>>>>,
{
    let said = everything_said(&failure);
    assert!(!said.contains(SECRET), "{said}");
    let error = Error::Service(failure);
    (error.to_string(), classify.classify(Err(&error)))
}

fn all_say(told: &[(String, Class); 3], host: SocketAddr, what: &str, class: Class) {
    for (message, judged) in told {
        assert!(message.starts_with(&format!("{host}: ")), "{message}");
        assert!(message.contains(what), "{message}");
        assert_eq!(*judged, class, "{message}");
    }
}

/// A server that says `greeting` to everybody, and keeps the connection.
async fn nonsense(greeting: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(greeting).await;
            kept.push(stream);
        }
    });
    host
}

#[tokio::test]
async fn a_server_that_is_away_is_named_with_what_to_do() {
    let (_place, host) = nobody();
    let url = format!("me:{SECRET}@{host}/0");

    let told = refusals(SLACK, &url, &url).await;

    all_say(&told, host, "connection refused; check the port, and that the server runs", UNSENT);
}

#[tokio::test]
async fn a_server_that_says_nothing_is_not_waited_for() {
    let host = nonsense(b"").await;
    let url = format!("me:{SECRET}@{host}/0");

    let told = refusals(LIMIT, &url, &url).await;

    all_say(&told, host, "no connection in time; check the address", UNSENT);
}

#[tokio::test]
async fn a_server_that_answers_nonsense_is_named_with_what_to_do() {
    let host = nonsense(b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0").await;
    let url = format!("me:{SECRET}@{host}/0");

    let told = refusals(SLACK, &url, &url).await;

    let [sqlx, tokio, redis] = &told;
    for (message, class) in [sqlx, tokio] {
        assert!(message.contains("the answer is no PostgreSQL; check"), "{message}");
        assert_eq!(*class, TRANSIENT);
    }
    assert!(redis.0.contains("the answer is no Redis; check"), "{}", redis.0);
    assert_eq!(redis.1, TRANSIENT);
}

#[tokio::test]
async fn a_server_of_another_kind_is_told_within_the_limit() {
    let host = nonsense(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let url = format!("me:{SECRET}@{host}/0");

    for (message, _) in refusals(LIMIT, &url, &url).await {
        assert!(
            message.starts_with(&format!("{host}: ")) && message.contains("; check"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_redis_that_has_no_room_and_hangs_up_is_not_taken_for_one_with_another_password() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"-ERR max number of clients reached\r\n").await;
            let _ = stream.shutdown().await;
            // What is not read would have the system reset the connection, and the answer be lost.
            while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
        }
    });
    for protocol in ["resp2", "resp3"] {
        let url = format!("redis://me:{SECRET}@{host}/0?protocol={protocol}");
        let failure = connect(&url, SLACK, open(&url)).await.err().unwrap();
        let (message, class) = tell(failure, RedisJudge::new());
        assert!([UNSENT, TRANSIENT].contains(&class), "{protocol}: {class:?}: {message}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_and_not_repeated() {
    let postgres = Postgres::new().password("right").start().await.unwrap();
    let redis = Redis::new().password("right").start().await.unwrap();

    let told = refusals(
        SLACK,
        &format!("postgres:{SECRET}@{}/postgres", postgres.address()),
        &format!(":{SECRET}@{}", redis.address()),
    )
    .await;

    for ((message, class), host) in
        told.iter().zip([postgres.address(), postgres.address(), redis.address()])
    {
        assert!(message.starts_with(&format!("{host}: ")), "{message}");
        assert!(message.contains("no such user and password; check them"), "{message}");
        assert_eq!(*class, Class::Permanent, "{message}");
    }
}

#[tokio::test]
async fn a_database_that_is_not_there_is_told() {
    let server = Postgres::new().start().await.unwrap();
    let url = format!("postgres://postgres:{SECRET}@{}/missing", server.address());

    let failure = connect(&url, SLACK, PgConnection::connect(&url)).await.unwrap_err();

    let (message, class) = tell(failure, Sqlx::new());
    assert_eq!(class, Class::Permanent);
    assert!(message.contains("no such database; check its name"), "{message}");
}

#[tokio::test]
async fn a_wrong_url_is_told_without_the_password_in_it() {
    for port in ["none", "99999"] {
        let url = format!("me:{SECRET}@127.0.0.1:{port}/0");
        for (message, class) in refusals(SLACK, &url, &url).await {
            assert!(message.contains("the URL or an option is wrong; write "), "{message}");
            assert_eq!(class, Class::Permanent, "{message}");
        }
    }
}

#[tokio::test]
async fn no_password_is_logged() {
    let log = logged();
    let postgres = Postgres::new().password(SECRET).start().await.unwrap();
    let redis = Redis::new().password(SECRET).start().await.unwrap();
    let proxy = Proxy::start(postgres.address()).unwrap();
    let url = postgres.url_at(proxy.addr());

    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::query("SELECT 1").execute(&mut connection).await.unwrap();
    let (client, work) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(work);
    let mut cache = open(&redis.url()).await.unwrap();
    redis::cmd("PING").query_async::<()>(&mut cache).await.unwrap();

    proxy.answers(Fault::cut(1));
    let lost = sqlx::query("SELECT 2").execute(&mut connection).await.unwrap_err();
    let lost = Failure::at(&url, lost);
    let said = everything_said(&lost);
    assert!(lost.to_string().contains("connection lost"), "{said}");
    assert!(!said.contains(SECRET), "{said}");
    timeout(SLACK, client.simple_query("SELECT 2")).await.unwrap().unwrap_err();
    drop(redis);
    redis::cmd("PING").query_async::<()>(&mut cache).await.unwrap_err();

    let log = log();
    assert!(log.contains("SELECT 1"), "nothing was logged: {log}");
    assert!(!log.contains(SECRET), "{log}");
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_named_with_what_to_check() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let own = rcgen::generate_simple_self_signed(["other.example".to_owned()]).unwrap();
    let (certificate, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    let server = Redis::new().tls(&certificate, &key, &certificate).password(SECRET);
    let server = server.start().await.unwrap();
    let (url, host) = (server.url(), server.address());
    let roots = |root_cert| TlsCertificates { client_tls: None, root_cert };
    let trusted = roots(Some(certificate.into_bytes()));
    let what = "check the host in the URL, and which authorities the client trusts";

    for (certificates, why) in [(roots(None), "UnknownIssuer"), (trusted, "not valid for name")] {
        let client = Client::build_with_tls(url.as_str(), certificates).unwrap();
        let connecting = client.get_multiplexed_async_connection();
        let failure = connect(&url, SLACK, connecting).await.err().unwrap();
        let (message, class) = tell(failure, RedisJudge::new());
        let begin = format!("{host}: invalid peer certificate: ");
        assert!(message.starts_with(&begin) && message.contains(why), "{message}");
        assert!(message.ends_with(what), "{message}");
        assert_eq!(class, Class::Permanent, "it would be the same again");
    }
}

#[tokio::test]
async fn a_password_of_all_that_is_special_in_a_url_works_and_is_not_shown() {
    const SPECIAL: &str = "hunter2 !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";
    let redis = Redis::new().password(SPECIAL).start().await.unwrap();
    let postgres = Postgres::new().password(SPECIAL).start().await.unwrap();
    let (redis_url, sql) = (redis.url(), postgres.url());

    connect(&redis_url, SLACK, open(&redis_url)).await.unwrap();
    connect(&sql, SLACK, PgConnection::connect(&sql)).await.unwrap();
    drop(connect(&sql, SLACK, tokio_postgres::connect(&sql, NoTls)).await.unwrap());

    // The last character is another one.
    let wrong = |url: &str| url.split_once("://").unwrap().1.replacen("%7E@", "%21@", 1);
    let told = refusals(SLACK, &wrong(&sql), &wrong(&redis_url)).await;
    let hosts = [postgres.address(), postgres.address(), redis.address()];
    for ((message, class), host) in told.iter().zip(hosts) {
        assert!(
            message.starts_with(&format!("{host}: the server knows no such user")),
            "{message}"
        );
        assert_eq!(*class, Class::Permanent);
    }
}
