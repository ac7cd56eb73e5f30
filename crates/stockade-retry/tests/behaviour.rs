//! What a retry does, on the paused clock.

mod mock;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use mock::{Failure, MS, Mock, Step, refused};
use stockade_core::{Class, Error, Reason, attempts::Counter, deadline::Deadline};
use stockade_retry::{Backoff, Budget, Retry, RetryLayer};
use tokio::time::Instant;
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use Step::{Fail, Hang, Ok as Good, Refuse, Unready};

/// Three attempts, a wait of 100 ms before each further one, no budget.
fn retry() -> RetryLayer {
    RetryLayer::max_attempts(3).backoff(Backoff::constant(MS * 100)).budget(Budget::unlimited())
}

fn transient<T, E>(_: Result<&T, &E>) -> Class {
    Class::Transient { after: None }
}

// === attempts ===

#[tokio::test(start_paused = true)]
async fn the_first_attempt_uses_the_ready_instance_and_clones_no_service() {
    let mock = Mock::new([Good(1)]);
    let mut service = retry().layer(mock.clone());
    let clones = mock.clones();
    assert_eq!(service.ready().await.unwrap().call(7).await, Ok(1));
    assert_eq!(mock.clones(), clones);
    assert_eq!(mock.calls(), [(7, Duration::ZERO)]);
    assert_eq!(service.handle().stats(), Default::default(), "nothing is counted");
}

#[tokio::test(start_paused = true)]
async fn each_further_attempt_is_readied_and_called_on_an_instance_of_its_own() {
    let mock = Mock::new([Fail("a"), Fail("b"), Good(3)]);
    let service = retry().layer(mock.clone());
    let handle = service.handle();
    let clones = mock.clones();
    assert_eq!(service.oneshot(7).await, Ok(3));
    assert_eq!(mock.clones() - clones, 2);
    assert_eq!(mock.calls(), [(7, Duration::ZERO), (7, MS * 100), (7, MS * 200)]);
    assert_eq!((handle.stats().retried, handle.stats().recovered), (2, 1));
    assert_eq!(handle.stats().gave_up(), 0);
}

#[tokio::test(start_paused = true)]
async fn gives_up_with_the_last_error_when_the_attempts_are_exhausted() {
    let mock = Mock::new([Fail("a"), Fail("b"), Fail("c"), Good(4)]);
    let service = retry().layer(mock.clone());
    let handle = service.handle();
    assert_eq!(service.oneshot(7).await, Err(Error::Service("c")));
    assert_eq!(mock.calls().len(), 3);
    assert_eq!((handle.stats().exhausted, handle.stats().retried), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn one_attempt_repeats_nothing_and_copies_no_request() {
    struct Once;
    let copy = |_: &Once| -> Option<Once> { panic!("copied") };
    let service = RetryLayer::max_attempts(1)
        .clone_request(copy)
        .layer(service_fn(async |_: Once| Err::<(), _>(Error::Service("no"))));
    assert_eq!(service.oneshot(Once).await, Err(Error::Service("no")));
}

#[tokio::test(start_paused = true)]
async fn what_succeeded_or_would_fail_again_is_not_repeated() {
    let mock = Mock::new([Good(1), Fail("permanent"), Good(3)]);
    let by_text = |result: Result<&u32, &Failure>| match result {
        Ok(_) => Class::Success,
        Err(_) => Class::Permanent,
    };
    let mut service = retry().classify(by_text).layer(mock.clone());
    assert_eq!(service.ready().await.unwrap().call(0).await, Ok(1));
    assert_eq!(service.ready().await.unwrap().call(0).await, Err(Error::Service("permanent")));
    assert_eq!(mock.calls().len(), 2);
    assert_eq!(service.handle().stats().permanent, 1);
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_repeated_is_repeated_only_if_it_was_not_sent() {
    let mock = Mock::new([Refuse(refused()), Fail("sent"), Good(3)]);
    let service = retry().idempotent(|n: &u32| n.is_multiple_of(2)).layer(mock.clone());
    let handle = service.handle();
    assert_eq!(service.clone().oneshot(7).await, Err(Error::Service("sent")));
    assert_eq!(mock.calls().len(), 2);
    assert_eq!(handle.stats().not_repeatable, 1);
    mock.script([Fail("sent"), Good(4)]);
    assert_eq!(service.oneshot(8).await, Ok(4));
}

#[tokio::test(start_paused = true)]
async fn overload_is_repeated_as_transient_is() {
    let overload = |result: Result<&u32, &Failure>| match result {
        Ok(_) => Class::Success,
        Err(_) => Class::OVERLOAD,
    };
    let mock = Mock::new([Fail("busy"), Good(2)]);
    assert_eq!(retry().classify(overload).layer(mock.clone()).oneshot(7).await, Ok(2));
    mock.script([Fail("busy"), Good(2)]);
    let careful = retry().classify(overload).idempotent(|_: &u32| false).layer(mock);
    assert_eq!(careful.oneshot(7).await, Err(Error::Service("busy")));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_clone_is_copied_as_the_user_says_or_not_repeated() {
    struct Upload(Option<u32>);
    let copies = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&copies);
    let copy = move |upload: &Upload| {
        counter.fetch_add(1, Relaxed);
        upload.0.map(|n| Upload(Some(n + 1)))
    };
    let sent = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&sent);
    let service = retry().clone_request(copy).layer(service_fn(move |upload: Upload| {
        log.lock().unwrap().push(upload.0);
        async { Err::<(), Failure>(Error::Service("no")) }
    }));
    assert!(service.clone().oneshot(Upload(Some(1))).await.is_err());
    assert_eq!(*sent.lock().unwrap(), [Some(1), Some(2), Some(3)]);
    assert_eq!(copies.load(Relaxed), 2, "the last attempt leaves none");
    let handle = service.handle();
    assert!(service.oneshot(Upload(None)).await.is_err());
    assert_eq!(sent.lock().unwrap().len(), 4);
    assert_eq!(handle.stats().not_repeatable, 1);
}

#[tokio::test(start_paused = true)]
async fn further_attempts_are_told_to_whoever_counts_them() {
    let mut counter = Counter::default();
    let mock = Mock::new([Fail("a"), Unready("b"), Good(3)]);
    let mut call = std::pin::pin!(retry().layer(mock).oneshot(7));
    let answer = std::future::poll_fn(|cx| counter.enter(|| call.as_mut().poll(cx))).await;
    assert_eq!((answer, counter.attempts()), (Ok(3), 3));
}

// === what the answer is ===

#[tokio::test(start_paused = true)]
async fn a_readiness_error_counts_as_an_attempt_and_never_replaces_the_real_error() {
    let mock = Mock::new([Fail("real"), Unready("not ready"), Unready("nor now"), Good(4)]);
    let service = retry().layer(mock.clone());
    let handle = service.handle();
    assert_eq!(service.oneshot(7).await, Err(Error::Service("real")));
    assert_eq!(mock.calls().len(), 1);
    assert_eq!((handle.stats().retried, handle.stats().exhausted), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_readiness_error_is_classified_and_the_request_was_not_sent() {
    let by_text = |result: Result<&u32, &Failure>| match result {
        Ok(_) => Class::Success,
        Err(Error::Service("fatal")) => Class::Permanent,
        Err(Error::Service(_)) => Class::Transient { after: None },
        Err(Error::Rejected(_)) => Class::NoEffect { after: None },
    };
    let careful = || retry().classify(by_text).idempotent(|_: &u32| false);
    let mock = Mock::new([Refuse(refused()), Unready("soon"), Good(3)]);
    assert_eq!(careful().layer(mock.clone()).oneshot(7).await, Ok(3));
    mock.script([Refuse(refused()), Unready("fatal"), Good(3)]);
    assert_eq!(careful().layer(mock).oneshot(7).await, Err(Error::Service("fatal")));
}

#[tokio::test(start_paused = true)]
async fn the_real_error_beats_later_refusals_and_a_later_real_error_beats_it() {
    let mock = Mock::new([Fail("real"), Refuse(refused()), Refuse(refused())]);
    assert_eq!(retry().layer(mock).oneshot(7).await, Err(Error::Service("real")));
    let mock = Mock::new([Fail("real"), Refuse(refused()), Fail("later")]);
    assert_eq!(retry().layer(mock).oneshot(7).await, Err(Error::Service("later")));
    let mock = Mock::new([Refuse(refused()), Unready("no"), Refuse(refused())]);
    assert_eq!(retry().layer(mock).oneshot(7).await, Err(Error::Service("no")));
}

#[tokio::test(start_paused = true)]
async fn where_there_were_only_refusals_the_last_one_is_the_answer() {
    let last = refused().with_name(Some("last"));
    let mock = Mock::new([Refuse(refused()), Refuse(refused()), Refuse(last)]);
    assert_eq!(retry().layer(mock).oneshot(7).await, Err(Error::Rejected(last)));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_may_have_run_is_no_mere_refusal() {
    let elapsed = stockade_core::Rejected::new(&"timeout", Reason::Elapsed);
    let mock = Mock::new([Fail("a"), Fail("b"), Refuse(elapsed)]);
    assert_eq!(retry().layer(mock.clone()).oneshot(7).await, Err(Error::Rejected(elapsed)));
    mock.script([Refuse(elapsed), Good(2)]);
    let careful = retry().idempotent(|_: &u32| false).layer(mock);
    assert_eq!(careful.oneshot(7).await, Err(Error::Rejected(elapsed)));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_judged_a_failure_is_dropped_before_the_wait_or_is_the_answer() {
    let connection = Arc::new(());
    let lent = Arc::clone(&connection);
    let service = service_fn(move |n: u32| {
        let lent = Arc::clone(&lent);
        async move { Ok::<_, Failure>((n, lent)) }
    });
    let mut call = task::spawn(
        retry().classify(transient::<(u32, Arc<()>), Failure>).layer(service).oneshot(7),
    );
    assert_pending!(call.poll());
    // One is kept here, one by the template; the service that was called is gone with `oneshot`.
    assert_eq!(Arc::strong_count(&connection), 2, "asleep, without the response");
    let answer = call.await.unwrap();
    assert_eq!(answer.0, 7);
}

// === waits ===

#[tokio::test(start_paused = true)]
async fn waits_grow_up_to_the_cap() {
    let mock = Mock::new([Fail("a"), Fail("b"), Fail("c"), Fail("d"), Good(5)]);
    let backoff = Backoff::exponential(MS * 10, MS * 30).without_jitter();
    let layer = RetryLayer::max_attempts(5).backoff(backoff).budget(Budget::unlimited());
    assert_eq!(layer.layer(mock.clone()).oneshot(7).await, Ok(5));
    assert_eq!(mock.waits(), [10, 20, 30, 30].map(|n| MS * n));
}

#[tokio::test(start_paused = true)]
async fn a_hint_is_never_early_and_a_shorter_one_does_not_shorten_the_wait() {
    for seed in 0..50 {
        let soon = refused().with_retry_after(MS * 500);
        let mock = Mock::new([Refuse(soon), Fail("a"), Good(3)]);
        let layer = retry().backoff(Backoff::exponential(MS * 100, MS * 100)).seed(seed);
        assert_eq!(layer.layer(mock.clone()).oneshot(7).await, Ok(3));
        let waits = mock.waits();
        assert_eq!(waits[0], MS * 500);
        assert!(waits[1] <= MS * 101);
    }
    let mock = Mock::new([Refuse(refused().with_retry_after(MS)), Good(2)]);
    assert_eq!(retry().layer(mock.clone()).oneshot(7).await, Ok(2));
    assert_eq!(mock.waits(), [MS * 100]);
}

#[tokio::test(start_paused = true)]
async fn every_call_and_every_clone_draws_waits_of_its_own_and_a_seed_repeats_them() {
    async fn waits(layer: RetryLayer) -> Vec<Duration> {
        // So long that no two draws fall into the same millisecond.
        let days = Duration::from_secs(100 * 86_400);
        let layer = layer.backoff(Backoff::exponential(days, days));
        let mut waits = Vec::new();
        let (mock, mut seen) = (Mock::new([]), 0);
        let service = layer.layer(mock.clone());
        for _ in 0..8 {
            mock.script([Fail("a"), Good(2)]);
            service.clone().oneshot(7).await.unwrap();
            let calls = &mock.calls()[seen..];
            waits.push(calls[1].1 - calls[0].1);
            seen += 2;
        }
        let mut distinct = waits.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), 8, "{waits:?}");
        waits
    }
    assert_ne!(waits(retry()).await, waits(retry()).await);
    assert_eq!(waits(retry().seed(1)).await, waits(retry().seed(1)).await);
    assert_ne!(waits(retry().seed(1)).await, waits(retry().seed(2)).await);
}

#[tokio::test(start_paused = true)]
async fn without_a_backoff_a_service_that_always_fails_does_not_keep_the_thread() {
    let layer =
        RetryLayer::max_attempts(u32::MAX).backoff(Backoff::none()).budget(Budget::unlimited());
    let service = layer.layer(service_fn(async |_: u32| Err::<(), _>(Error::Service("no"))));
    tokio::select! {
        biased;
        answer = service.oneshot(7) => panic!("{answer:?}"),
        () = std::future::ready(()) => {}
    }
    assert!(layer.handle().stats().retried > 10);
}

// === deadlines ===

#[tokio::test(start_paused = true)]
async fn gives_up_at_once_when_the_next_attempt_would_come_after_the_deadline() {
    let start = Instant::now();
    for (limit, tried, stats) in [(99, 1, 1), (100, 2, 1), (150, 2, 1), (500, 3, 0)] {
        let mock = Mock::new([Fail("a"), Fail("b"), Good(3)]);
        let layer = retry();
        let mut deadline = Deadline::after(MS * limit);
        let mut call = std::pin::pin!(layer.layer(mock.clone()).oneshot(7));
        let begun = Instant::now();
        let answer = std::future::poll_fn(|cx| deadline.enter(|| call.as_mut().poll(cx))).await;
        assert_eq!(mock.calls().len(), tried, "{limit}");
        assert_eq!(layer.handle().stats().too_late, stats);
        assert_eq!(begun.elapsed(), MS * 100 * (tried as u32 - 1), "no time is lost");
        match tried {
            1 => assert_eq!(answer, Err(Error::Service("a"))),
            2 => assert_eq!(answer, Err(Error::Service("b"))),
            _ => assert_eq!(answer, Ok(3)),
        }
    }
    assert!(start.elapsed() > Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn no_attempt_begins_after_max_elapsed() {
    let mock = Mock::new([Fail("a"), Fail("b"), Good(3)]);
    let layer = retry().max_elapsed(MS * 150);
    assert_eq!(layer.layer(mock.clone()).oneshot(7).await, Err(Error::Service("b")));
    assert_eq!(mock.calls(), [(7, Duration::ZERO), (7, MS * 100)]);
    assert_eq!(layer.handle().stats().too_late, 1);
    mock.script([Fail("a"), Good(2)]);
    assert_eq!(layer.layer(mock).oneshot(7).await, Ok(2), "each call has its own time");
}

#[tokio::test(start_paused = true)]
async fn a_hint_beyond_all_time_is_not_slept_for() {
    let mock = Mock::new([Refuse(refused().with_retry_after(Duration::MAX)), Good(2)]);
    let layer = retry().max_elapsed(MS * 1_000);
    assert!(layer.layer(mock).oneshot(7).await.is_err());
}

// === budget ===

#[tokio::test(start_paused = true)]
async fn gives_up_without_a_wait_when_the_budget_has_no_token() {
    let mock = Mock::new([Fail("a"), Good(2)]);
    let layer = retry().budget(Budget::new(0.5, 0.0));
    let start = Instant::now();
    assert_eq!(layer.layer(mock).oneshot(7).await, Err(Error::Service("a")));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!((layer.handle().stats().over_budget, layer.handle().stats().retried), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_too_late_takes_no_token() {
    let mock = Mock::new([Refuse(refused().with_retry_after(MS * 200)), Fail("a"), Good(3)]);
    // Ten seconds' worth: a single token.
    let layer = retry().budget(Budget::new(0.0, 0.1)).max_elapsed(MS * 150);
    let service = layer.layer(mock);
    assert!(service.clone().oneshot(7).await.is_err());
    assert_eq!(service.oneshot(7).await, Ok(3));
    assert_eq!((layer.handle().stats().too_late, layer.handle().stats().retried), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_budget_bounds_the_share_of_repeated_attempts() {
    for (ratio, of_1000) in [(0.2, 200), (0.6, 600), (0.9, 900)] {
        let layer =
            RetryLayer::max_attempts(9).backoff(Backoff::none()).budget(Budget::new(ratio, 0.0));
        let mut service =
            layer.layer(service_fn(async |_: u32| Err::<(), _>(Error::Service("no"))));
        for _ in 0..1_000 {
            assert!(service.ready().await.unwrap().call(7).await.is_err());
        }
        assert_eq!(layer.handle().stats().retried, of_1000, "{ratio}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_half_of_the_attempts_fail_no_more_is_repeated_than_the_ratio_says() {
    let layer = RetryLayer::max_attempts(9).backoff(Backoff::none()).budget(Budget::new(0.2, 0.0));
    let attempts = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&attempts);
    let mut service = layer.layer(service_fn(move |_: u32| {
        let fails = count.fetch_add(1, Relaxed).is_multiple_of(2);
        async move { if fails { Err(Error::Service("no")) } else { Ok(()) } }
    }));
    for _ in 0..1_000 {
        let _ = service.ready().await.unwrap().call(7).await;
    }
    let retried = layer.handle().stats().retried;
    assert!((190..=200).contains(&retried), "{retried} of 1,000 calls");
    assert_eq!(attempts.load(Relaxed), 1_000 + retried as u32);
}

#[tokio::test(start_paused = true)]
async fn calls_that_succeed_pay_for_those_that_fail_whichever_clone_makes_them() {
    let mock = Mock::new([]);
    let layer = retry().budget(Budget::new(0.1, 0.0));
    let mut service = layer.layer(mock.clone());
    for n in 0..10 {
        mock.script([Good(n)]);
        if n % 2 == 0 {
            assert_eq!(service.ready().await.unwrap().call(7).await, Ok(n));
        } else {
            assert_eq!(service.clone().oneshot(7).await, Ok(n));
        }
    }
    mock.script([Fail("a"), Fail("b")]);
    assert_eq!(service.oneshot(7).await, Err(Error::Service("b")));
    assert_eq!((layer.handle().stats().retried, layer.handle().stats().over_budget), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn all_applications_share_one_budget_and_isolated_ones_have_their_own() {
    let spend = async |layer: &RetryLayer| {
        let mock = Mock::new((0..30).map(|_| Fail("no")));
        let service = layer.clone().layer(mock);
        for _ in 0..10 {
            assert!(service.clone().oneshot(7).await.is_err());
        }
        service.handle().stats().retried
    };
    let shared = RetryLayer::max_attempts(3).backoff(Backoff::none()).budget(Budget::new(0.0, 1.0));
    assert_eq!([spend(&shared).await, spend(&shared).await], [10, 10]);
    assert_eq!(shared.handle().stats().retried, 10);
    let per_service = shared.per_service();
    assert_eq!([spend(&per_service).await, spend(&per_service).await], [10, 10]);
    assert_eq!(per_service.handle().stats().retried, 10, "what was shared before");
}

#[tokio::test(start_paused = true)]
async fn the_floor_rate_comes_back_with_time() {
    let mock = Mock::new((0..1_000).map(|_| Fail("no")));
    let layer =
        RetryLayer::max_attempts(100).backoff(Backoff::none()).budget(Budget::new(0.0, 1.0));
    let service = layer.layer(mock);
    assert!(service.clone().oneshot(7).await.is_err());
    assert_eq!(layer.handle().stats().retried, 10);
    tokio::time::advance(Duration::from_secs(30 * 86_400)).await;
    assert!(service.oneshot(7).await.is_err());
    assert_eq!(layer.handle().stats().retried, 20, "ten seconds' worth, after thirty days");
}

// === readiness, clones, drops ===

#[tokio::test(start_paused = true)]
async fn poll_ready_is_that_of_the_service_inside() {
    let mock = Mock::new([Unready("no")]);
    let mut service = retry().layer(mock.clone());
    let mut poll = task::spawn(());
    assert_eq!(
        assert_ready!(poll.enter(|cx, _| service.poll_ready(cx))),
        Err(Error::Service("no"))
    );
    mock.hold(true);
    assert_pending!(poll.enter(|cx, _| service.poll_ready(cx)));
    mock.hold(false);
    assert!(poll.is_woken());
    assert_eq!(assert_ready!(poll.enter(|cx, _| service.poll_ready(cx))), Ok(()));
    assert_eq!(service.handle().stats(), Default::default(), "it is no attempt");
}

#[tokio::test(start_paused = true)]
async fn a_clone_is_not_ready() {
    let mut service = retry().layer(Mock::new([Good(1)]));
    service.ready().await.unwrap();
    let mut clone = service.clone();
    // The mock panics when an instance is called that was not polled ready.
    assert!(catch_unwind(AssertUnwindSafe(|| drop(clone.call(7)))).is_err());
    assert_eq!(service.call(7).await, Ok(1), "the readiness stayed where it was");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_sleeps_holds_no_instance_and_one_that_is_dropped_holds_nothing() {
    let mock = Mock::new([Fail("a"), Hang]);
    let mut service = retry().layer(mock.clone());
    let idle = mock.instances();
    let request = service.ready().await.unwrap().call(7);
    let mut call = task::spawn(request);
    assert_pending!(call.poll());
    assert_eq!((mock.instances(), mock.running()), (idle, 0), "asleep");
    mock.hold(true);
    tokio::time::advance(MS * 101).await;
    assert_pending!(call.poll());
    assert_eq!((mock.instances(), mock.running()), (idle + 1, 0), "not ready yet");
    mock.hold(false);
    assert_pending!(call.poll());
    assert_eq!((mock.instances(), mock.running()), (idle, 1), "called");
    drop(call);
    assert_eq!((mock.instances(), mock.running()), (idle, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_in_each_state_gives_everything_back() {
    for stage in 0..3 {
        let mock = Mock::new(if stage == 0 { vec![Hang] } else { vec![Fail("a"), Hang] });
        let mut service = retry().layer(mock.clone());
        let idle = mock.instances();
        let mut call = task::spawn(service.ready().await.unwrap().call(7));
        assert_pending!(call.poll());
        if stage == 2 {
            mock.hold(true);
            tokio::time::advance(MS * 101).await;
            assert_pending!(call.poll());
        }
        drop(call);
        assert_eq!((mock.instances(), mock.running()), (idle, 0), "{stage}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_finished_future_that_is_kept_holds_nothing_but_an_attempt_that_succeeded_at_once() {
    #[derive(Clone)]
    struct Body(#[expect(dead_code, reason = "it is held")] Arc<()>);
    for fails in [0, 1, 3] {
        let body = Arc::new(());
        let left = Arc::new(std::sync::Mutex::new(fails));
        let service = service_fn(move |_: Body| {
            let mut left = left.lock().unwrap();
            let fail = *left > 0;
            *left -= i32::from(fail);
            async move { if fail { Err(Error::Service("no")) } else { Ok(()) } }
        });
        let mut service = retry().backoff(Backoff::none()).layer(service);
        let mut call = task::spawn(service.ready().await.unwrap().call(Body(Arc::clone(&body))));
        assert_eq!(assert_ready!(call.poll()).is_err(), fails == 3);
        assert_eq!(Arc::strong_count(&body), 1, "the copy of the request is gone");
        drop(call);
    }
    for steps in
        [vec![Good(1)], vec![Fail("a"), Good(2)], vec![Fail("a"), Unready("b"), Unready("c")]]
    {
        let mock = Mock::new(steps);
        let mut service = retry().backoff(Backoff::none()).layer(mock.clone());
        let instances = mock.instances();
        let mut call = task::spawn(service.ready().await.unwrap().call(7));
        let ended = assert_ready!(call.poll());
        let at_once = usize::from(ended.is_ok() && mock.calls().len() == 1);
        assert_eq!((mock.running(), mock.instances()), (at_once, instances));
        drop(call);
        assert_eq!(mock.running(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_costs_that_call_only() {
    let panics = |at: &'static str| {
        retry()
            .classify(move |result: Result<&u32, &Failure>| match result {
                Err(Error::Service("classify")) => panic!("{at}"),
                Ok(_) => Class::Success,
                Err(_) => Class::Transient { after: None },
            })
            .idempotent(|n: &u32| if *n == 1 { panic!("idempotent") } else { true })
            .clone_request(|n: &u32| if *n == 2 { panic!("clone") } else { Some(*n) })
    };
    let mock = Mock::new([]);
    let service = panics("classify").layer(mock.clone());
    for (request, step) in
        [(7, Fail("classify")), (1, Fail("a")), (2, Good(1)), (7, Step::Panic), (7, Fail("clones"))]
    {
        mock.script([step]);
        let service_of_the_call = service.clone();
        if matches!(step, Fail("clones")) {
            mock.panic_on_clone();
        }
        let call = tokio::spawn(service_of_the_call.oneshot(request));
        assert!(call.await.unwrap_err().is_panic(), "{step:?}");
        mock.script([Fail("a"), Good(2)]);
        assert_eq!(service.clone().oneshot(7).await, Ok(2), "after {step:?}");
        assert_eq!(mock.running(), 0);
    }
}

// === configuration ===

#[test]
#[should_panic(expected = "RetryLayer::new: 0 is not allowed, it has to be from 1 to 4294967295")]
fn zero_attempts_are_wrong() {
    RetryLayer::max_attempts(0);
}

#[test]
#[should_panic(expected = "RetryLayer::max_elapsed: 0ns is not allowed")]
fn zero_time_is_wrong() {
    let _ = retry().max_elapsed(Duration::ZERO);
}

#[test]
#[should_panic(
    expected = "RetryLayer::max_elapsed: 18446744073709551615.999999999s is not allowed"
)]
fn endless_time_is_wrong() {
    let _ = retry().max_elapsed(Duration::MAX);
}

#[tokio::test(start_paused = true)]
async fn a_stack_is_nameable_and_clone_and_can_go_to_another_thread() {
    fn check<S: Service<Req> + Clone + Send + Sync + 'static, Req>(_: &S)
    where
        S::Future: Send,
    {
    }
    struct Holder {
        service: Retry<Mock>,
    }
    let holder = Holder { service: ServiceBuilder::new().layer(retry()).service(Mock::new([])) };
    check(&holder.service);
    let named = retry().name("search");
    assert_eq!(named.handle().name(), Some("search"));
    assert_eq!(named.layer(Mock::new([])).handle().name(), Some("search"));
}
