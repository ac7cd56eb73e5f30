//! Every subset of the layers, in several orders, with and without the pool: whatever goes wrong inside or
//! outside, each call ends exactly once, every permit comes back and no task is left.
//!
//! A failure names the stack and the seed; `check` with these two runs it again.

use std::{
    future::pending,
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use fastrand::Rng;
use stockade::{
    BreakerLayer, Error, LimitLayer, Pool, RateLayer, RetryLayer, TimeoutLayer, breaker, limit,
    rate, retry,
};
use tokio::{
    runtime::{Builder, Handle},
    task::JoinSet,
    time::sleep,
};
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneService};

type Failure = Error<&'static str>;
type Boxed = BoxCloneService<Request, u64, Failure>;

const MS: Duration = Duration::from_millis(1);
const CALLS: u64 = 60;
const PERMITS: usize = 3;
const WORKERS: usize = 4;

/// How often each stack is tried, each time with other calls and other orders.
const ROUNDS: u64 = 6;

/// In the canonical order, outermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Timeout,
    Retry,
    Breaker,
    Rate,
    Limit,
}

const CANONICAL: [Kind; 5] = [Kind::Timeout, Kind::Retry, Kind::Breaker, Kind::Rate, Kind::Limit];

/// What the client does with a request, the first time and when it is repeated.
#[derive(Clone, Copy, Debug)]
struct Request {
    id: u64,
    takes: Duration,
    end: End,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Answer,
    Fail,
    Panic,
    PanicInCall,
    Hang,
}

/// What the client has seen.
#[derive(Debug, Default)]
struct Client {
    running: AtomicU32,
    peak: AtomicU32,
}

/// A call that runs in the client.
struct Running(Arc<Client>);

#[derive(Default)]
struct Handles {
    limit: Option<limit::LimitHandle>,
    rate: Option<rate::RateHandle>,
    breaker: Option<breaker::BreakerHandle>,
}

/// How the calls of one stack ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ends {
    answered: u64,
    failed: u64,
    panicked: u64,
    given_up: u64,
}

// === impl Client ===

impl Running {
    fn new(client: &Arc<Client>) -> Self {
        client.peak.fetch_max(client.running.fetch_add(1, SeqCst) + 1, SeqCst);
        Self(Arc::clone(client))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

fn client(seen: &Arc<Client>) -> Boxed {
    let seen = Arc::clone(seen);
    BoxCloneService::new(service_fn(move |request: Request| {
        let running = Running::new(&seen);
        if matches!(request.end, End::PanicInCall) {
            resume_unwind(Box::new("in call"));
        }
        async move {
            let _running = running;
            if !request.takes.is_zero() {
                sleep(request.takes).await;
            }
            match request.end {
                End::Answer => Ok(request.id),
                End::Fail => Err(Error::Service("no")),
                End::Panic | End::PanicInCall => resume_unwind(Box::new("in the future")),
                End::Hang => pending().await,
            }
        }
    }))
}

// === the stacks ===

fn stack(order: &[Kind], backpressure: bool, seen: &Arc<Client>) -> (Boxed, Handles) {
    let mut handles = Handles::default();
    let build = |inner: Boxed, kind: &Kind| match kind {
        Kind::Timeout => BoxCloneService::new(TimeoutLayer::new(30 * MS).layer(inner)),
        Kind::Retry => {
            let backoff = retry::Backoff::exponential(2 * MS, 10 * MS);
            BoxCloneService::new(RetryLayer::new(3).backoff(backoff).layer(inner))
        }
        Kind::Breaker => {
            let window = breaker::Window::calls(10);
            let layer = BreakerLayer::new().window(window).min_calls(5).open_for(5 * MS);
            handles.breaker = Some(layer.handle());
            BoxCloneService::new(layer.probe_timeout(20 * MS).layer(inner))
        }
        Kind::Rate => {
            let layer = RateLayer::new(2, MS).burst(4).queue(12).max_wait(20 * MS);
            handles.rate = Some(layer.handle());
            if backpressure {
                BoxCloneService::new(layer.backpressure().layer(inner))
            } else {
                BoxCloneService::new(layer.layer(inner))
            }
        }
        Kind::Limit => {
            let layer = LimitLayer::new(PERMITS).queue(12).max_wait(20 * MS);
            handles.limit = Some(layer.handle());
            if backpressure {
                BoxCloneService::new(layer.backpressure().layer(inner))
            } else {
                BoxCloneService::new(layer.layer(inner))
            }
        }
    };
    let stack = order.iter().rev().fold(client(seen), build);
    (stack, handles)
}

fn request(id: u64, rng: &mut Rng) -> Request {
    let takes = if rng.bool() { Duration::ZERO } else { MS * rng.u32(1..12) };
    let end = match rng.u32(0..20) {
        0..11 => End::Answer,
        11..15 => End::Fail,
        15..17 => End::Panic,
        17 => End::PanicInCall,
        _ => End::Hang,
    };
    Request { id, takes, end }
}

/// Makes the calls, some of which their callers give up; the last ones after a while.
async fn call_all(service: Boxed, rng: &mut Rng) -> Ends {
    let mut calls = JoinSet::new();
    for id in 0..CALLS {
        let (service, request) = (service.clone(), request(id, rng));
        let patience = MS * if rng.u32(0..5) == 0 { rng.u32(0..10) } else { 300 };
        let start = MS * rng.u32(0..40);
        calls.spawn(async move {
            sleep(start).await;
            tokio::time::timeout(patience, service.oneshot(request)).await.map(|end| (end, id))
        });
    }
    drop(service);
    let mut ends = Ends::default();
    while let Some(end) = calls.join_next().await {
        match end {
            Ok(Ok((Ok(answer), id))) => {
                assert_eq!(answer, id, "the answer of another call");
                ends.answered += 1;
            }
            Ok(Ok((Err(_), _))) => ends.failed += 1,
            Ok(Err(_)) => ends.given_up += 1,
            Err(error) if error.is_panic() => ends.panicked += 1,
            Err(error) => panic!("{error}"),
        }
    }
    ends
}

/// Runs one stack; returns how its calls ended.
async fn check(order: &[Kind], pooled: bool, backpressure: bool, seed: u64) -> Ends {
    let case = format!("{order:?}, pool: {pooled}, backpressure: {backpressure}, seed: {seed}");
    let mut rng = Rng::with_seed(seed);
    let seen = Arc::new(Client::default());
    let (service, handles) = stack(order, backpressure, &seen);
    let ends = if pooled {
        let pool = Pool::builder().workers(WORKERS).queue(8).build(service);
        let ends = call_all(BoxCloneService::new(pool.clone()), &mut rng).await;
        let drained = pool.drain(Duration::from_secs(60)).await;
        let stats = pool.stats();
        assert!(drained.is_complete(), "{case}: {drained:?}");
        assert_eq!((stats.accepted, stats.queued, stats.running), (stats.ended(), 0, 0), "{case}");
        assert_eq!(ends.panicked, 0, "{case}: a panic is an answer of the pool");
        assert!(seen.peak.load(SeqCst) as usize <= WORKERS, "{case}");
        ends
    } else {
        call_all(service, &mut rng).await
    };
    let sum = ends.answered + ends.failed + ends.panicked + ends.given_up;
    assert_eq!(sum, CALLS, "{case}");
    assert_eq!(seen.running.load(SeqCst), 0, "{case}: a call runs on in the client");
    if let Some(limit) = handles.limit {
        assert_eq!((limit.in_flight(), limit.waiting()), (0, 0), "{case}");
        assert!(seen.peak.load(SeqCst) as usize <= PERMITS, "{case}");
    }
    if let Some(rate) = handles.rate {
        assert_eq!(rate.waiting(), 0, "{case}");
        sleep(10 * MS).await;
        assert_eq!(rate.available(), 4, "{case}: tokens come back with time");
    }
    if let Some(breaker) = handles.breaker {
        assert_eq!(breaker.snapshot().probes, 0, "{case}");
    }
    // What sleeps for a timer finds out when it wakes that nobody is left.
    sleep(Duration::from_secs(1)).await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0, "{case}: a task is left");
    ends
}

fn subset(bits: u64) -> Vec<Kind> {
    CANONICAL.into_iter().enumerate().filter(|(n, _)| bits >> n & 1 == 1).map(|(_, k)| k).collect()
}

/// All subsets, each in the canonical order and in three others.
fn check_all(pooled: bool) {
    let mut total = Ends::default();
    for seed in 0..32 * 4 * ROUNDS {
        let (bits, shuffle) = (seed / 4 % 32, seed % 4);
        let mut order = subset(bits);
        if shuffle > 0 {
            Rng::with_seed(seed).shuffle(&mut order);
        }
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime can be built");
        let ends = runtime.block_on(check(&order, pooled, shuffle == 3, seed));
        total.answered += ends.answered;
        total.failed += ends.failed;
        total.panicked += ends.panicked;
        total.given_up += ends.given_up;
    }
    // The injected troubles really happened.
    let Ends { answered, failed, panicked, given_up } = total;
    assert!(answered > 1_000 && failed > 1_000 && given_up > 1_000, "{total:?}");
    assert_eq!(panicked > 1_000, !pooled, "{total:?}");
}

#[test]
fn all_subsets_in_four_orders_end_each_call_once_and_give_every_permit_back() {
    check_all(false);
}

#[test]
fn all_subsets_behind_a_pool_end_each_call_once_and_give_every_permit_back() {
    check_all(true);
}
