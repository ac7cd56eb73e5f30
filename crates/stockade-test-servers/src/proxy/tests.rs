//! These run on the real clock, so they assert only lower bounds of times.

use std::io::ErrorKind;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Duration, Instant, timeout},
};

use super::*;

/// The longest that a test waits; long enough on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// A server that sends back all that it gets, and a proxy in front of it.
async fn echo() -> Proxy {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(server.local_addr().unwrap()).unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = server.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    proxy
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.addr()).await.unwrap()
}

/// Sends `sent`, and returns what comes back, until it is as long or the connection ends.
async fn exchange(client: &mut TcpStream, sent: &[u8]) -> (Vec<u8>, io::Result<()>) {
    let mut answer = Vec::new();
    let exchange = async {
        client.write_all(sent).await?;
        while answer.len() < sent.len() && client.read_buf(&mut answer).await? > 0 {}
        Ok(())
    };
    let result = timeout(LIMIT, exchange).await.expect("an end in time");
    (answer, result)
}

async fn wait_until(mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LIMIT, waiting).await.expect("so in time");
}

#[tokio::test]
async fn without_a_fault_all_bytes_pass_and_are_counted() {
    let proxy = echo().await;
    let sent: Vec<_> = (0..100_000_u32).map(|n| n as u8).collect();
    let (mut client, other) = (connect(&proxy).await, connect(&proxy).await);
    let (answer, result) = exchange(&mut client, &sent).await;
    result.unwrap();
    assert!(answer == sent);
    wait_until(|| proxy.stats().accepted == 2).await;
    let stats = proxy.stats();
    assert_eq!((stats.request_bytes, stats.answer_bytes), (100_000, 100_000));
    assert_eq!((stats.open, stats.cut), (2, 0));
    drop((client, other));
    wait_until(|| proxy.stats().open == 0).await;
}

#[tokio::test]
async fn closing_one_direction_is_passed_on_and_leaves_the_other_open() {
    let proxy = echo().await;
    let mut client = connect(&proxy).await;
    client.write_all(b"all").await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"all");
}

#[tokio::test]
async fn a_delay_holds_back_each_direction() {
    let proxy = echo().await;
    let by = Duration::from_millis(40);
    proxy.requests(Fault::delay(by));
    proxy.answers(Fault::delay(by));
    let mut client = connect(&proxy).await;
    for _ in 0..2 {
        let start = Instant::now();
        let (answer, _) = exchange(&mut client, b"late").await;
        assert_eq!(answer, b"late");
        assert!(start.elapsed() >= 2 * by);
    }
}

#[tokio::test]
async fn a_stall_holds_everything_back_until_the_proxy_is_healed() {
    let proxy = echo().await;
    let mut client = connect(&proxy).await;
    exchange(&mut client, b"before").await.1.unwrap();
    proxy.answers(Fault::stall());
    client.write_all(b"during").await.unwrap();
    wait_until(|| proxy.stats().request_bytes == 12).await;
    let early = timeout(Duration::from_millis(20), client.read_u8()).await;
    assert!(early.is_err(), "{early:?}");
    proxy.heal();
    let mut answer = [0; 6];
    timeout(LIMIT, client.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"during");
}

#[tokio::test]
async fn a_cut_passes_the_given_number_of_bytes_and_resets_the_connection() {
    let proxy = echo().await;
    let mut client = connect(&proxy).await;
    exchange(&mut client, b"counted from the fault on").await.1.unwrap();
    proxy.answers(Fault::cut(7));
    let (answer, result) = exchange(&mut client, b"a long answer").await;
    assert_eq!(answer, b"a long ");
    assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!((proxy.stats().cut, proxy.stats().answer_bytes), (1, 25 + 7));
}

#[tokio::test]
async fn a_request_can_be_cut_before_any_of_it_reaches_the_server() {
    let proxy = echo().await;
    proxy.requests(Fault::cut(0));
    let mut client = connect(&proxy).await;
    let (answer, result) = exchange(&mut client, b"lost").await;
    assert_eq!((answer, result.unwrap_err().kind()), (vec![], ErrorKind::ConnectionReset));
    assert_eq!(proxy.stats().request_bytes, 0);
}

#[tokio::test]
async fn garbled_bytes_have_all_bits_flipped() {
    let proxy = echo().await;
    proxy.answers(Fault::garble());
    let (answer, _) = exchange(&mut connect(&proxy).await, &[0, 255, 0b1010_0101]).await;
    assert_eq!(answer, [255, 0, 0b0101_1010]);
}

#[tokio::test]
async fn a_throttled_connection_is_not_faster_than_its_rate() {
    let proxy = echo().await;
    proxy.answers(Fault::throttle(10_000));
    let start = Instant::now();
    let (answer, _) = exchange(&mut connect(&proxy).await, &[7; 1_000]).await;
    assert_eq!(answer, [7; 1_000]);
    assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_fault_applies_to_no_more_connections_than_asked_for() {
    let proxy = echo().await;
    proxy.answers(Fault::garble().connections(2));
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = connect(&proxy).await;
        let (answer, _) = exchange(&mut client, &[1]).await;
        clients.push((client, answer));
    }
    for (client, answer) in &mut clients {
        assert_eq!(exchange(client, &[1]).await.0, *answer, "as the first time");
    }
    let answers: Vec<_> = clients.into_iter().flat_map(|(_, answer)| answer).collect();
    assert_eq!(answers, [254, 254, 1]);
}

#[tokio::test]
async fn clients_are_refused_until_the_proxy_is_healed_on_the_same_port() {
    let proxy = echo().await;
    let mut open = connect(&proxy).await;
    exchange(&mut open, b"taken").await.1.unwrap();
    for _ in 0..3 {
        proxy.refuse();
        for _ in 0..20 {
            let error = TcpStream::connect(proxy.addr()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        }
        assert_eq!(exchange(&mut open, b"open").await.0, b"open");
        proxy.heal();
        assert_eq!(exchange(&mut connect(&proxy).await, b"again").await.0, b"again");
    }
    assert_eq!(proxy.stats().accepted, 4);
}

#[tokio::test]
async fn nothing_passes_after_all_connections_are_cut() {
    let proxy = echo().await;
    let mut clients = [connect(&proxy).await, connect(&proxy).await];
    for client in &mut clients {
        exchange(client, b"one").await.1.unwrap();
    }
    proxy.cut();
    for client in &mut clients {
        let (answer, result) = exchange(client, b"two").await;
        assert_eq!(answer, b"");
        assert!(matches!(
            result.unwrap_err().kind(),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
        ));
    }
    assert_eq!(proxy.stats().cut, 2);
    exchange(&mut connect(&proxy).await, b"three").await.1.unwrap();
}

#[tokio::test]
async fn a_connection_that_is_closed_ends_in_good_order_and_counts_until_the_client_has_noticed() {
    let proxy = echo().await;
    let mut client = connect(&proxy).await;
    assert_eq!(exchange(&mut client, b"hello").await.0, b"hello");

    proxy.close();

    let (rest, end) = exchange(&mut client, b"late").await;
    assert!(rest.is_empty() && end.is_ok(), "{rest:?} {end:?}");
    assert_eq!((proxy.stats().open, proxy.stats().cut), (1, 0));
    drop(client);
    wait_until(|| proxy.stats().open == 0).await;
}

#[tokio::test]
async fn a_client_is_reset_if_the_server_is_away() {
    // Bound, so that no other process gets the port, but not listening.
    let away = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let proxy = Proxy::start(away.local_addr().unwrap()).unwrap();
    let (answer, result) = exchange(&mut connect(&proxy).await, b"hello?").await;
    assert_eq!(answer, b"");
    assert!(result.is_err());
}

#[tokio::test]
async fn dropping_the_last_handle_ends_the_proxy_and_its_connections() {
    let proxy = echo().await;
    let mut client = connect(&proxy).await;
    exchange(&mut client, b"on").await.1.unwrap();
    let (addr, other) = (proxy.addr(), proxy.clone());
    drop(proxy);
    exchange(&mut client, b"on").await.1.unwrap();
    drop(other);
    let (answer, _) = exchange(&mut client, b"off").await;
    assert_eq!(answer, b"");
    assert_eq!(TcpStream::connect(addr).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}
