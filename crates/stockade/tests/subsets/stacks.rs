//! The stacks, and the client inside them, which does what a request says.

use std::{
    future::pending,
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use stockade::{
    BreakerLayer, Error, LimitLayer, RateLayer, RetryLayer, TimeoutLayer, breaker, limit, rate,
    retry,
};
use tokio::{
    runtime::{Builder, Runtime},
    time::sleep,
};
use tower::{Layer, service_fn, util::BoxCloneService};

pub(crate) type Failure = Error<&'static str>;
pub(crate) type Boxed = BoxCloneService<Request, u64, Failure>;

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const PERMITS: usize = 3;
pub(crate) const WORKERS: usize = 4;

/// In the canonical order, outermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Timeout,
    Retry,
    Breaker,
    Rate,
    Limit,
    #[cfg(feature = "hedge")]
    Hedge,
    #[cfg(feature = "fallback")]
    Fallback,
    #[cfg(feature = "coalesce")]
    Coalesce,
    #[cfg(feature = "chaos")]
    Chaos,
}

/// All that are compiled in.
pub(crate) const ALL: &[Kind] = &[
    Kind::Timeout,
    Kind::Retry,
    Kind::Breaker,
    Kind::Rate,
    Kind::Limit,
    #[cfg(feature = "hedge")]
    Kind::Hedge,
    #[cfg(feature = "fallback")]
    Kind::Fallback,
    #[cfg(feature = "coalesce")]
    Kind::Coalesce,
    #[cfg(feature = "chaos")]
    Kind::Chaos,
];

/// What the fallback answers.
pub(crate) const STALE: u64 = u64::MAX;

const CANONICAL: [Kind; 5] = [Kind::Timeout, Kind::Retry, Kind::Breaker, Kind::Rate, Kind::Limit];

/// What the client does with a request, the first time and when it is repeated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) takes: Duration,
    pub(crate) end: End,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Answer,
    Fail,
    Panic,
    PanicInCall,
    Hang,
}

/// What the client has seen.
#[derive(Debug, Default)]
pub(crate) struct Client {
    pub(crate) running: AtomicU32,
    pub(crate) peak: AtomicU32,
}

/// A call that runs in the client.
struct Running(Arc<Client>);

#[derive(Default)]
pub(crate) struct Handles {
    pub(crate) limit: Option<limit::LimitHandle>,
    pub(crate) rate: Option<rate::RateHandle>,
    pub(crate) breaker: Option<breaker::BreakerHandle>,
    #[cfg(feature = "hedge")]
    pub(crate) hedge: Option<stockade::hedge::HedgeHandle>,
    #[cfg(feature = "coalesce")]
    pub(crate) coalesce: Option<stockade::coalesce::CoalesceHandle>,
    #[cfg(feature = "chaos")]
    pub(crate) chaos: Option<stockade::chaos::ChaosHandle>,
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

pub(crate) fn stack(order: &[Kind], backpressure: bool, seen: &Arc<Client>) -> (Boxed, Handles) {
    stack_over(client(seen), order, backpressure)
}

pub(crate) fn stack_over(client: Boxed, order: &[Kind], backpressure: bool) -> (Boxed, Handles) {
    let mut handles = Handles::default();
    let build = |inner: Boxed, kind: &Kind| match kind {
        Kind::Timeout => BoxCloneService::new(TimeoutLayer::new(30 * MS).layer(inner)),
        Kind::Retry => {
            let backoff = retry::Backoff::exponential(2 * MS, 10 * MS);
            BoxCloneService::new(RetryLayer::max_attempts(3).backoff(backoff).layer(inner))
        }
        Kind::Breaker => {
            let window = breaker::Window::calls(10);
            let layer = BreakerLayer::new().window(window).min_calls(5).open_for(5 * MS);
            let (layer, handle) = layer.probe_timeout(20 * MS).with_handle();
            handles.breaker = Some(handle);
            BoxCloneService::new(layer.layer(inner))
        }
        Kind::Rate => {
            let layer = RateLayer::new(2, MS).burst(4).queue(12).max_wait(20 * MS);
            let (layer, handle) = layer.with_handle();
            handles.rate = Some(handle);
            if backpressure {
                BoxCloneService::new(layer.backpressure().layer(inner))
            } else {
                BoxCloneService::new(layer.layer(inner))
            }
        }
        Kind::Limit => {
            let layer = LimitLayer::new(PERMITS).queue(12).max_wait(20 * MS);
            let (layer, handle) = layer.with_handle();
            handles.limit = Some(handle);
            if backpressure {
                BoxCloneService::new(layer.backpressure().layer(inner))
            } else {
                BoxCloneService::new(layer.layer(inner))
            }
        }
        #[cfg(feature = "hedge")]
        Kind::Hedge => {
            let (layer, handle) = stockade::HedgeLayer::after(4 * MS).with_handle();
            handles.hedge = Some(handle);
            BoxCloneService::new(layer.layer(inner))
        }
        #[cfg(feature = "fallback")]
        Kind::Fallback => {
            let answer = async |error: Failure| match error {
                Error::Rejected(_) => Ok(STALE),
                Error::Service(_) => Err(error),
            };
            BoxCloneService::new(stockade::FallbackLayer::new(answer).layer(inner))
        }
        #[cfg(feature = "coalesce")]
        Kind::Coalesce => {
            let layer = stockade::CoalesceLayer::new(|request: &Request| request.id / 2);
            let (layer, handle) = layer.with_handle();
            handles.coalesce = Some(handle);
            BoxCloneService::new(layer.layer(inner))
        }
        #[cfg(feature = "chaos")]
        Kind::Chaos => {
            let layer = stockade::ChaosLayer::new(7).latency(0.1, 5 * MS).reject(0.1).hang(0.05);
            let (layer, handle) = layer.error(0.1, || Error::Service("made up")).with_handle();
            handle.set_enabled(true);
            handles.chaos = Some(handle);
            BoxCloneService::new(layer.layer(inner))
        }
    };
    let stack = order.iter().rev().fold(client, build);
    (stack, handles)
}

pub(crate) fn subset(bits: u64) -> Vec<Kind> {
    CANONICAL.into_iter().enumerate().filter(|(n, _)| bits >> n & 1 == 1).map(|(_, k)| k).collect()
}

/// A runtime of one thread, whose clock moves when all its tasks wait.
pub(crate) fn paused() -> Runtime {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime can be built")
}
