//! Three endpoints behind `tower::balance`, each with a breaker of its own: the one that dies is avoided until it is
//! back, and when all are dead the caller learns of it in time.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use stockade::{
    BoxError, BreakerLayer, Error, LayerError, Reason, TimeoutLayer,
    breaker::{BreakerHandle, State},
};
use tokio::time::sleep;
use tower::{
    Service, ServiceBuilder, ServiceExt,
    balance::p2c::Balance,
    discover::ServiceList,
    load::{CompleteOnResponse, PendingRequestsDiscover},
};

const PROBES: u64 = 2;
const FAILURES: u32 = 3;
/// Much longer than [`PATIENCE`], so that the breakers are still open when the caller is told.
const OPEN_FOR: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_millis(50);

/// An endpoint, its breaker, and what the example knows of it.
#[derive(Clone)]
struct Endpoint {
    name: &'static str,
    server: Arc<Server>,
    breaker: BreakerHandle,
}

#[derive(Default)]
struct Server {
    is_dead: AtomicBool,
    calls: AtomicU64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let mut endpoints = Vec::new();
    let mut stacks = Vec::new();
    for name in ["a", "b", "c"] {
        let server = Arc::new(Server::default());
        let (breaker, handle) = BreakerLayer::new()
            .name(name)
            .consecutive(FAILURES)
            .probes(PROBES as u32)
            .open_for(OPEN_FOR)
            .with_handle();
        let client = Arc::clone(&server);
        stacks.push(
            ServiceBuilder::new()
                .layer(breaker.backpressure()) // an open breaker is not ready, so the balancer asks another
                .map_err(Error::Service)
                .service_fn(move |n: u64| Arc::clone(&client).answer(n)),
        );
        endpoints.push(Endpoint { name, server, breaker: handle });
    }
    let list = ServiceList::new::<u64>(stacks);
    let load = PendingRequestsDiscover::new(list, CompleteOnResponse::default());
    let mut balance = ServiceBuilder::new()
        .layer(TimeoutLayer::new(PATIENCE).readiness()) // for when all breakers are open
        .service(Balance::new(load));
    let victim = &endpoints[1];

    // All are well.
    let failed = run(&mut balance, 300).await?;
    println!("all well:      {}, {failed} failed", calls(&endpoints));
    check(failed == 0, "no call fails")?;

    // One is dead: it gets what opens its breaker, and after that its probes alone.
    victim.server.is_dead.store(true, Relaxed);
    let (before, opened) = (victim.server.calls.load(Relaxed), victim.breaker.snapshot().opened);
    let failed = run(&mut balance, 300).await?;
    let got = victim.server.calls.load(Relaxed) - before;
    let opened = victim.breaker.snapshot().opened - opened;
    println!("`{}` is dead:   {}, {failed} failed", victim.name, calls(&endpoints));
    let most = u64::from(FAILURES) + opened * PROBES;
    check(opened > 0, "its breaker has opened")?;
    check(got <= most, "it gets the calls that open its breaker, and probes")?;
    check(failed == got, "every call that failed was one of those")?;

    // It comes back.
    victim.server.is_dead.store(false, Relaxed);
    let mut failed = 0;
    while victim.breaker.state() != State::Closed {
        failed += run(&mut balance, 1).await?;
    }
    let before = victim.server.calls.load(Relaxed);
    failed += run(&mut balance, 300).await?;
    println!("`{}` is back:   {}, {failed} failed", victim.name, calls(&endpoints));
    check(failed == 0, "no call fails")?;
    check(victim.server.calls.load(Relaxed) > before, "it is used again")?;

    // All are dead: when all breakers are open nobody is ready, and the timeout tells the caller.
    endpoints.iter().for_each(|endpoint| endpoint.server.is_dead.store(true, Relaxed));
    let mut failed = 0;
    let told = loop {
        match balance.ready().await {
            Ok(ready) => check(ready.call(0).await.is_err(), "a dead endpoint fails")?,
            Err(error) => break error.rejected().map(|rejected| rejected.reason()),
        }
        failed += 1;
        check(failed < 100, "the breakers open")?;
    };
    println!("all are dead:  {}, {failed} failed, then none was ready", calls(&endpoints));
    check(told == Some(Reason::Elapsed), "the timeout tells that none is ready")?;
    let open = endpoints.iter().all(|endpoint| endpoint.breaker.state() == State::Open);
    check(open, "all breakers are open")
}

/// So many calls one after the other. Says how many have failed.
async fn run<S>(balance: &mut S, calls: u64) -> Result<u64, BoxError>
where
    S: Service<u64, Response = u64, Error = BoxError>,
{
    let mut failed = 0;
    for n in 0..calls {
        failed += u64::from(balance.ready().await?.call(n).await.is_err());
    }
    Ok(failed)
}

impl Server {
    async fn answer(self: Arc<Self>, n: u64) -> io::Result<u64> {
        self.calls.fetch_add(1, Relaxed);
        sleep(Duration::from_millis(1)).await;
        if self.is_dead.load(Relaxed) { Err(io::Error::other("dead")) } else { Ok(n) }
    }
}

fn calls(endpoints: &[Endpoint]) -> String {
    let each = |endpoint: &Endpoint| {
        format!("{} {:>4}", endpoint.name, endpoint.server.calls.load(Relaxed))
    };
    format!("calls {}", endpoints.iter().map(each).collect::<Vec<_>>().join(", "))
}

fn check(holds: bool, what: &str) -> Result<(), BoxError> {
    if holds { Ok(()) } else { Err(format!("it does not hold that {what}").into()) }
}
