//! A TCP proxy that behaves like a bad network: see [`Proxy`] for its use and [`Fault`] for what it can do.
//!
//! To refuse connections and still keep the port, it has two sockets: one listens, the other is only bound. When the
//! listening one is closed, the system refuses connections, and the bound one keeps the port from being handed out.

mod connection;
mod fault;

use std::{
    future::poll_fn,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Handle,
    sync::watch,
    task::{AbortHandle, JoinSet, yield_now},
};

use connection::Connection;
pub use fault::Fault;
use fault::Strike;

/// A TCP proxy on 127.0.0.1 that behaves like a bad network.
///
/// It sits between a client and a real server and passes all bytes on, until a fault is set. A fault applies to open
/// and to new connections, from the next byte on.
///
/// It runs on the runtime that started it, and needs the real clock: a paused clock jumps ahead while bytes are on
/// their way. If the server does not accept a connection, the proxy resets the client's, which is not the same as
/// refusing it.
///
/// A clone controls the same proxy. When the last one is dropped, the proxy and all its connections end.
///
/// # Example
///
/// ```
/// use std::io;
/// use stockade_test_servers::proxy::{Fault, Proxy};
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

/// What has passed through a [`Proxy`] so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that clients have opened.
    pub accepted: u64,
    /// Connections that are open now.
    pub open: u64,
    /// Connections that the proxy has reset, because of a fault or of [`Proxy::cut`].
    pub cut: u64,
    /// Bytes passed on to the server.
    pub request_bytes: u64,
    /// Bytes passed on to clients.
    pub answer_bytes: u64,
}

/// What handles and connections share.
#[derive(Debug)]
struct Shared {
    addr: SocketAddr,
    target: SocketAddr,
    requests: watch::Sender<Strike>,
    answers: watch::Sender<Strike>,
    /// Changes to reset all open connections.
    cuts: watch::Sender<()>,
    /// Changes to close all open connections.
    closes: watch::Sender<()>,
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

/// The listening socket, which can be closed and opened again.
#[derive(Debug)]
struct Door {
    /// Keeps the port, and never listens.
    _place: TcpSocket,
    /// None: connections are refused.
    listener: Option<TcpListener>,
    runtime: Handle,
    /// Of the task that accepts, to wake it when there is a listener again.
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
    /// Starts a proxy for the server at `target`, on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// If the system has no free port.
    ///
    /// # Panics
    ///
    /// If called outside of a runtime with IO enabled.
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
            closes: watch::Sender::new(()),
            door: Mutex::new(door),
            counts: Counts::default(),
        });
        let task = tokio::spawn(accept(Arc::clone(&shared))).abort_handle();
        Ok(Self(Arc::new(Running { shared, task })))
    }

    /// The address for clients.
    pub fn addr(&self) -> SocketAddr {
        self.0.shared.addr
    }

    /// Sets the fault for the bytes from the server to clients.
    pub fn answers(&self, fault: Fault) {
        self.0.shared.answers.send_replace(Strike::new(fault));
    }

    /// Sets the fault for the bytes from clients to the server.
    pub fn requests(&self, fault: Fault) {
        self.0.shared.requests.send_replace(Strike::new(fault));
    }

    /// Refuses new connections, as if no server ran. Open connections stay open.
    pub fn refuse(&self) {
        lock(&self.0.shared.door).listener = None;
    }

    /// Resets every open connection. Nothing more passes on them.
    pub fn cut(&self) {
        self.0.shared.cuts.send_replace(());
    }

    /// Closes every open connection in good order, as a server does with idle ones. Each counts as open until its client
    /// has closed it too, and so has noticed.
    pub fn close(&self) {
        self.0.shared.closes.send_replace(());
    }

    /// Accepts connections again, and passes all bytes on unharmed.
    ///
    /// # Panics
    ///
    /// If connections were refused, and the system does not let it listen again.
    pub fn heal(&self) {
        self.answers(Fault::none());
        self.requests(Fault::none());
        lock(&self.0.shared.door).open(self.0.shared.addr);
    }

    /// What has passed through it so far.
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
        // Kept also while there is a listener: when that is dropped, the waker it has is lost.
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
    // Without it, a second socket could not be bound to the same port.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    bind(addr)?.listen(1_024)
}

fn lock(door: &Mutex<Door>) -> MutexGuard<'_, Door> {
    // Nothing that is done under this lock is left half done by a panic.
    door.lock().unwrap_or_else(PoisonError::into_inner)
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
            // The error of one connection, which was closed before it was accepted.
            Err(_) => yield_now().await,
        }
    }
}

#[cfg(test)]
mod tests;
