//! Each layer can be switched off while it works, and single requests pass it by: then it is as if it were not there.

#![cfg(all(feature = "chaos", feature = "coalesce", feature = "fallback", feature = "hedge"))]

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use stockade::{
    BreakerLayer, Budget, ChaosLayer, CoalesceLayer, Error, FallbackLayer, HedgeLayer, LimitLayer,
    RateLayer, RetryLayer, TimeoutLayer, deadline,
};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);

type Failure = Error<&'static str>;
type Answer = Result<u32, Failure>;

/// Passes each layer by.
const PAST: u32 = 0;
/// Is met by each layer that is on.
const MET: u32 = 1;

fn passes_by(request: &u32) -> bool {
    *request == PAST
}

/// A client that takes 20 ms for the first attempt, which then fails, and answers the others at once with their number.
#[derive(Clone, Default)]
struct Client(Arc<AtomicU32>);

impl Client {
    fn service(
        &self,
    ) -> impl Service<u32, Response = u32, Error = Failure, Future: Send> + Clone + Send + use<>
    {
        let attempts = Arc::clone(&self.0);
        service_fn(move |_: u32| {
            let attempt = attempts.fetch_add(1, SeqCst);
            async move {
                if attempt > 0 {
                    return Ok(attempt);
                }
                sleep(MS * 20).await;
                // A layer that is off or passed by sets no deadline.
                assert_eq!(deadline::current(), None);
                Err(Error::Service("the first one"))
            }
        })
    }
}

/// What the client answers to a call that no layer meets, and when.
const PLAIN: (Answer, Duration) = (Err(Error::Service("the first one")), Duration::from_millis(20));

/// Calls `stack` as it is switched on and off. `shown` is what the handle of the layer counts.
async fn check<S, T: Debug + PartialEq>(
    client: &Client,
    stack: S,
    switch: impl Fn(bool),
    shown: impl Fn() -> T,
) where
    S: Service<u32, Response = u32, Error = Failure> + Clone,
{
    let call = async |request| {
        client.0.store(0, SeqCst);
        let begin = Instant::now();
        (stack.clone().oneshot(request).await, begin.elapsed())
    };
    assert_ne!(call(MET).await, PLAIN, "it is on");
    let before = shown();
    assert_eq!(call(PAST).await, PLAIN, "it is passed by");
    assert_eq!(shown(), before, "what passes by does not count");
    switch(false);
    assert_eq!(call(MET).await, PLAIN, "it is off");
    assert_eq!(call(PAST).await, PLAIN, "it is off and passed by");
    assert_eq!(shown(), before, "while it is off nothing counts");
    switch(true);
    assert_ne!(call(MET).await, PLAIN, "it is on again");
    assert_ne!(shown(), before, "it counts again");
}

#[tokio::test(start_paused = true)]
async fn a_limit() {
    let client = Client::default();
    let (layer, handle) = LimitLayer::new(1).queue(0).bypass(passes_by).with_handle();
    let _held = handle.try_acquire().unwrap();
    let shown = || (handle.in_flight(), handle.refused(stockade::Reason::QueueFull));
    check(&client, layer.layer(client.service()), |on| handle.set_enabled(on), shown).await;
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit() {
    let client = Client::default();
    let (layer, handle) = RateLayer::new(1, HOUR).queue(0).bypass(passes_by).with_handle();
    handle.try_take(1).unwrap();
    let shown = || (handle.available(), handle.refused(stockade::Reason::RateLimited));
    check(&client, layer.layer(client.service()), |on| handle.set_enabled(on), shown).await;
}

#[tokio::test(start_paused = true)]
async fn a_timeout() {
    let client = Client::default();
    let (layer, handle) = TimeoutLayer::new(MS * 10).bypass(passes_by).with_handle();
    let shown = || handle.refused(stockade::Reason::Elapsed);
    check(&client, layer.layer(client.service()), |on| handle.set_enabled(on), shown).await;
}

#[tokio::test(start_paused = true)]
async fn a_retry() {
    let client = Client::default();
    let (layer, handle) = RetryLayer::max_attempts(2).bypass(passes_by).with_handle();
    check(&client, layer.layer(client.service()), |on| handle.set_enabled(on), || handle.stats())
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_breaker() {
    let client = Client::default();
    let layer = BreakerLayer::new().consecutive(1).open_for(HOUR).bypass(passes_by);
    let (layer, handle) = layer.with_handle();
    let open = || handle.admit().unwrap().failure();
    open();
    let switch = |on| {
        handle.set_enabled(on);
        if on {
            open();
        }
    };
    let shown = || handle.snapshot().refused;
    check(&client, layer.layer(client.service()), switch, shown).await;
}

#[tokio::test(start_paused = true)]
async fn a_hedge() {
    let client = Client::default();
    let layer = HedgeLayer::after(MS * 10).budget(Budget::unlimited()).bypass(passes_by);
    let (layer, handle) = layer.with_handle();
    check(&client, layer.layer(client.service()), |on| handle.set_enabled(on), || handle.stats())
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_fallback() {
    let client = Client::default();
    let answered = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&answered);
    let layer = FallbackLayer::new(move |_: Failure| {
        count.fetch_add(1, SeqCst);
        async { Ok(99) }
    });
    let (layer, handle) = layer.bypass(passes_by).with_handle();
    let shown = || answered.load(SeqCst);
    check(&client, layer.layer(client.service()), |on| handle.set_enabled(on), shown).await;
}

#[tokio::test(start_paused = true)]
async fn a_coalescing() {
    let client = Client::default();
    let (layer, handle) =
        CoalesceLayer::new(|request: &u32| *request).bypass(passes_by).with_handle();
    let inner = layer.layer(client.service());
    // Two calls at once, of which the second answers.
    let stack = service_fn(move |request: u32| {
        let (one, other) = (inner.clone().oneshot(request), inner.clone().oneshot(request));
        async move {
            let (one, other) = tokio::join!(one, other);
            if one == other { Ok(7) } else { one }
        }
    });
    check(&client, stack, |on| handle.set_enabled(on), || handle.joined()).await;
}

#[tokio::test(start_paused = true)]
async fn chaos() {
    let client = Client::default();
    let (layer, handle) = ChaosLayer::new(1).reject(1.0).bypass(passes_by).with_handle();
    handle.set_enabled(true);
    check(&client, layer.layer(client.service()), |on| handle.set_enabled(on), || handle.counts())
        .await;
}
