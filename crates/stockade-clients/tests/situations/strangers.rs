//! Servers that are not what the client expects.

use std::{net::SocketAddr, time::Duration};

use stockade_test_servers::proxy::Proxy;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// What an HTTP server says to what is no HTTP.
pub(crate) const HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
/// What a Redis says to an HTTP request.
pub(crate) const REDIS: &[u8] = b"-ERR unknown command 'POST'\r\n";
/// What a Redis says to a client for which it has no room.
pub(crate) const FULL: &[u8] = b"-ERR max number of clients reached\r\n";

/// Says `answer` to what each client says first, and then no more.
pub(crate) async fn say(answer: &'static [u8]) -> SocketAddr {
    accept(move |mut stream| async move {
        let mut heard = [0; 1024];
        let _ = stream.read(&mut heard).await;
        let _ = stream.write_all(answer).await;
        let _ = stream.shutdown().await;
        // What is not read would have the system reset the connection, and the answer be lost.
        while stream.read(&mut heard).await.is_ok_and(|read| read > 0) {}
    })
    .await
}

/// How an HTTP/2 server sends a request back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Back {
    /// With `REFUSED_STREAM`.
    Refused,
    /// With a `GOAWAY` that says that no stream was begun.
    GoAway,
    /// With a `GOAWAY` that says so too, and that something is wrong with the server.
    BreakOff,
    /// With a `GOAWAY` that says that it was begun, and nothing more.
    BreakOffBegun,
    /// With `ENHANCE_YOUR_CALM`.
    TooMuch,
}

/// An HTTP/2 server that sends every request back.
pub(crate) async fn send_back(how: Back) -> SocketAddr {
    accept(move |stream| async move {
        // Ends when the client is gone.
        let _ = refuse(stream, how).await;
    })
    .await
}

async fn refuse(mut stream: TcpStream, how: Back) -> std::io::Result<()> {
    const PREFACE: usize = 24;
    const HEADERS: u8 = 1;
    stream.read_exact(&mut [0; PREFACE]).await?;
    // Settings, and that those of the client are known.
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await?;
    stream.write_all(&[0, 0, 0, 4, 1, 0, 0, 0, 0]).await?;
    loop {
        let mut frame = [0; 9];
        stream.read_exact(&mut frame).await?;
        let [a, b, c, kind, _, id @ ..] = frame;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        stream.read_exact(&mut vec![0; length]).await?;
        if kind == HEADERS {
            let answer = match how {
                Back::Refused => [&[0, 0, 4, 3, 0], &id[..], &[0, 0, 0, 7]].concat(),
                Back::TooMuch => [&[0, 0, 4, 3, 0], &id[..], &[0, 0, 0, 11]].concat(),
                // The last stream that was begun is none, and there was no error.
                Back::GoAway => [&[0, 0, 8, 7, 0], &[0; 12][..]].concat(),
                Back::BreakOff => [&[0, 0, 8, 7, 0], &[0; 8][..], &[0, 0, 0, 2]].concat(),
                Back::BreakOffBegun => {
                    let away = [&[0, 0, 8, 7, 0, 0, 0, 0, 0], &id[..], &[0, 0, 0, 2]].concat();
                    return stream.write_all(&away).await;
                }
            };
            stream.write_all(&answer).await?;
        }
    }
}

/// Serves each connection to a port of its own.
async fn accept<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// Hears what each client says first, and hangs up.
pub(crate) async fn hang_up() -> SocketAddr {
    accept(|mut stream| async move {
        let _ = stream.read(&mut [0; 1024]).await;
    })
    .await
}

/// Waits until no connection through the proxy is open, and so the clients have noticed.
pub(crate) async fn all_closed(proxy: &Proxy) {
    let closed = async {
        while proxy.stats().open > 0 {
            glance().await;
        }
    };
    timeout(Duration::from_secs(60), closed).await.unwrap();
}

/// The pause between two looks at what is waited for.
pub(crate) async fn glance() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}
