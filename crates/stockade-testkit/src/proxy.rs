//! A TCP proxy that does to real connections what a bad network does.
//!
//! [`Proxy`] says how to use it, and [`Fault`] what it can do.
//!
//! The port is kept by a socket that is bound and never listens, beside the one that does. So closing the
//! listening one has the system refuse connections without the port going to anybody else, not even to a
//! client that dials out from it, and it can be opened again.

mod connection;
mod fault;

use std::{
    future::poll_fn,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
};

use stockade_core::internal::{lock, sync::Mutex};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Handle,
    sync::watch,
    task::{AbortHandle, JoinSet, yield_now},
};

use connection::Connection;
pub use fault::Fault;
use fault::Strike;

/// A TCP proxy on loopback that does to its connections what a bad network does.
///
/// It stands between a client and a real server, and passes all bytes until it is told otherwise. What it is
/// told holds for open connections as well as for new ones, from the next byte on.
///
/// It runs on the runtime that started it, on real sockets, and so on the real clock: a paused one would jump
/// ahead while the bytes are on their way. If the server does not take a connection, the proxy resets the
/// client's; to a client, that is not a refusal.
///
/// A clone controls the same proxy, and dropping the last one ends it with all its connections.
///
/// # Example
///
/// ```
/// use std::io;
/// use stockade_testkit::proxy::{Fault, Proxy};
/// use tokio::{io::AsyncReadExt, io::AsyncWriteExt, net::{TcpListener, TcpStream}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> io::Result<()> {
/// let server = TcpListener::bind("127.0.0.1:0").await?;
/// let proxy = Proxy::start(server.local_addr()?)?;
/// proxy.answers(Fault::cut(3));
///
/// let mut client = TcpStream::connect(proxy.addr()).await?;
/// server.accept().await?.0.write_all(b"hello").await?;
/// let mut answer = Vec::new();
/// let error = client.read_to_end(&mut answer).await.expect_err("the proxy cuts it");
/// assert_eq!((error.kind(), &*answer), (io::ErrorKind::ConnectionReset, &b"hel"[..]));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Proxy(Arc<Running>);

/// What a [`Proxy`] has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that clients made.
    pub accepted: u64,
    /// Those that are open now.
    pub open: u64,
    /// Those that the proxy has reset, for a fault or by [`Proxy::cut`].
    pub cut: u64,
    /// Bytes passed on to the server.
    pub request_bytes: u64,
    /// Bytes passed on to clients.
    pub answer_bytes: u64,
}

/// What the handles share with the connections.
#[derive(Debug)]
struct Shared {
    addr: SocketAddr,
    target: SocketAddr,
    requests: watch::Sender<Strike>,
    answers: watch::Sender<Strike>,
    /// Changes when all open connections are to be reset.
    cuts: watch::Sender<()>,
    door: Mutex<Door>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    closed: AtomicU64,
    cut: AtomicU64,
    requests: AtomicU64,
    answers: AtomicU64,
}

/// Where clients come in.
#[derive(Debug)]
struct Door {
    /// Holds the port, and never listens.
    _place: TcpSocket,
    /// None: connections are refused.
    listener: Option<TcpListener>,
    runtime: Handle,
    /// Of the task that accepts, while there is no listener for it to wait at.
    waker: Option<Waker>,
}

/// Ends the proxy when it is dropped.
#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    /// The task that accepts, and that holds the connections.
    task: AbortHandle,
}

// === impl Proxy ===

impl Proxy {
    /// A proxy for the server at `target`, on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// When the system has no port to give.
    ///
    /// # Panics
    ///
    /// Outside of a runtime with IO enabled.
    pub fn start(target: SocketAddr) -> io::Result<Self> {
        let place = bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let addr = place.local_addr()?;
        let door = Door {
            _place: place,
            listener: Some(listen(addr)?),
            runtime: Handle::current(),
            waker: None,
        };
        let shared = Arc::new(Shared {
            addr,
            target,
            requests: watch::Sender::default(),
            answers: watch::Sender::default(),
            cuts: watch::Sender::default(),
            door: Mutex::new(door),
            counts: Counts::default(),
        });
        let task = tokio::spawn(accept(Arc::clone(&shared))).abort_handle();
        Ok(Self(Arc::new(Running { shared, task })))
    }

    /// Where clients are to connect.
    pub fn addr(&self) -> SocketAddr {
        self.0.shared.addr
    }

    /// What happens from now on to the bytes from the server to clients.
    pub fn answers(&self, fault: Fault) {
        self.0.shared.answers.send_replace(Strike::new(fault));
    }

    /// What happens from now on to the bytes from clients to the server.
    pub fn requests(&self, fault: Fault) {
        self.0.shared.requests.send_replace(Strike::new(fault));
    }

    /// Refuses new connections from now on, as if no server ran. Those that it has accepted stay open.
    pub fn refuse(&self) {
        lock(&self.0.shared.door).listener = None;
    }

    /// Resets every connection that is open. Nothing passes on them from now on.
    pub fn cut(&self) {
        self.0.shared.cuts.send_replace(());
    }

    /// Takes connections again, and passes all bytes unharmed.
    ///
    /// # Panics
    ///
    /// If connections were refused, and the system does not let it listen again.
    pub fn heal(&self) {
        self.answers(Fault::none());
        self.requests(Fault::none());
        lock(&self.0.shared.door).open(self.0.shared.addr);
    }

    /// What it has seen so far.
    pub fn stats(&self) -> Stats {
        let Counts { accepted, closed, cut, requests, answers } = &self.0.shared.counts;
        let closed = closed.load(Relaxed);
        let accepted = accepted.load(Relaxed);
        Stats {
            accepted,
            open: accepted.saturating_sub(closed),
            cut: cut.load(Relaxed),
            request_bytes: requests.load(Relaxed),
            answer_bytes: answers.load(Relaxed),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        lock(&self.shared.door).listener = None;
        self.task.abort();
    }
}

// === impl Door ===

impl Door {
    fn open(&mut self, addr: SocketAddr) {
        if self.listener.is_some() {
            return;
        }
        let _runtime = self.runtime.enter();
        self.listener = Some(listen(addr).expect("the port is held by a socket of ours"));
        self.waker.take().into_iter().for_each(Waker::wake);
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        // Kept even while there is a listener: one that is dropped takes its own waker with it.
        self.waker = Some(cx.waker().clone());
        match &self.listener {
            Some(listener) => {
                Poll::Ready(ready!(listener.poll_accept(cx)).map(|(stream, _)| stream))
            }
            None => Poll::Pending,
        }
    }
}

fn bind(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Without it no second socket could be bound to the same port.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    bind(addr)?.listen(1_024)
}

async fn accept(shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = poll_fn(|cx| {
            while let Poll::Ready(Some(_)) = connections.poll_join_next(cx) {}
            lock(&shared.door).poll_accept(cx)
        });
        match accepted.await {
            Ok(client) => {
                let connection = Connection::new(Arc::clone(&shared));
                connections.spawn(connection.run(client));
            }
            // That of one connection, which was gone before it was taken.
            Err(_) => yield_now().await,
        }
    }
}

#[cfg(test)]
mod tests;
