//! Which calls share an answer, and what happens to the others when one leaves or panics.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use stockade_coalesce::{CoalesceHandle, CoalesceLayer};
use stockade_core::deadline;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tokio_test::{assert_pending, assert_ready, task::spawn};
use tower::{Layer, Service, ServiceExt, util::BoxCloneService};

const SECOND: Duration = Duration::from_secs(1);

type Answer = Result<u32, &'static str>;

/// A service that counts its calls, in a second each, and answers with the number of the call.
fn counted() -> (BoxCloneService<&'static str, u32, &'static str>, Arc<AtomicU32>, CoalesceHandle) {
    let calls = Arc::<AtomicU32>::default();
    let counter = Arc::clone(&calls);
    let service = tower::service_fn(move |request: &'static str| {
        let call = counter.fetch_add(1, SeqCst) + 1;
        async move {
            sleep(SECOND).await;
            match request {
                "fails" => Err("no"),
                "panics once" if call == 1 => panic!("as asked"),
                _ => Ok(call),
            }
        }
    });
    let (layer, handle) = CoalesceLayer::new(|request: &&'static str| *request).with_handle();
    (BoxCloneService::new(layer.layer(service)), calls, handle)
}

#[tokio::test(start_paused = true)]
async fn calls_of_one_key_in_flight_share_one_answer() {
    let (svc, calls, handle) = counted();
    let all = (0..50).map(|_| tokio::spawn(svc.clone().oneshot("a")));
    let all: Vec<_> = all.collect();
    let other = tokio::spawn(svc.clone().oneshot("b"));
    tokio::task::yield_now().await;
    assert_eq!((handle.in_flight(), handle.joined()), (2, 49));
    let mut answers = Vec::new();
    for task in all {
        answers.push(task.await.unwrap().unwrap());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    other.await.unwrap().unwrap();
    assert_eq!(calls.load(SeqCst), 2);
    assert_eq!(handle.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_given_is_not_kept() {
    let (svc, calls, _) = counted();
    assert_eq!(svc.clone().oneshot("a").await, Ok(1));
    assert_eq!(svc.clone().oneshot("a").await, Ok(2));
    assert_eq!(calls.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn an_error_is_shared_as_an_answer_is() {
    let (svc, calls, _) = counted();
    let (one, other) = tokio::join!(svc.clone().oneshot("fails"), svc.clone().oneshot("fails"));
    assert_eq!((one, other), (Err("no"), Err("no")));
    assert_eq!(calls.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn the_call_lives_on_when_the_caller_that_began_it_leaves() {
    let (svc, calls, handle) = counted();
    let mut leader = spawn(svc.clone().oneshot("a"));
    assert_pending!(leader.poll());
    let follower = tokio::spawn(svc.clone().oneshot("a"));
    sleep(SECOND / 2).await;
    let begin = Instant::now();
    drop(leader);
    assert_eq!(follower.await.unwrap(), Ok(1));
    assert_eq!(begin.elapsed(), SECOND / 2, "it goes on where it was");
    assert_eq!((calls.load(SeqCst), handle.in_flight()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_call_is_dropped_when_the_last_caller_leaves() {
    struct Held(Arc<AtomicU32>);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let dropped = Arc::<AtomicU32>::default();
    let inside = Arc::clone(&dropped);
    let service = tower::service_fn(move |_: u8| {
        let held = Held(Arc::clone(&inside));
        async move {
            std::future::pending::<()>().await;
            drop(held);
            Answer::Ok(1)
        }
    });
    let svc = CoalesceLayer::new(|n: &u8| *n).layer(service);
    let handle = svc.handle();
    let mut calls = [(); 2].map(|()| spawn(svc.clone().oneshot(7)));
    calls.iter_mut().for_each(|call| assert_pending!(call.poll()));
    let [first, second] = calls;
    drop(first);
    assert_eq!((dropped.load(SeqCst), handle.in_flight()), (0, 1));
    drop(second);
    assert_eq!((dropped.load(SeqCst), handle.in_flight()), (1, 0));
}

/// A call that is ready at once, and tells when it is dropped.
struct Quick<F: FnMut()>(F);

impl<F: FnMut() + Unpin> Future for Quick<F> {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Answer> {
        Poll::Ready(Ok(1))
    }
}

impl<F: FnMut()> Drop for Quick<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Notes, as it is woken, how often calls were dropped by then.
struct Looks {
    dropped: Arc<AtomicU32>,
    seen: AtomicU32,
}

impl Wake for Looks {
    fn wake(self: Arc<Self>) {
        self.seen.store(self.dropped.load(SeqCst), SeqCst);
    }
}

#[tokio::test]
async fn what_a_call_held_is_given_back_before_another_caller_hears_of_its_end() {
    struct Gated(Arc<AtomicU32>, bool);
    impl Future for Gated {
        type Output = Answer;

        fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Answer> {
            if std::mem::replace(&mut self.1, true) { Poll::Ready(Ok(1)) } else { Poll::Pending }
        }
    }
    impl Drop for Gated {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let dropped = Arc::<AtomicU32>::default();
    let held = Arc::clone(&dropped);
    let service = tower::service_fn(move |_: u8| Gated(Arc::clone(&held), false));
    let mut svc = CoalesceLayer::new(|n: &u8| *n).layer(service);
    let mut leader = spawn(svc.ready().await.unwrap().call(1));
    let mut follower = Box::pin(svc.ready().await.unwrap().call(1));
    let looks = Arc::new(Looks { dropped: Arc::clone(&dropped), seen: AtomicU32::new(9) });
    let waker = Waker::from(Arc::clone(&looks));

    let waits = follower.as_mut().poll(&mut Context::from_waker(&waker));
    assert_eq!(waits, Poll::Pending);
    assert_eq!(assert_ready!(leader.poll()), Ok(1));

    assert_eq!(looks.seen.load(SeqCst), 1, "the call was dropped when the other caller was woken");
}

#[tokio::test]
async fn a_call_whose_drop_panics_costs_one_caller_its_answer() {
    let service = tower::service_fn(|_: u8| Quick(|| panic!("dropped")));
    let mut svc = CoalesceLayer::new(|n: &u8| *n).layer(service);
    let handle = svc.handle();
    let mut leader = spawn(svc.ready().await.unwrap().call(1));
    let mut follower = spawn(svc.ready().await.unwrap().call(1));
    assert!(catch_unwind(AssertUnwindSafe(|| leader.poll().is_ready())).is_err());
    assert_eq!(assert_ready!(follower.poll()), Ok(1));
    assert_eq!(handle.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_reaches_the_caller_that_began_the_call_and_the_others_make_it_anew() {
    let (svc, calls, handle) = counted();
    let leader = tokio::spawn(svc.clone().oneshot("panics once"));
    tokio::task::yield_now().await;
    let followers: Vec<_> =
        (0..5).map(|_| tokio::spawn(svc.clone().oneshot("panics once"))).collect();
    assert!(leader.await.unwrap_err().is_panic());
    for follower in followers {
        assert_eq!(follower.await.unwrap(), Ok(2));
    }
    assert_eq!((calls.load(SeqCst), handle.in_flight()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn each_caller_waits_under_its_own_deadline_and_the_call_sees_none() {
    let service = tower::service_fn(|_: u8| async {
        sleep(SECOND).await;
        Ok::<_, &'static str>(deadline::current().is_none())
    });
    let svc = CoalesceLayer::new(|n: &u8| *n).layer(service);
    let now = Instant::now();
    let call = |limit| {
        let call = deadline::scope(Some(now + limit), svc.clone().oneshot(1));
        tokio::spawn(timeout(limit, call))
    };
    let (hasty, patient) = (call(SECOND / 10), call(SECOND * 10));
    assert!(hasty.await.unwrap().is_err());
    assert_eq!(now.elapsed(), SECOND / 10);
    assert_eq!(patient.await.unwrap().unwrap(), Ok(true));
    assert_eq!(now.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn only_chosen_requests_share() {
    let calls = Arc::<AtomicU32>::default();
    let counter = Arc::clone(&calls);
    let service = tower::service_fn(move |_: (&str, u8)| {
        counter.fetch_add(1, SeqCst);
        async {
            sleep(SECOND).await;
            Answer::Ok(1)
        }
    });
    let layer = CoalesceLayer::new(|request: &(&str, u8)| request.1);
    let svc = layer.only(|request: &(&str, u8)| request.0 == "GET").layer(service);
    let call = |method| svc.clone().oneshot((method, 1));
    let (a, b, c, d) = tokio::join!(call("GET"), call("GET"), call("POST"), call("POST"));
    assert_eq!([a, b, c, d], [Ok(1); 4]);
    assert_eq!(calls.load(SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_wake_while_another_caller_polls_is_not_lost() {
    let go = Arc::new(Notify::new());
    let told = Arc::clone(&go);
    let service = tower::service_fn(move |_: u8| {
        let told = Arc::clone(&told);
        async move {
            told.notified().await;
            Answer::Ok(1)
        }
    });
    let svc = CoalesceLayer::new(|n: &u8| *n).layer(service);
    let mut calls = [(); 3].map(|()| spawn(svc.clone().oneshot(1)));
    calls.iter_mut().for_each(|call| assert_pending!(call.poll()));
    go.notify_one();
    assert!(
        calls.iter().all(tokio_test::task::Spawn::is_woken),
        "the first that is polled goes on"
    );
    // The one that polled last is gone, and the others do not depend on it.
    let [mut first, second, third] = calls;
    drop(third);
    assert_eq!(assert_ready!(first.poll()), Ok(1));
    drop(first);
    assert_eq!(assert_ready!({ second }.poll()), Ok(1));
}

#[tokio::test]
async fn a_wake_is_not_lost_with_the_caller_that_held_the_call() {
    type Once = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;
    /// While it is polled for the first time, it is woken and another caller comes.
    struct Nested(Once);
    impl Future for Nested {
        type Output = Answer;

        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
            let Some(meanwhile) = self.0.lock().unwrap().take() else { return Poll::Ready(Ok(1)) };
            cx.waker().wake_by_ref();
            meanwhile();
            Poll::Pending
        }
    }
    let meanwhile = Once::default();
    let inside = Arc::clone(&meanwhile);
    let service = tower::service_fn(move |_: u8| Nested(Arc::clone(&inside)));
    let mut svc = CoalesceLayer::new(|n: &u8| *n).layer(service);
    let mut leader = spawn(svc.ready().await.unwrap().call(1));
    let follower = Arc::new(Mutex::new(spawn(svc.ready().await.unwrap().call(1))));
    let comes = Arc::clone(&follower);
    let poll = move || assert_pending!(comes.lock().unwrap().poll());
    *meanwhile.lock().unwrap() = Some(Box::new(poll));

    assert_pending!(leader.poll());
    assert!(!follower.lock().unwrap().is_woken(), "it was polled after it was woken");
    drop(leader);

    assert!(follower.lock().unwrap().is_woken());
    assert_eq!(assert_ready!(follower.lock().unwrap().poll()), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn the_call_lives_until_the_latest_deadline_of_its_callers_and_not_longer() {
    struct Held(Arc<Mutex<Option<Instant>>>);
    impl Drop for Held {
        fn drop(&mut self) {
            *self.0.lock().unwrap() = Some(Instant::now());
        }
    }
    let ended = Arc::<Mutex<Option<Instant>>>::default();
    let inside = Arc::clone(&ended);
    let service = tower::service_fn(move |_: u8| {
        let held = Held(Arc::clone(&inside));
        async move {
            std::future::pending::<()>().await;
            drop(held);
            Answer::Ok(1)
        }
    });
    let svc = CoalesceLayer::new(|n: &u8| *n).layer(service);
    let begin = Instant::now();
    // The one with the most time comes neither first nor last.
    let calls = [1, 3, 2].map(|n| tokio::spawn(timeout(SECOND * n, svc.clone().oneshot(1))));
    for call in calls {
        assert!(call.await.unwrap().is_err());
    }
    assert_eq!(*ended.lock().unwrap(), Some(begin + SECOND * 3));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_leader_and_one_that_panics_do_not_fail_the_others_whatever_comes_first() {
    for leaves_after in [None, Some(SECOND / 2)] {
        let (svc, calls, handle) = counted();
        let leader = tokio::spawn(svc.clone().oneshot("panics once"));
        tokio::task::yield_now().await;
        let followers: Vec<_> =
            (0..5).map(|_| tokio::spawn(svc.clone().oneshot("panics once"))).collect();
        if let Some(after) = leaves_after {
            sleep(after).await;
            leader.abort();
        }
        for follower in followers {
            assert_eq!(follower.await.unwrap(), Ok(2));
        }
        assert_eq!((calls.load(SeqCst), handle.in_flight()), (2, 0), "{leaves_after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_pass_by_share_nothing() {
    let calls = Arc::<AtomicU32>::default();
    let counter = Arc::clone(&calls);
    let service = tower::service_fn(move |_: (&str, u8)| {
        counter.fetch_add(1, SeqCst);
        async {
            sleep(SECOND).await;
            Answer::Ok(1)
        }
    });
    let layer = CoalesceLayer::new(|request: &(&str, u8)| request.1);
    let svc = layer.bypass(|request: &(&str, u8)| request.0 == "POST").layer(service);
    let call = |method| svc.clone().oneshot((method, 1));
    let (a, b, c, d) = tokio::join!(call("GET"), call("GET"), call("POST"), call("POST"));
    assert_eq!([a, b, c, d], [Ok(1); 4]);
    assert_eq!((calls.load(SeqCst), svc.handle().joined()), (3, 1));
}

#[tokio::test]
async fn a_call_that_panics_as_it_begins_costs_one_caller_its_answer() {
    let calls = Arc::<AtomicU32>::default();
    let counter = Arc::clone(&calls);
    let service = tower::service_fn(move |_: u8| {
        assert!(counter.fetch_add(1, SeqCst) > 0, "the first call panics");
        async { Answer::Ok(1) }
    });
    let mut svc = CoalesceLayer::new(|n: &u8| *n).layer(service);
    let handle = svc.handle();
    svc.ready().await.unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| svc.call(1))).is_err());
    assert_eq!(handle.in_flight(), 0);
    assert_eq!(svc.ready().await.unwrap().call(1).await, Ok(1));
}

#[test]
fn threads_that_share_calls_lose_no_wake() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    runtime.unwrap().block_on(async {
        let calls = Arc::<AtomicU32>::default();
        let counter = Arc::clone(&calls);
        let service = tower::service_fn(move |n: u32| {
            counter.fetch_add(1, SeqCst);
            async move {
                tokio::task::yield_now().await;
                Answer::Ok(n)
            }
        });
        let (layer, handle) = CoalesceLayer::new(|n: &u32| *n).with_handle();
        let svc = layer.layer(service);
        let tasks = (0..8).map(|_| {
            let svc = svc.clone();
            tokio::spawn(async move {
                for n in 0..5_000 {
                    assert_eq!(svc.clone().oneshot(n % 3).await, Ok(n % 3));
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        assert_eq!(u64::from(calls.load(SeqCst)) + handle.joined(), 40_000);
        assert_eq!(handle.in_flight(), 0);
    });
}

#[tokio::test(start_paused = true)]
async fn a_handle_shows_what_belongs_in_a_log() {
    let (_, handle) = CoalesceLayer::new(|key: &u32| *key).with_handle();
    let shown = "CoalesceHandle { in_flight: 0, joined: 0 }";
    assert_eq!(format!("{handle:?}"), shown);
}
