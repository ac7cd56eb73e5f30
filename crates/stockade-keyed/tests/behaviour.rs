//! What the layer does.

use std::{
    collections::HashSet,
    hash::{Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use stockade_breaker::BreakerLayer;
use stockade_core::{Error, LayerError, Reason, priority, priority::Priority};
use stockade_keyed::{KeyedLayer, WhenFull};
use stockade_limit::LimitLayer;
use stockade_rate::RateLayer;
use stockade_testkit::{Behaviour, Probe, Request, Response};
use tokio::time::{Instant, advance, sleep};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt, layer::util::Identity, limit::ConcurrencyLimitLayer,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn id(request: &Request) -> u64 {
    request.id
}

/// Counts the stacks that are alive.
#[derive(Clone, Default)]
struct Living(Arc<AtomicUsize>);

struct Life(Living);

impl Drop for Life {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, SeqCst);
    }
}

impl Living {
    fn life(&self) -> Arc<Life> {
        self.0.fetch_add(1, SeqCst);
        Arc::new(Life(self.clone()))
    }

    fn count(&self) -> usize {
        self.0.load(SeqCst)
    }
}

/// A layer that keeps something alive as long as its stack.
#[derive(Clone)]
struct With<T>(T);

#[derive(Clone)]
struct Beside<T, S>(T, S);

impl<T: Clone, S> Layer<S> for With<T> {
    type Service = Beside<T, S>;

    fn layer(&self, inner: S) -> Beside<T, S> {
        Beside(self.0.clone(), inner)
    }
}

impl<T, S: Service<Req>, Req> Service<Req> for Beside<T, S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.1.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> S::Future {
        self.1.call(request)
    }
}

#[tokio::test(start_paused = true)]
async fn each_key_has_layers_of_its_own_foreign_ones_too() {
    let probe = Probe::new();
    let layer = KeyedLayer::new(
        |request: &Request| request.id % 2,
        9,
        |key| ConcurrencyLimitLayer::new(1 + *key as usize),
    );
    let mut stack = layer.layer(probe.clone());
    let mut calls: Vec<_> = (0..8).map(|n| task::spawn(stack.call(Request::wait(n)))).collect();
    for call in &mut calls {
        assert_pending!(call.poll());
    }
    assert_eq!(probe.started(), [0, 1, 3]);
}

#[tokio::test(start_paused = true)]
async fn the_services_of_a_layer_share_the_layers_of_a_key_and_those_that_are_apart_do_not() {
    async fn peak<L: Layer<Probe, Service: Service<Request, Response = Response> + Clone>>(
        layer: L,
    ) -> usize {
        let probe = Probe::new();
        let services = [layer.layer(probe.clone()), layer.layer(probe.clone())];
        let mut calls = Vec::new();
        for n in 0..8 {
            let call = services[n as usize % 2].clone().oneshot(Request::wait(n));
            let mut call = task::spawn(call);
            assert!(call.poll().is_pending());
            calls.push(call);
        }
        probe.in_flight()
    }
    let layer = || KeyedLayer::new(|_: &Request| 0, 9, |_| LimitLayer::new(2));
    assert_eq!(peak(layer()).await, 2);
    assert_eq!(peak(layer().per_service()).await, 4);
}

#[tokio::test(start_paused = true)]
async fn a_handle_changes_the_layers_of_one_key() {
    let probe = Probe::new();
    let (layer, handle) =
        KeyedLayer::with_handles(id, 9, |_| LimitLayer::new(1).with_handle()).with_handle();
    let mut stack = layer.layer(probe.clone());
    assert!(handle.is_empty() && handle.get(&1).is_none());
    let mut calls: Vec<_> =
        [1, 1, 1, 2, 2].map(|n| task::spawn(stack.call(Request::wait(n)))).into_iter().collect();
    calls.iter_mut().for_each(|call| assert_pending!(call.poll()));
    assert_eq!(probe.started(), [1, 2]);
    handle.get(&1).unwrap().set_max(3).unwrap();
    calls.iter_mut().for_each(|call| assert_pending!(call.poll()));
    assert_eq!(probe.started(), [1, 2, 1, 1]);
    let stats = handle.stats(&1).unwrap();
    assert_eq!((stats.calls, stats.in_flight, handle.get(&2).unwrap().in_flight()), (3, 3, 1));
    let top = handle.top(1, |stats| stats.calls);
    assert_eq!(top, [(1, stats)]);
}

#[tokio::test(start_paused = true)]
async fn refusals_of_a_stack_are_counted_for_its_key() {
    let layer = KeyedLayer::new(id, 9, |_| RateLayer::per_second(1).queue(0));
    let (layer, handle) = layer.with_handle();
    let mut stack = layer.layer(Probe::new());
    for n in [1, 1, 1, 2] {
        let _ = stack.call(Request::ready(n)).await;
    }
    let _ = stack.call(Request::fail(3)).await.unwrap_err();
    let refused = |key| handle.stats(&key).unwrap().refused;
    assert_eq!((refused(1), refused(2), refused(3)), (2, 0, 0));
    assert_eq!(handle.top(9, |stats| stats.refused)[0].0, 1);
}

#[tokio::test(start_paused = true)]
async fn refusals_by_class_are_told_for_each_key_and_for_the_layer() {
    let layer = KeyedLayer::with_handles(id, 2, |_| LimitLayer::new(1).queue(0).with_handle());
    let (layer, handle) = layer.when_full(WhenFull::Refuse).with_handle();
    let stack = layer.layer(Probe::new());
    let call = |class, request| task::spawn(priority::scope(class, stack.clone().oneshot(request)));
    let mut calls = [0, 1].map(|key| call(Priority::Critical, Request::wait(key)));
    calls.iter_mut().for_each(|call| assert_pending!(call.poll()));
    for (class, key) in [
        (Priority::Background, 0),
        (Priority::Default, 0),
        (Priority::Background, 1),
        (Priority::Sheddable, 2),
    ] {
        assert!(assert_ready!(call(class, Request::ready(key)).poll()).is_err());
    }
    let of = |key: u64| {
        let limit = handle.get(&key).unwrap();
        Priority::ALL.map(|priority| limit.refused_of(priority))
    };
    assert_eq!((of(0), of(1)), ([1, 0, 1, 0], [1, 0, 0, 0]));
    assert_eq!(Priority::ALL.map(|priority| handle.refused_of(priority)), [0, 1, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn it_is_always_ready_and_a_stack_becomes_ready_in_the_response_future() {
    let probe = Probe::new();
    let layer = KeyedLayer::new(id, 9, |_| LimitLayer::new(1).backpressure());
    let mut stack = layer.layer(probe.clone());
    let mut first = task::spawn(stack.call(Request::wait(1)));
    let mut second = task::spawn(stack.call(Request::wait(1)));
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    let mut ready = task::spawn(stack.ready());
    assert!(assert_ready!(ready.poll()).is_ok());
    assert_eq!(probe.calls(), 1);
    probe.release(1);
    assert_ready!(first.poll()).unwrap();
    assert!(second.is_woken());
    assert_pending!(second.poll());
    assert_eq!(probe.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_dropped_when_it_was_not_used_for_that_long_and_its_stack_with_it() {
    let living = Living::default();
    let lives = living.clone();
    let layer = KeyedLayer::new(id, 99, move |_| With(lives.life())).idle(MINUTE);
    let (layer, handle) = layer.with_handle();
    let mut stack = layer.layer(Probe::new());
    for key in 0..50 {
        stack.call(Request::ready(key)).await.unwrap();
    }
    advance(MINUTE - SECOND).await;
    stack.call(Request::ready(7)).await.unwrap();
    assert_eq!((handle.len(), living.count()), (50, 50));
    advance(SECOND).await;
    assert_eq!((handle.keys(), living.count()), (vec![7], 1));
    assert_eq!(handle.stats(&7).unwrap().calls, 2);
    advance(MINUTE).await;
    // Looked at by nobody, they go as calls come.
    stack.call(Request::ready(8)).await.unwrap();
    assert_eq!(living.count(), 1);
    assert_eq!(handle.keys(), [8]);
}

#[tokio::test(start_paused = true)]
async fn known_keys_alone_make_idle_ones_go() {
    let living = Living::default();
    let lives = living.clone();
    let layer = KeyedLayer::new(id, 1_000, move |_| With(lives.life())).idle(MINUTE);
    let mut stack = layer.layer(Probe::new());
    for key in 0..1_000 {
        stack.call(Request::ready(key)).await.unwrap();
    }
    for _ in 0..60 {
        advance(SECOND).await;
        stack.call(Request::ready(0)).await.unwrap();
    }
    assert!(living.count() > 900, "a few a call");
    for _ in 0..60 {
        stack.call(Request::ready(0)).await.unwrap();
    }
    assert_eq!(living.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_key_that_is_idle_longest_goes_first_and_one_in_flight_never() {
    let layer = KeyedLayer::new(id, 4, |_| Identity::new()).idle(SECOND);
    let (layer, handle) = layer.with_handle();
    let probe = Probe::new();
    let mut stack = layer.layer(probe.clone());
    let mut in_flight = task::spawn(stack.call(Request::wait(0)));
    assert_pending!(in_flight.poll());
    for key in [1, 2, 3, 1] {
        stack.call(Request::ready(key)).await.unwrap();
        advance(SECOND / 10).await;
    }
    // 0 is in flight, 2 is idle for 0.3, 3 for 0.2, 1 for 0.1.
    let keys = || handle.keys().into_iter().collect::<HashSet<_>>();
    for gone in [[2].as_slice(), &[2, 3], &[2, 3, 1]] {
        advance(if gone.len() == 1 { SECOND * 7 / 10 } else { SECOND / 10 }).await;
        let left = [0, 1, 2, 3].into_iter().filter(|key| !gone.contains(key)).collect();
        assert_eq!(keys(), left);
    }
    advance(MINUTE).await;
    assert_eq!(keys(), HashSet::from([0]));
    probe.release(0);
    assert_ready!(in_flight.poll()).unwrap();
    // It is idle since its call ended.
    advance(SECOND - Duration::from_millis(1)).await;
    assert_eq!(handle.len(), 1);
    advance(Duration::from_millis(1)).await;
    assert_eq!(handle.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_new_key_for_which_there_is_no_place_shares_a_stack_or_is_refused() {
    let layer = || KeyedLayer::with_handles(id, 2, |_| LimitLayer::new(1).with_handle());
    let (sharing, handle) = layer().with_handle();
    let probe = Probe::new();
    let mut stack = sharing.layer(probe.clone());
    let mut calls: Vec<_> = (0..2_000).map(|n| task::spawn(stack.call(Request::wait(n)))).collect();
    calls.iter_mut().for_each(|call| assert_pending!(call.poll()));
    assert_eq!((handle.len(), handle.overflow().len(), handle.overflowed()), (2, 16, 1_998));
    assert_eq!(probe.in_flight(), 2 + 16);
    // Each of the shared ones gets about a sixteenth of the keys.
    let waiting = handle.overflow().into_iter().map(|handle| handle.waiting());
    assert!(waiting.clone().all(|waiting| (60..200).contains(&waiting)), "{:?}", waiting.max());

    let (refusing, handle) = layer().when_full(WhenFull::Refuse).name("hosts").with_handle();
    let mut stack = refusing.layer(Probe::new());
    for n in 0..2 {
        stack.call(Request::ready(n)).await.unwrap();
    }
    let error = stack.call(Request::ready(2)).await.unwrap_err();
    assert_eq!(error.rejected().unwrap().to_string(), "keyed `hosts`: shed");
    assert_eq!((handle.refused(Reason::Shed), handle.overflow().len()), (1, 0));
    stack.call(Request::ready(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_key_that_shared_gets_a_place_when_there_is_one() {
    let layer = KeyedLayer::new(id, 1, |_| Identity::new()).idle(SECOND);
    let (layer, handle) = layer.with_handle();
    let mut stack = layer.layer(Probe::new());
    for (key, own) in [(1, 1), (2, 1)] {
        stack.call(Request::ready(key)).await.unwrap();
        assert_eq!(handle.keys(), [own]);
    }
    advance(SECOND).await;
    stack.call(Request::ready(2)).await.unwrap();
    assert_eq!(handle.keys(), [2]);
    stack.call(Request::ready(1)).await.unwrap();
    assert_eq!((handle.keys(), handle.overflowed()), (vec![2], 2));
}

#[tokio::test(start_paused = true)]
async fn hostile_keys_take_no_more_than_is_allowed_and_push_out_nobody_in_use() {
    const KEYS: usize = 1_000;
    let living = Living::default();
    let lives = living.clone();
    let layer = KeyedLayer::new(id, KEYS, move |_| With(lives.life())).idle(SECOND);
    let (layer, handle) = layer.with_handle();
    let mut stack = layer.layer(tower::service_fn(|request: Request| {
        std::future::ready(Ok::<_, Error<()>>(request.id))
    }));
    let mut most = 0;
    for n in 1..=300_000 {
        // A hundred thousand a second; the known key comes every half a second.
        if n % 50_000 == 1 {
            stack.call(Request::ready(0)).await.unwrap();
        }
        stack.call(Request::ready(n)).await.unwrap();
        if n % 100 == 0 {
            advance(Duration::from_millis(1)).await;
            most = most.max(living.count());
        }
    }
    assert!(most <= KEYS + 16, "{most}");
    assert_eq!(handle.stats(&0).unwrap().calls, 6, "it was there all the time");
    advance(SECOND).await;
    assert_eq!((handle.len(), living.count()), (0, 16));
}

#[tokio::test(start_paused = true)]
async fn letting_a_key_go_and_coming_back_gives_no_second_allowance() {
    for (when_full, shares) in [(WhenFull::Refuse, 1), (WhenFull::Share, 2)] {
        // Ten at once, and one a second.
        let layer = KeyedLayer::new(id, 2, |_| RateLayer::per_second(1).burst(10).queue(0));
        let (layer, handle) = layer.idle(10 * SECOND).when_full(when_full).with_handle();
        let mut stack = layer.layer(Probe::new());
        let start = Instant::now();
        let mut passed = 0;
        // It sends what it can, then keeps still for a time, while others press for its place.
        for (pause, others) in [1, 9, 10, 11, 3, 10, 20, 9, 10, 1].into_iter().zip(1..) {
            for _ in 0..30 {
                passed += u64::from(stack.call(Request::ready(0)).await.is_ok());
            }
            advance(pause * SECOND).await;
            for n in 0..40 {
                let _ = stack.call(Request::ready(others * 1_000 + n)).await;
            }
        }
        // Its own share, and that of a stack in which it was while it had no place.
        let most = shares * (10 + start.elapsed().as_secs());
        assert!(passed <= most, "{passed} of {most}");
        assert!(handle.overflowed() + handle.refused(Reason::Shed) > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn one_dead_host_of_fifty_opens_alone_leaves_the_others_alone_and_closes_alone() {
    const HOSTS: u64 = 50;

    /// The 99th percentile of what the calls to the other hosts took, and how many times their breakers opened.
    async fn run(has_dead: bool) -> (Duration, usize) {
        let dead = Arc::new(std::sync::atomic::AtomicBool::new(has_dead));
        let is_dead = Arc::clone(&dead);
        let layer = KeyedLayer::with_handles(
            |(host, _): &(u64, u64)| *host,
            100,
            |_| {
                let (breaker, handle) = BreakerLayer::new().with_handle();
                (tower::layer::util::Stack::new(LimitLayer::new(4), breaker), handle)
            },
        );
        let (layer, handle) = layer.with_handle();
        let stack = ServiceBuilder::new().layer(layer).map_err(Error::Service).service_fn(
            move |(host, n): (u64, u64)| {
                let is_dead = host == 0 && is_dead.load(SeqCst);
                async move {
                    if is_dead {
                        sleep(10 * SECOND).await;
                        return Err(std::io::Error::other("dead"));
                    }
                    sleep(Duration::from_millis(10 + (host * 31 + n * 17) % 40)).await;
                    Ok(())
                }
            },
        );
        let mut clients = Vec::new();
        for client in 0..HOSTS * 2 {
            let stack = stack.clone();
            clients.push(tokio::spawn(async move {
                let host = client % HOSTS;
                let mut took = Vec::new();
                for n in 0..500 {
                    let start = Instant::now();
                    let result = stack.clone().oneshot((host, n)).await;
                    if host != 0 {
                        assert!(result.is_ok());
                        took.push(start.elapsed());
                    } else {
                        sleep(SECOND / 10).await;
                    }
                }
                took
            }));
        }
        let mut took = Vec::new();
        for client in clients {
            took.extend(client.await.unwrap());
        }
        let is_open = |host| {
            let handle: stockade_breaker::BreakerHandle = handle.get(&host).unwrap();
            handle.state() != stockade_breaker::State::Closed
        };
        let open = (0..HOSTS).filter(|host| is_open(*host)).count();
        if has_dead {
            assert!(is_open(0));
            dead.store(false, SeqCst);
            for n in 0..2_000 {
                sleep(SECOND / 10).await;
                let _ = stack.clone().oneshot((0, n)).await;
            }
            assert!(!is_open(0), "it closes alone");
        }
        took.sort_unstable();
        (took[took.len() * 99 / 100], open)
    }

    let ((without, none), (with, one)) = (run(false).await, run(true).await);
    assert_eq!((none, one), (0, 1));
    assert!(with <= without.mul_f64(1.05), "{with:?} against {without:?}");
}

/// A key whose hash, comparison or drop panics on demand.
#[derive(Clone, Debug)]
struct Touchy(u64, Arc<Mutex<Option<&'static str>>>);

impl Touchy {
    fn check(&self, what: &str) {
        let panics = *self.1.lock().expect("nobody panics under it") == Some(what);
        if panics {
            std::panic::resume_unwind(Box::new("touchy"));
        }
    }
}

impl Hash for Touchy {
    fn hash<S: Hasher>(&self, state: &mut S) {
        self.check("hash");
        self.0.hash(state);
    }
}

impl PartialEq for Touchy {
    fn eq(&self, other: &Self) -> bool {
        self.check("eq");
        self.0 == other.0
    }
}

impl Eq for Touchy {}

impl Drop for Touchy {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check("drop");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_key_or_its_layers_costs_one_call_only() {
    let mood = Arc::new(Mutex::new(None));
    let keys = Arc::clone(&mood);
    let moods = Arc::clone(&mood);
    let layer = KeyedLayer::new(
        move |request: &Request| {
            let key = Touchy(request.id, Arc::clone(&keys));
            key.check("key");
            key
        },
        9,
        move |key: &Touchy| {
            key.check("layers");
            With(Arc::new(Touchy(key.0, Arc::clone(&moods))))
        },
    )
    .idle(MINUTE);
    let (layer, handle) = layer.with_handle();
    let probe = Probe::new();
    let mut stack = layer.layer(probe.clone());
    stack.call(Request::ready(1)).await.unwrap();
    for (what, key) in [("key", 1), ("hash", 1), ("eq", 1), ("layers", 2)] {
        *mood.lock().unwrap() = Some(what);
        let call = catch_unwind(AssertUnwindSafe(|| stack.call(Request::ready(key))));
        *mood.lock().unwrap() = None;
        assert!(call.is_err(), "{what}");
        for key in [1, 3] {
            stack.call(Request::ready(key)).await.unwrap();
        }
    }
    assert_eq!(handle.len(), 2);
    let panics = AssertUnwindSafe(async {
        stack.clone().oneshot(Request::new(1, Behaviour::PanicInFuture)).await
    });
    assert!(futures(panics).await.is_err());
    assert_eq!(handle.top(9, |stats| stats.in_flight)[0].1.in_flight, 0);
    // The keys and stacks that go panic when they are dropped, and the call that makes them go does not hear of it.
    advance(MINUTE).await;
    *mood.lock().unwrap() = Some("drop");
    assert_eq!(handle.len(), 0);
    *mood.lock().unwrap() = None;
    stack.call(Request::ready(1)).await.unwrap();
}

async fn futures<F: Future>(future: AssertUnwindSafe<F>) -> std::thread::Result<F::Output> {
    let mut future = std::pin::pin!(future.0);
    std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

#[test]
#[should_panic(expected = "KeyedLayer::new, max_keys: 0 is not allowed")]
fn a_layer_needs_a_place_for_a_key() {
    let _ = KeyedLayer::new(id, 0, |_| Identity::new());
}
