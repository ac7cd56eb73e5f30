//! Servers start, are killed and come back.

use std::io;

use stockade_test_servers::{Postgres, Redis, Server};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Sends one command to a Redis, and returns the answer.
async fn ask(server: &Server, command: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(server.address()).await?;
    stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.trim_end_matches("+OK\r\n").to_owned())
}

#[tokio::test]
async fn a_killed_server_refuses_and_comes_back_with_what_it_has_stored() {
    let mut redis = Redis::new().durable().start().await.unwrap();
    assert!(redis.url().starts_with("redis://127.0.0.1:"));
    ask(&redis, "SET answer 42").await.unwrap();

    redis.kill().await;
    let refused = ask(&redis, "GET answer").await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);

    redis.restart().await.unwrap();
    assert_eq!(ask(&redis, "GET answer").await.unwrap(), "$2\r\n42\r\n");
}

#[tokio::test]
async fn a_dropped_server_is_gone() {
    let redis = Redis::new().start().await.unwrap();
    let address = redis.address();

    drop(redis);

    let refused = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_killed_postgres_starts_again_on_the_same_port() {
    let mut postgres = Postgres::new().set("max_connections", "8").start().await.unwrap();
    let address = postgres.address();
    assert_eq!(postgres.url(), format!("postgres://postgres@{address}/postgres"));

    postgres.restart().await.unwrap();

    TcpStream::connect(address).await.unwrap();
}

#[tokio::test]
async fn a_wrong_setting_is_reported_in_the_words_of_the_server() {
    let error = Postgres::new().set("no_such_setting", "1").start().await.unwrap_err();

    assert!(error.to_string().contains("no_such_setting"), "{error}");
}
