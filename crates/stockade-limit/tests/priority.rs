//! Calls that wait by class; on the paused clock.

mod common;

use std::{
    collections::BTreeMap,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use proptest::prelude::*;
use stockade_core::{
    LayerError, Reason,
    priority::{self, Priority, PriorityLayer},
};
use stockade_limit::{Aimd, LimitHandle, LimitLayer};
use stockade_testkit::{Probe, contract};
use tokio::time::{Instant, sleep, timeout};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service, ServiceExt, service_fn};

use common::Refusal;

const MS: Duration = Duration::from_millis(1);

/// A service that takes so long.
fn takes(
    time: Duration,
) -> impl Service<Priority, Response = (), Error = Refusal, Future: Send> + Clone + Send {
    service_fn(move |_: Priority| async move {
        sleep(time).await;
        Ok(())
    })
}

fn by_request() -> PriorityLayer<fn(&Priority) -> Priority> {
    PriorityLayer::new((|priority: &Priority| *priority) as fn(&Priority) -> Priority)
}

/// Of each class the calls that were made, and those that were answered within a second.
type Books = BTreeMap<Priority, (u32, u32)>;

/// Offers a load: each call of these, one after the other, comes `every` so often for twenty seconds.
async fn offer<S>(svc: S, every: Duration, calls: &[Priority]) -> Books
where
    S: Service<Priority, Response = (), Error = Refusal, Future: Send> + Clone + Send + 'static,
{
    let books: &'static Mutex<Books> = Box::leak(Box::default());
    let end = Instant::now() + 20_000 * MS;
    let mut tasks = Vec::new();
    for &priority in calls.iter().cycle() {
        if Instant::now() > end {
            break;
        }
        let call = svc.clone().oneshot(priority);
        tasks.push(tokio::spawn(async move {
            let answered = timeout(1_000 * MS, call).await.is_ok_and(|result| result.is_ok());
            let mut books = books.lock().expect("nobody panics");
            let (made, ok) = books.entry(priority).or_default();
            (*made, *ok) = (*made + 1, *ok + u32::from(answered));
        }));
        sleep(every).await;
    }
    for task in tasks {
        task.await.expect("no call panics");
    }
    books.lock().expect("nobody panics").clone()
}

fn share(books: &Books, priority: Priority) -> f64 {
    let (made, ok) = books[&priority];
    f64::from(ok) / f64::from(made)
}

#[tokio::test(start_paused = true)]
async fn at_three_times_the_capacity_critical_calls_succeed_and_no_class_is_starved() {
    for queue in [10, 100, 1_000] {
        // Ten at once for 100 ms each, and a call every 3.3 ms: a quarter of them in each class.
        let (limit, handle) =
            LimitLayer::new(10).queue(queue).max_wait(500 * MS).by_priority().with_handle();
        let svc = by_request().layer(limit.layer(takes(100 * MS)));
        let books = offer(svc, 3_333 * MS / 1_000, &Priority::ALL).await;
        assert!(share(&books, Priority::Critical) >= 0.99, "{books:?}");
        let [background, sheddable, default, _] = Priority::ALL.map(|class| share(&books, class));
        assert!(default > 0.2 && default > sheddable, "{books:?}");
        assert!(sheddable >= background, "{books:?}");
        assert!(books[&Priority::Background].1 > 0, "{books:?}");
        let (answered, refused) =
            (books.values().map(|(_, ok)| ok).sum::<u32>(), |reason| handle.refused(reason));
        assert!((1_990..=2_110).contains(&answered), "the limit is used: {answered}");
        assert!(queue > 10 || refused(Reason::Shed) > 0 && refused(Reason::QueueFull) > 0);
        assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));
    }
}

/// In which order calls of these classes are served that wait for one place.
async fn served(classes: &[Priority]) -> Vec<Priority> {
    let (limit, handle) = LimitLayer::new(1).by_priority().with_handle();
    let order: &'static Mutex<Vec<Priority>> = Box::leak(Box::default());
    let svc = by_request().layer(limit.layer(service_fn(async |priority: Priority| {
        assert_eq!(priority::current(), priority);
        order.lock().expect("nobody panics").push(priority);
        Ok::<_, Refusal>(())
    })));
    let permit = handle.try_acquire().expect("nobody is there");
    let mut calls: Vec<_> =
        classes.iter().map(|class| task::spawn(svc.clone().oneshot(*class))).collect();
    calls.iter_mut().for_each(|call| assert_pending!(call.poll()));
    drop(permit);
    for _ in 0..calls.len() {
        calls.iter_mut().for_each(|call| _ = call.is_woken().then(|| call.poll()));
    }
    order.lock().expect("nobody panics").clone()
}

#[tokio::test(start_paused = true)]
async fn the_higher_class_is_served_first_and_each_class_as_it_came() {
    use Priority::*;
    let classes = [Background, Default, Sheddable, Critical, Default, Critical];
    assert_eq!(
        served(&classes).await,
        [Critical, Critical, Default, Default, Sheddable, Background]
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_drops_its_lowest_waiter_for_a_higher_one() {
    let (limit, handle) = LimitLayer::new(1).queue(2).by_priority().with_handle();
    let svc = by_request().layer(limit.layer(takes(MS)));
    let call = |priority| task::spawn(svc.clone().oneshot(priority));
    let reason = |result: Result<(), Refusal>| result.unwrap_err().rejected().unwrap().reason();
    let permit = handle.try_acquire().unwrap();
    let [mut low, mut middle] = [Priority::Background, Priority::Default].map(call);
    assert_pending!(low.poll());
    assert_pending!(middle.poll());
    assert_eq!(reason(assert_ready!(call(Priority::Background).poll())), Reason::QueueFull);

    let mut high = call(Priority::Critical);
    assert_pending!(high.poll());
    assert!(low.is_woken());
    assert_eq!(handle.waiting(), 2);
    assert_eq!(reason(assert_ready!(low.poll())), Reason::Shed);

    // One that gave way and is dropped before it knows leaves nothing behind.
    let mut higher = call(Priority::Critical);
    assert_pending!(higher.poll());
    assert!(middle.is_woken());
    drop(middle);
    assert_eq!(reason(assert_ready!(call(Priority::Critical).poll())), Reason::QueueFull);
    assert_eq!((handle.refused(Reason::Shed), handle.refused(Reason::QueueFull)), (1, 2));
    assert_eq!(Priority::ALL.map(|priority| handle.refused_of(priority)), [2, 0, 0, 1]);
    drop(permit);
    drop((high, higher));
    assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_is_cancelled_leaves_the_order() {
    let (limit, handle) = LimitLayer::new(1).queue(1).by_priority().with_handle();
    let svc = by_request().layer(limit.layer(takes(MS)));
    let permit = handle.try_acquire().unwrap();
    for _ in 0..10_000 {
        let mut call = task::spawn(svc.clone().oneshot(Priority::Sheddable));
        assert_pending!(call.poll());
    }
    assert_eq!(handle.waiting(), 0);
    drop(permit);
    assert_eq!(svc.oneshot(Priority::Background).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn an_adaptive_limit_cuts_the_lower_classes_first_as_it_falls() {
    let (limit, handle) = LimitLayer::adaptive(Aimd::new()).initial(20).by_priority().with_handle();
    let svc = by_request().layer(limit.layer(takes(100 * MS)));
    let call = |priority| task::spawn(svc.clone().oneshot(priority));
    let start = |priority: Priority, n: usize| -> Vec<_> {
        let mut calls: Vec<_> = (0..n).map(|_| call(priority)).collect();
        calls.iter_mut().for_each(|call| assert_pending!(call.poll()));
        calls
    };
    let _background = start(Priority::Background, 30);
    assert_eq!((handle.in_flight(), handle.waiting()), (10, 20));
    let _sheddable = start(Priority::Sheddable, 30);
    assert_eq!((handle.in_flight(), handle.waiting()), (16, 44));
    let _default = start(Priority::Default, 3);
    let _critical = start(Priority::Critical, 3);
    assert_eq!((handle.in_flight(), handle.waiting()), (20, 46));

    handle.set_max(10).unwrap();
    drop(_sheddable);
    drop(_background);
    assert_eq!((handle.in_flight(), handle.waiting()), (6, 0));
    let mut low = call(Priority::Background);
    assert_pending!(low.poll());
    assert_eq!((handle.in_flight(), handle.waiting()), (6, 1));
    let _more = start(Priority::Sheddable, 3);
    assert_eq!((handle.in_flight(), handle.waiting()), (8, 2));

    // A limit that is raised lets those in for whom there is room now.
    handle.set_max(20).unwrap();
    assert_eq!((handle.in_flight(), handle.waiting()), (10, 0));
    drop((low, _default, _critical, _more));
    assert_eq!(handle.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn background_calls_alone_use_half_of_an_adaptive_limit_and_none_is_stuck() {
    let (limit, handle) =
        LimitLayer::adaptive(Aimd::new()).max(20).queue(50).by_priority().with_handle();
    let svc = by_request().layer(limit.layer(takes(100 * MS)));
    let books = offer(svc, MS, &[Priority::Background]).await;
    // At most ten at once for 100 ms each.
    let (_, answered) = books[&Priority::Background];
    assert!((1_900..=2_110).contains(&answered), "{books:?}");
    assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_waits_in_poll_ready_gives_way_and_waits_on() {
    let layer = LimitLayer::new(1).queue(1).by_priority();
    let mut instance = layer.clone().backpressure().layer(takes(MS));
    let svc = by_request().layer(layer.layer(takes(MS)));
    let mut first = task::spawn(svc.clone().oneshot(Priority::Critical));
    assert_pending!(first.poll());
    let ready = poll_fn(|cx| instance.poll_ready(cx));
    let mut ready = task::spawn(priority::scope(Priority::Background, ready));
    assert_pending!(ready.poll());
    let mut second = task::spawn(svc.clone().oneshot(Priority::Critical));
    assert_pending!(second.poll());
    assert!(ready.is_woken());
    assert_pending!(ready.poll());
    sleep(5 * MS).await;
    assert_eq!(assert_ready!(first.poll()), Ok(()));
    assert_pending!(second.poll());
    sleep(5 * MS).await;
    assert_eq!(assert_ready!(second.poll()), Ok(()));
    assert!(assert_ready!(ready.poll()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_closed_limit_refuses_all_who_wait_in_order() {
    let (limit, handle) = LimitLayer::new(1).by_priority().with_handle();
    let svc = by_request().layer(limit.layer(takes(MS)));
    let permit = handle.try_acquire().unwrap();
    let mut calls = Priority::ALL.map(|priority| task::spawn(svc.clone().oneshot(priority)));
    calls.iter_mut().for_each(|call| assert_pending!(call.poll()));
    handle.close();
    for call in &mut calls {
        let error = assert_ready!(call.poll()).unwrap_err();
        assert_eq!(error.rejected().unwrap().reason(), Reason::PoolClosed);
    }
    drop(permit);
    handle.drained().await;
}

#[tokio::test(start_paused = true)]
async fn a_limit_by_priority_keeps_the_contract() {
    contract(|inner: Probe| LimitLayer::new(2).by_priority().layer(inner))
        .limit(2)
        .run()
        .await
        .assert();
    contract(|inner: Probe| LimitLayer::new(2).by_priority().backpressure().layer(inner))
        .limit(2)
        .run()
        .await
        .assert();
    contract(|inner: Probe| {
        LimitLayer::adaptive(Aimd::new()).min(2).max(2).by_priority().layer(inner)
    })
    .limit(2)
    .run()
    .await
    .assert();
    contract(|inner: Probe| {
        PriorityLayer::new(|_: &_| Priority::Critical).layer(LimitLayer::new(2).layer(inner))
    })
    .limit(2)
    .run()
    .await
    .assert();
}

#[derive(Clone, Debug)]
enum Step {
    Call(usize),
    Poll(prop::sample::Index),
    Drop(prop::sample::Index),
    Pass,
    SetMax(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..4_usize).prop_map(Step::Call),
        4 => any::<prop::sample::Index>().prop_map(Step::Poll),
        2 => any::<prop::sample::Index>().prop_map(Step::Drop),
        2 => Just(Step::Pass),
        1 => (1..5_usize).prop_map(Step::SetMax),
    ];
    prop::collection::vec(step, 0..150)
}

/// Nobody is lost or served twice, whoever comes, is cancelled or gives way, and whatever the limit is set to.
async fn play(
    steps: Vec<Step>,
    layer: impl Layer<Counting, Service: Service<Priority, Response = (), Error = Refusal> + Clone>,
    handle: LimitHandle,
) {
    let calls_begun = Arc::new(AtomicUsize::new(0));
    let svc = by_request().layer(layer.layer(Counting(calls_begun.clone())));
    let mut calls = Vec::new();
    let mut ended = [0; 2];
    for step in steps {
        match step {
            Step::Call(class) => {
                let mut call = task::spawn(svc.clone().oneshot(Priority::ALL[class]));
                match call.poll() {
                    Poll::Ready(result) => ended[usize::from(result.is_ok())] += 1,
                    Poll::Pending => calls.push(call),
                }
            }
            Step::Poll(at) if !calls.is_empty() => {
                let at = at.index(calls.len());
                if let Poll::Ready(result) = calls[at].poll() {
                    ended[usize::from(result.is_ok())] += 1;
                    drop(calls.swap_remove(at));
                }
            }
            Step::Drop(at) if !calls.is_empty() => drop(calls.swap_remove(at.index(calls.len()))),
            Step::Poll(_) | Step::Drop(_) => {}
            Step::Pass => sleep(MS).await,
            Step::SetMax(max) => handle.set_max(max).expect("it is allowed"),
        }
        assert!(handle.in_flight() + handle.waiting() <= calls.len());
        assert!(handle.waiting() <= handle.queue());
    }
    let answered = ended[1];
    for call in &mut calls {
        if call.is_woken() {
            let _ = call.poll().is_ready();
        }
    }
    assert!(calls_begun.load(SeqCst) >= answered);
    drop(calls);
    assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));
    // All places are there again.
    let permits: Vec<_> =
        std::iter::from_fn(|| Priority::Critical.enter(|| handle.try_acquire())).collect();
    assert_eq!(permits.len(), handle.max());
}

/// Takes a millisecond, and counts its calls.
#[derive(Clone)]
struct Counting(Arc<AtomicUsize>);

impl Service<Priority> for Counting {
    type Response = ();
    type Error = Refusal;
    type Future = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Priority) -> Self::Future {
        self.0.fetch_add(1, SeqCst);
        Box::pin(async {
            sleep(MS).await;
            Ok(())
        })
    }
}

proptest! {
    #[test]
    fn nobody_is_lost_or_served_twice_whoever_comes_leaves_or_gives_way(steps in steps(), capped in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        if capped {
            let layer = LimitLayer::adaptive(Aimd::new()).initial(2).queue(3).by_priority();
            let (layer, handle) = layer.with_handle();
            runtime.block_on(play(steps, layer, handle));
        } else {
            let (layer, handle) = LimitLayer::new(2).queue(3).by_priority().with_handle();
            runtime.block_on(play(steps, layer, handle));
        }
    }
}
