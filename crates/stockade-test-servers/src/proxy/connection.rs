//! One connection through the proxy: two directions, each with its own fault.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::sleep,
};

use super::{
    Shared,
    fault::{Kind, Strike},
};

/// The most bytes that are read at once.
const PIECE: usize = 16 * 1_024;

/// How often a throttled direction passes bytes on.
const TICK: Duration = Duration::from_millis(10);

/// A connection, which counts as open until it is dropped.
pub(super) struct Connection {
    shared: Arc<Shared>,
    cuts: watch::Receiver<()>,
    closes: watch::Receiver<()>,
}

/// How a connection ended.
enum End {
    /// Both sides have closed it.
    Closed,
    /// One side has reset it.
    Broken,
    /// The proxy resets it.
    Cut,
    /// The proxy closes it, as a server would.
    Left,
}

/// One direction of a connection.
struct Way<'a> {
    strikes: watch::Receiver<Strike>,
    kind: Kind,
    passed: &'a AtomicU64,
}

// === impl Connection ===

impl Connection {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        shared.counts.accepted.fetch_add(1, Relaxed);
        let (cuts, closes) = (shared.cuts.subscribe(), shared.closes.subscribe());
        Self { shared, cuts, closes }
    }

    pub(super) async fn run(mut self, mut client: TcpStream) {
        let Ok(mut server) = TcpStream::connect(self.shared.target).await else {
            return reset(&[&client]);
        };
        // Pass small pieces on at once. Where that cannot be set, they only arrive later.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        match self.pass(&mut client, &mut server).await {
            End::Closed => {}
            End::Broken => reset(&[&client, &server]),
            End::Cut => {
                self.shared.counts.cut.fetch_add(1, Relaxed);
                reset(&[&client, &server]);
            }
            End::Left => {
                // Fails only if the other side has been faster.
                let _ = (client.shutdown().await, server.shutdown().await);
                let mut late = vec![0; PIECE];
                while client.read(&mut late).await.is_ok_and(|read| read > 0) {}
            }
        }
    }

    async fn pass(&mut self, client: &mut TcpStream, server: &mut TcpStream) -> End {
        let Shared { requests, answers, counts, .. } = &*self.shared;
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let requests = Way::new(requests, &counts.requests).run(from_client, to_server);
        let answers = Way::new(answers, &counts.answers).run(from_server, to_client);
        tokio::select! {
            biased; // a cut comes first: nothing passes after it
            _ = self.cuts.changed() => End::Cut,
            _ = self.closes.changed() => End::Left,
            ended = async { tokio::try_join!(requests, answers) } => match ended {
                Ok(_) => End::Closed,
                Err(end) => end,
            },
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.counts.closed.fetch_add(1, Relaxed);
    }
}

// === impl Way ===

impl<'a> Way<'a> {
    fn new(strikes: &watch::Sender<Strike>, passed: &'a AtomicU64) -> Self {
        let mut strikes = strikes.subscribe();
        // The fault that is set now is new to this connection.
        strikes.mark_changed();
        Self { strikes, kind: Kind::None, passed }
    }

    /// Passes bytes on until the sender closes its side.
    async fn run(
        mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> Result<(), End> {
        let mut buffer = vec![0; PIECE];
        loop {
            let read = from.read(&mut buffer).await?;
            if read == 0 {
                return Ok(to.shutdown().await?);
            }
            self.piece(&mut buffer[..read], &mut to).await?;
        }
    }

    /// Passes one piece on, under the fault that is set when it comes, or that is set while it waits.
    async fn piece(
        &mut self,
        mut piece: &mut [u8],
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), End> {
        while !piece.is_empty() {
            if self.strikes.has_changed().unwrap_or(false) {
                self.kind = self.strikes.borrow_and_update().take();
            }
            let len = match &mut self.kind {
                Kind::None => piece.len(),
                Kind::Stall => {
                    self.changed(None).await;
                    continue;
                }
                Kind::Delay(by) => {
                    let by = Some(*by);
                    if self.changed(by).await {
                        continue;
                    }
                    piece.len()
                }
                Kind::Cut(left) => {
                    let len = piece.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= len as u64;
                    len
                }
                Kind::Garble => {
                    piece.iter_mut().for_each(|byte| *byte = !*byte);
                    piece.len()
                }
                Kind::Throttle(rate) => {
                    let (len, pause) = portion(*rate, piece.len());
                    if self.changed(Some(pause)).await {
                        continue;
                    }
                    len
                }
            };
            let (now, later) = piece.split_at_mut(len);
            to.write_all(now).await?;
            self.passed.fetch_add(len as u64, Relaxed);
            if matches!(self.kind, Kind::Cut(0)) {
                return Err(End::Cut);
            }
            piece = later;
        }
        Ok(())
    }

    /// Whether another fault is set within `limit`.
    async fn changed(&mut self, limit: Option<Duration>) -> bool {
        let changed = async {
            let mut strikes = self.strikes.clone();
            if strikes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        match limit {
            None => {
                changed.await;
                true
            }
            Some(limit) => tokio::select! {
                () = changed => true,
                () = sleep(limit) => false,
            },
        }
    }
}

/// Makes dropping the streams reset them, and not close them in good order.
fn reset(streams: &[&TcpStream]) {
    for stream in streams {
        // Fails only for a stream that the other side has reset already.
        let _ = stream.set_zero_linger();
    }
}

/// How many of `len` bytes pass next at `rate` bytes a second, and the pause before them.
fn portion(rate: u32, len: usize) -> (usize, Duration) {
    let tick = (f64::from(rate) * TICK.as_secs_f64()).max(1.0) as usize;
    let len = len.min(tick);
    (len, Duration::from_secs_f64(len as f64 / f64::from(rate)))
}

// === impl End ===

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Broken
    }
}
