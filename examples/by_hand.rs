//! What layers decide, without a `tower::Service`: a stream of chunks under a limit on calls at once and a rate limit, and
//! a connection that is checked out under a breaker.
//!
//! The handles do it: `acquire` and `take` wait for a permit and for tokens, and `admit` asks a breaker. What they give
//! back does not depend on code that could be forgotten: dropping the permit frees its place.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use stockade::{
    BoxError, BreakerLayer, LimitLayer, RateLayer, Reason, Rejected,
    breaker::{BreakerHandle, State},
    limit::LimitHandle,
    rate::RateHandle,
};
use tokio::{task::JoinSet, time::sleep};

const UPLOADS: usize = 20;
const AT_ONCE: usize = 4;
const CHUNKS: u64 = 5;
const CHUNK: u32 = 1_000;

/// What the receiver of the chunks has seen.
#[derive(Default)]
struct Receiver {
    open: AtomicUsize,
    most: AtomicUsize,
    bytes: AtomicUsize,
}

static RECEIVER: Receiver =
    Receiver { open: AtomicUsize::new(0), most: AtomicUsize::new(0), bytes: AtomicUsize::new(0) };

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    streams().await?;
    connections().await?;
    println!("the books balance");
    Ok(())
}

// === a stream under a limit and a rate ===

/// Uploads streams, at most four at once, all together at most 500 kB a second.
async fn streams() -> Result<(), BoxError> {
    // Layers whose handles are all that is used.
    let (_, limit) = LimitLayer::new(AT_ONCE).queue(UPLOADS).name("uploads").with_handle();
    let (_, bytes) =
        RateLayer::per_second(500 * CHUNK).burst(10 * CHUNK).queue(UPLOADS).with_handle();
    let mut uploads = JoinSet::new();
    for _ in 0..UPLOADS {
        uploads.spawn(upload(limit.clone(), bytes.clone()));
    }
    for sent in uploads.join_all().await {
        assert_eq!(sent?, CHUNKS * u64::from(CHUNK));
    }

    let (most, received) = (RECEIVER.most.load(Relaxed), RECEIVER.bytes.load(Relaxed));
    println!("{UPLOADS} uploads, {received} bytes, at most {most} at once");
    assert_eq!(received, UPLOADS * CHUNKS as usize * CHUNK as usize);
    assert_eq!(most, AT_ONCE);
    assert_eq!((limit.in_flight(), limit.waiting()), (0, 0));

    // Full is full: who does not want to wait asks for a permit without waiting.
    let permits: Vec<_> = (0..AT_ONCE).filter_map(|_| limit.try_acquire()).collect();
    assert_eq!(permits.len(), AT_ONCE);
    assert!(limit.try_acquire().is_none());
    drop(permits);
    assert!(limit.try_acquire().is_some());
    // A chunk that is larger than the burst can never pass, which is said at once.
    let too_costly = bytes.try_take(11 * CHUNK).expect_err("more than the burst");
    assert_eq!(too_costly.reason(), Reason::TooCostly);
    Ok(())
}

async fn upload(limit: LimitHandle, bytes: RateHandle) -> Result<u64, Rejected> {
    // Held until the last chunk has been sent, or the upload is dropped.
    let _permit = limit.acquire().await?;
    let open = RECEIVER.open.fetch_add(1, Relaxed) + 1;
    RECEIVER.most.fetch_max(open, Relaxed);
    let mut chunks = stream::iter(0..CHUNKS);
    let mut sent = 0;
    while let Some(_chunk) = chunks.next().await {
        bytes.take(CHUNK).await?;
        sleep(Duration::from_millis(1)).await;
        RECEIVER.bytes.fetch_add(CHUNK as usize, Relaxed);
        sent += u64::from(CHUNK);
    }
    RECEIVER.open.fetch_sub(1, Relaxed);
    Ok(sent)
}

// === a connection under a breaker ===

/// A connection as a pool of connections hands it out; it knows whether the database is there.
struct Connection {
    is_broken: bool,
}

#[derive(Debug, PartialEq)]
enum QueryError {
    Refused(Reason),
    Broken,
    NoSuchRow,
}

impl Connection {
    fn query(&mut self, row: u32) -> Result<u32, QueryError> {
        match row {
            _ if self.is_broken => Err(QueryError::Broken),
            0 => Err(QueryError::NoSuchRow),
            row => Ok(row * 2),
        }
    }
}

async fn connections() -> Result<(), BoxError> {
    let (_, breaker) = BreakerLayer::new()
        .name("database")
        .consecutive(3)
        .open_for(Duration::from_millis(50))
        .with_handle();

    let mut well = Connection { is_broken: false };
    assert_eq!(query(&breaker, &mut well, 21), Ok(42));
    // A row that is not there is no failure of the database.
    for _ in 0..10 {
        assert_eq!(query(&breaker, &mut well, 0), Err(QueryError::NoSuchRow));
    }
    assert_eq!(breaker.state(), State::Closed);

    let mut broken = Connection { is_broken: true };
    for _ in 0..3 {
        assert_eq!(query(&breaker, &mut broken, 21), Err(QueryError::Broken));
    }
    let refused = query(&breaker, &mut broken, 21);
    println!("after three failures in a row: {refused:?}");
    assert_eq!(refused, Err(QueryError::Refused(Reason::BreakerOpen)));

    // The database is back, and the breaker lets a few queries try.
    while breaker.state() != State::Closed {
        sleep(Duration::from_millis(10)).await;
        let _ = query(&breaker, &mut well, 21);
    }
    println!("closed again");
    Ok(())
}

fn query(
    breaker: &BreakerHandle,
    connection: &mut Connection,
    row: u32,
) -> Result<u32, QueryError> {
    let admission = breaker.admit().map_err(|rejected| QueryError::Refused(rejected.reason()))?;
    let result = connection.query(row);
    match result {
        Err(QueryError::Broken) => admission.failure(),
        _ => admission.success(),
    }
    result
}
