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
use stockade_core::{Class, Error, Reason, Rejected, attempts::Counter, deadline::Deadline, waits};
use stockade_retry::{Backoff, Budget, Config, Retry, RetryLayer};
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
async fn a_result_that_says_nothing_is_the_answer_and_spends_nothing() {
    let ignored = |_: Result<&u32, &Failure>| Class::Ignored;
    let mock = Mock::new([Fail("a"), Good(2)]);
    let (layer, handle) = retry().budget(Budget::new(0.0, 0.1)).classify(ignored).with_handle();
    let service = layer.layer(mock);
    assert_eq!(service.clone().oneshot(7).await, Err(Error::Service("a")));
    assert_eq!(service.oneshot(7).await, Ok(2));
    assert_eq!((handle.stats().ignored, handle.stats().gave_up()), (2, 0));
    assert!(handle.budget().withdraw(Instant::now()), "the token is still there");
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_repeated_is_repeated_only_if_it_had_no_effect() {
    let mock = Mock::new([Fail("not sent"), Fail("sent"), Good(3)]);
    let by_text = |result: Result<&u32, &Failure>| match result {
        Ok(_) => Class::Success,
        Err(Error::Service("not sent")) => Class::NoEffect { after: None },
        Err(_) => Class::TRANSIENT,
    };
    let careful = retry().classify(by_text).idempotent(|n: &u32| n.is_multiple_of(2));
    let service = careful.layer(mock.clone());
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
    let careful = retry().classify(overload).idempotent(|_: &u32| false).layer(mock.clone());
    assert_eq!(careful.oneshot(7).await, Err(Error::Service("busy")));
    let unprocessed = |result: Result<&u32, &Failure>| match result {
        Ok(_) => Class::Success,
        Err(_) => Class::Overload { after: None, processed: false },
    };
    mock.script([Fail("busy"), Good(2)]);
    let careful = retry().classify(unprocessed).idempotent(|_: &u32| false).layer(mock);
    assert_eq!(careful.oneshot(7).await, Ok(2), "an overload that had no effect");
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
    let careful =
        || retry().retry_refusals(MS * 1_000).classify(by_text).idempotent(|_: &u32| false);
    let mock = Mock::new([Refuse(refused()), Unready("soon"), Good(3)]);
    assert_eq!(careful().layer(mock.clone()).oneshot(7).await, Ok(3));
    mock.script([Refuse(refused()), Unready("fatal"), Good(3)]);
    assert_eq!(careful().layer(mock).oneshot(7).await, Err(Error::Service("fatal")));
}

#[tokio::test(start_paused = true)]
async fn the_real_error_beats_later_refusals_and_a_later_real_error_beats_it() {
    let mock = Mock::new([Fail("real"), Refuse(refused())]);
    assert_eq!(retry().layer(mock).oneshot(7).await, Err(Error::Service("real")));
    let patient = || retry().retry_refusals(MS * 150);
    let refusals = [Refuse(refused()); 3];
    let mock = Mock::new([Fail("real")].into_iter().chain(refusals));
    assert_eq!(patient().layer(mock).oneshot(7).await, Err(Error::Service("real")));
    let mock = Mock::new([Fail("real"), Refuse(refused()), Fail("later"), Fail("last")]);
    assert_eq!(patient().layer(mock).oneshot(7).await, Err(Error::Service("last")));
    let mock = Mock::new([Refuse(refused()), Unready("no"), Refuse(refused()), Refuse(refused())]);
    assert_eq!(patient().layer(mock).oneshot(7).await, Err(Error::Service("no")));
}

#[tokio::test(start_paused = true)]
async fn where_there_were_only_refusals_the_last_one_is_the_answer() {
    let last = refused().with_name(Some("last"));
    let mock = Mock::new([Refuse(refused()), Refuse(refused()), Refuse(last)]);
    let patient = retry().retry_refusals(MS * 200);
    assert_eq!(patient.layer(mock).oneshot(7).await, Err(Error::Rejected(last)));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_after_a_response_that_was_judged_a_failure_is_the_answer() {
    let mock = Mock::new([Good(500), Refuse(refused())]);
    let answer = retry().classify(transient::<u32, Failure>).layer(mock).oneshot(7).await;
    assert_eq!(answer, Err(Error::Rejected(refused())));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_may_have_run_is_no_mere_refusal() {
    let elapsed = Rejected::new(&"timeout", Reason::Elapsed);
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

// === refusals by layers inside ===

#[tokio::test(start_paused = true)]
async fn a_refusal_ends_the_call_at_once_whatever_the_classifier_says() {
    let told = refused().with_retry_after(MS * 500);
    let mock = Mock::new([Refuse(told), Good(2)]);
    let (layer, handle) = retry().classify(transient::<u32, Failure>).with_handle();
    let start = Instant::now();
    assert_eq!(layer.layer(mock.clone()).oneshot(7).await, Err(Error::Rejected(told)));
    assert_eq!((start.elapsed(), mock.calls().len()), (Duration::ZERO, 1));
    assert_eq!((handle.stats().refused, handle.stats().gave_up()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn waits_for_refusals_cost_no_attempt_and_nothing_from_the_budget() {
    let refusals = [Refuse(refused()); 20];
    let mock = Mock::new(refusals.into_iter().chain([Fail("a")]).chain(refusals).chain([Good(2)]));
    let layer = RetryLayer::max_attempts(2).retry_refusals(MS * 10_000);
    // A single token.
    let layer = layer.backoff(Backoff::constant(MS * 10)).budget(Budget::new(0.0, 0.1));
    let (layer, handle) = layer.idempotent(|n: &u32| *n == 7).with_handle();
    let mut counter = Counter::default();
    let mut call = std::pin::pin!(layer.layer(mock.clone()).oneshot(7));
    let answer = std::future::poll_fn(|cx| counter.enter(|| call.as_mut().poll(cx))).await;
    assert_eq!((answer, counter.attempts()), (Ok(2), 2));
    assert_eq!((handle.stats().refusal_waits, handle.stats().retried), (40, 1));
    // Nor does it matter that a request is not idempotent.
    mock.script([Refuse(refused()), Good(3)]);
    assert_eq!(layer.layer(mock).oneshot(8).await, Ok(3));
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_never_comes_back_earlier_than_told_and_within_the_tenth_after() {
    for seed in 0..50 {
        let mock = Mock::new([Refuse(refused().with_retry_after(MS * 1_000)), Good(2)]);
        let layer = retry().seed(seed).retry_refusals(MS * 5_000);
        assert_eq!(layer.layer(mock.clone()).oneshot(7).await, Ok(2));
        assert!((MS * 1_000..=MS * 1_101).contains(&mock.waits()[0]), "{:?}", mock.waits());
    }
    // A refusal that tells no time, or none to speak of, is no reason to spin.
    for told in [None, Some(Duration::ZERO)] {
        let rejected = told.map_or(refused(), |after| refused().with_retry_after(after));
        let mock = Mock::new([Refuse(rejected), Good(2)]);
        let layer = retry().backoff(Backoff::none()).retry_refusals(MS * 5_000);
        assert_eq!(layer.layer(mock.clone()).oneshot(7).await, Ok(2));
        assert!((MS..=MS * 2).contains(&mock.waits()[0]), "{:?}", mock.waits());
    }
}

#[tokio::test(start_paused = true)]
async fn all_waits_for_refusals_of_one_call_together_take_no_longer_than_the_total() {
    let start = Instant::now();
    let mock = Mock::new([Refuse(refused()); 10]);
    let layer = || retry().retry_refusals(MS * 250);
    assert!(layer().layer(mock.clone()).oneshot(7).await.is_err());
    assert_eq!((start.elapsed(), mock.calls().len()), (MS * 250, 4));
    // Nor is a time waited for that is longer than what is left of it, or of the deadline.
    for (told, limit) in [(251, 10_000), (200, 200)] {
        let start = Instant::now();
        let mock = Mock::new([Refuse(refused().with_retry_after(MS * told)), Good(2)]);
        assert!(under(MS * limit, layer().layer(mock).oneshot(7)).await.is_err());
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
    let mock = Mock::new([Refuse(refused()), Good(2)]);
    assert!(retry().retry_refusals(Duration::ZERO).layer(mock).oneshot(7).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_refused_readiness_ends_the_call_or_is_waited_for_as_a_refused_call() {
    let mock = Mock::new([Fail("real"), Step::Closed(refused()), Good(3)]);
    assert_eq!(retry().layer(mock).oneshot(7).await, Err(Error::Service("real")));
    let mock = Mock::new([Fail("real"), Step::Closed(refused()), Good(3)]);
    let (layer, handle) = retry().retry_refusals(MS * 1_000).with_handle();
    assert_eq!(layer.layer(mock).oneshot(7).await, Ok(3));
    assert_eq!((handle.stats().retried, handle.stats().refusal_waits), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_was_cancelled_is_transient_and_a_panic_is_the_service_s_doing() {
    let rejected = |reason| Rejected::new(&"pool", reason);
    let permanent = |result: Result<&u32, &Failure>| match result {
        Ok(_) => Class::Success,
        Err(_) => Class::Permanent,
    };
    let mock = Mock::new([Refuse(rejected(Reason::Cancelled)), Good(2)]);
    let layer = retry().classify(permanent);
    assert_eq!(layer.layer(mock.clone()).oneshot(7).await, Ok(2));
    let panicked = rejected(Reason::Panicked);
    mock.script([Refuse(panicked), Good(2)]);
    assert_eq!(layer.layer(mock.clone()).oneshot(7).await, Err(Error::Rejected(panicked)));
    mock.script([Refuse(panicked), Good(2)]);
    assert_eq!(retry().layer(mock).oneshot(7).await, Ok(2));
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

/// A service that is overloaded, and tells when to come back.
fn told(after: Duration) -> impl Fn(Result<&u32, &Failure>) -> Class + Clone {
    move |result| match result {
        Ok(_) => Class::Success,
        Err(Error::Service("told")) => Class::Overload { after: Some(after), processed: true },
        Err(_) => Class::TRANSIENT,
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_is_never_early_and_a_shorter_one_does_not_shorten_the_wait() {
    for seed in 0..50 {
        let mock = Mock::new([Fail("told"), Fail("a"), Good(3)]);
        let layer = retry().backoff(Backoff::exponential(MS * 100, MS * 100)).seed(seed);
        let layer = layer.classify(told(MS * 500));
        assert_eq!(layer.layer(mock.clone()).oneshot(7).await, Ok(3));
        let waits = mock.waits();
        assert!((MS * 500..=MS * 551).contains(&waits[0]), "{waits:?}");
        assert!(waits[1] <= MS * 101);
    }
    for short in [Duration::ZERO, MS] {
        let mock = Mock::new([Fail("told"), Good(2)]);
        let layer = retry().classify(told(short));
        assert_eq!(layer.layer(mock.clone()).oneshot(7).await, Ok(2));
        assert_eq!(mock.waits(), [MS * 100]);
    }
}

#[tokio::test(start_paused = true)]
async fn callers_who_were_told_the_same_time_come_back_over_most_of_the_tenth_after_it() {
    let mock = Mock::new([Fail("told"); 500].into_iter().chain([Good(1); 500]));
    let layer = RetryLayer::max_attempts(2).budget(Budget::unlimited());
    let service = layer.classify(told(MS * 1_000)).layer(mock.clone());
    let calls: Vec<_> = (0..500).map(|_| tokio::spawn(service.clone().oneshot(7))).collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), Ok(1));
    }
    let mut again = mock.calls()[500..].iter().map(|(_, at)| *at).collect::<Vec<_>>();
    again.sort();
    assert!(again[0] >= MS * 1_000 && again[499] <= MS * 1_101, "{:?}", (again[0], again[499]));
    assert!(again[0] < MS * 1_010 && again[499] > MS * 1_090, "over most of it");
    for tenth in 0..10 {
        let (from, to) = (MS * (1_000 + 10 * tenth), MS * (1_010 + 10 * tenth));
        let came = again.iter().filter(|at| (from..to).contains(at)).count();
        assert!((20..=90).contains(&came), "{came} from {from:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_of_a_day_is_kept_where_no_deadline_forbids_it() {
    let day = Duration::from_secs(86_400);
    let mock = Mock::new([Fail("told"), Good(2)]);
    assert_eq!(retry().classify(told(day)).layer(mock.clone()).oneshot(7).await, Ok(2));
    assert!((day..=day + day / 10 + MS).contains(&mock.waits()[0]));
}

#[tokio::test(start_paused = true)]
async fn a_hint_beyond_what_is_left_of_the_deadline_ends_the_call_at_once() {
    for (hint, limit) in [(MS * 1_001, 1_000), (MS * 1_000, 1_000), (Duration::MAX, 1_000)] {
        let mock = Mock::new([Fail("told"), Good(2)]);
        let (layer, handle) = retry().classify(told(hint)).with_handle();
        let start = Instant::now();
        let answer = under(MS * limit, layer.layer(mock.clone()).oneshot(7)).await;
        assert_eq!(answer, Err(Error::Service("told")));
        assert_eq!((start.elapsed(), handle.stats().too_late), (Duration::ZERO, 1));
    }
    // One that fits is kept, whatever the jitter would be.
    for seed in 0..20 {
        let mock = Mock::new([Fail("told"), Good(2)]);
        let layer = retry().seed(seed).classify(told(MS * 1_000));
        let answer = under(MS * 1_010, layer.layer(mock.clone()).oneshot(7)).await;
        assert_eq!(answer, Ok(2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_of_more_than_all_time_ends_the_call_at_once_without_any_deadline() {
    let mock = Mock::new([Fail("told"), Good(2)]);
    let answer = retry().classify(told(Duration::MAX)).layer(mock).oneshot(7).await;
    assert_eq!(answer, Err(Error::Service("told")));
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
    let (layer, handle) = layer.with_handle();
    let service = layer.layer(service_fn(async |_: u32| Err::<(), _>(Error::Service("no"))));
    tokio::select! {
        biased;
        answer = service.oneshot(7) => panic!("{answer:?}"),
        () = std::future::ready(()) => {}
    }
    assert!(handle.stats().retried > 10);
}

// === deadlines ===

/// Runs a call under a deadline that is `limit` away.
async fn under<F: Future>(limit: Duration, call: F) -> F::Output {
    let mut deadline = Deadline::At(Instant::now() + limit);
    let mut call = std::pin::pin!(call);
    std::future::poll_fn(|cx| deadline.enter(|| call.as_mut().poll(cx))).await
}

#[tokio::test(start_paused = true)]
async fn gives_up_at_once_when_the_next_attempt_would_come_at_the_deadline_or_after_it() {
    for (limit, tried, stats) in [(99, 1, 1), (100, 1, 1), (101, 2, 1), (150, 2, 1), (500, 3, 0)] {
        let mock = Mock::new([Fail("a"), Fail("b"), Good(3)]);
        let (layer, handle) = retry().with_handle();
        let begun = Instant::now();
        let answer = under(MS * limit, layer.layer(mock.clone()).oneshot(7)).await;
        assert_eq!(mock.calls().len(), tried, "{limit}");
        assert_eq!(handle.stats().too_late, stats);
        assert_eq!(begun.elapsed(), MS * 100 * (tried as u32 - 1), "no time is lost");
        match tried {
            1 => assert_eq!(answer, Err(Error::Service("a"))),
            2 => assert_eq!(answer, Err(Error::Service("b"))),
            _ => assert_eq!(answer, Ok(3)),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_of_100_ms_under_a_deadline_of_500_ms_are_five() {
    let attempts = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&attempts);
    let service = service_fn(move |_: u32| {
        count.fetch_add(1, Relaxed);
        async {
            tokio::time::sleep(MS * 100).await;
            Err::<u32, _>(Error::Service("no"))
        }
    });
    let layer = RetryLayer::max_attempts(100).backoff(Backoff::none()).budget(Budget::unlimited());
    let answer = under(MS * 500, layer.layer(service.clone()).oneshot(7)).await;
    assert_eq!((answer, attempts.swap(0, Relaxed)), (Err(Error::Service("no")), 5));
    let limited = layer.max_elapsed(MS * 500);
    assert!(limited.layer(service).oneshot(7).await.is_err());
    assert_eq!(attempts.load(Relaxed), 5, "max_elapsed likewise");
}

#[tokio::test(start_paused = true)]
async fn no_attempt_starts_after_a_sleep_that_the_thread_overslept() {
    for by_deadline in [true, false] {
        let mock = Mock::new([Fail("a"), Good(2)]);
        let layer = if by_deadline { retry() } else { retry().max_elapsed(MS * 150) };
        let (layer, handle) = layer.with_handle();
        let limit = if by_deadline { 150 } else { 10_000 };
        let mut call = task::spawn(under(MS * limit, layer.layer(mock.clone()).oneshot(7)));
        assert_pending!(call.poll());
        // The thread is busy elsewhere, so the call is polled too late.
        tokio::time::advance(MS * 500).await;
        assert_eq!(assert_ready!(call.poll()), Err(Error::Service("a")));
        assert_eq!((mock.calls().len(), handle.stats().too_late), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn no_attempt_starts_once_its_instance_was_ready_too_late() {
    let mock = Mock::new([Fail("a"), Good(2)]);
    let service = retry().layer(mock.clone());
    let mut call = task::spawn(under(MS * 150, service.oneshot(7)));
    assert_pending!(call.poll());
    mock.hold(true);
    tokio::time::advance(MS * 101).await;
    assert_pending!(call.poll());
    tokio::time::advance(MS * 49).await;
    mock.hold(false);
    assert_eq!(assert_ready!(call.poll()), Err(Error::Service("a")));
    assert_eq!(mock.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_too_late_and_has_no_error_left_is_expired() {
    let mock = Mock::new([Good(1), Good(2)]);
    let layer = retry().classify(transient::<u32, Failure>).name("search");
    let mut call = task::spawn(under(MS * 150, layer.layer(mock).oneshot(7)));
    assert_pending!(call.poll());
    tokio::time::advance(MS * 500).await;
    let Err(Error::Rejected(expired)) = assert_ready!(call.poll()) else { panic!("no refusal") };
    assert_eq!((expired.layer(), expired.name()), ("retry", Some("search")));
    assert_eq!(expired.reason(), Reason::Expired);
}

#[tokio::test(start_paused = true)]
async fn no_attempt_begins_after_max_elapsed() {
    let mock = Mock::new([Fail("a"), Fail("b"), Good(3)]);
    let (layer, handle) = retry().max_elapsed(MS * 150).with_handle();
    assert_eq!(layer.layer(mock.clone()).oneshot(7).await, Err(Error::Service("b")));
    assert_eq!(mock.calls(), [(7, Duration::ZERO), (7, MS * 100)]);
    assert_eq!(handle.stats().too_late, 1);
    mock.script([Fail("a"), Good(2)]);
    assert_eq!(layer.layer(mock).oneshot(7).await, Ok(2), "each call has its own time");
}

#[tokio::test(start_paused = true)]
async fn a_hint_beyond_all_time_is_not_slept_for() {
    let mock = Mock::new([Refuse(refused().with_retry_after(Duration::MAX)), Good(2)]);
    let layer = retry().retry_refusals(MS * 1_000).max_elapsed(MS * 1_000);
    assert!(layer.layer(mock).oneshot(7).await.is_err());
}

// === budget ===

#[tokio::test(start_paused = true)]
async fn gives_up_without_a_wait_when_the_budget_has_no_token() {
    let mock = Mock::new([Fail("a"), Good(2)]);
    let (layer, handle) = retry().budget(Budget::new(0.5, 0.0)).with_handle();
    let start = Instant::now();
    assert_eq!(layer.layer(mock).oneshot(7).await, Err(Error::Service("a")));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!((handle.stats().over_budget, handle.stats().retried), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_too_late_takes_no_token() {
    let mock = Mock::new([Fail("told"), Fail("a"), Good(3)]);
    // Ten seconds' worth: a single token.
    let layer = retry().budget(Budget::new(0.0, 0.1)).max_elapsed(MS * 150);
    let (layer, handle) = layer.classify(told(MS * 200)).with_handle();
    let service = layer.layer(mock);
    assert!(service.clone().oneshot(7).await.is_err());
    assert_eq!(service.oneshot(7).await, Ok(3));
    assert_eq!((handle.stats().too_late, handle.stats().retried), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_budget_bounds_the_share_of_repeated_attempts() {
    for (ratio, of_1000) in [(0.2, 200), (0.6, 600), (0.9, 900)] {
        let layer =
            RetryLayer::max_attempts(9).backoff(Backoff::none()).budget(Budget::new(ratio, 0.0));
        let (layer, handle) = layer.with_handle();
        let mut service =
            layer.layer(service_fn(async |_: u32| Err::<(), _>(Error::Service("no"))));
        for _ in 0..1_000 {
            assert!(service.ready().await.unwrap().call(7).await.is_err());
        }
        assert_eq!(handle.stats().retried, of_1000, "{ratio}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_half_of_the_attempts_fail_no_more_is_repeated_than_the_ratio_says() {
    let layer = RetryLayer::max_attempts(9).backoff(Backoff::none()).budget(Budget::new(0.2, 0.0));
    let (layer, handle) = layer.with_handle();
    let attempts = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&attempts);
    let mut service = layer.layer(service_fn(move |_: u32| {
        let fails = count.fetch_add(1, Relaxed).is_multiple_of(2);
        async move { if fails { Err(Error::Service("no")) } else { Ok(()) } }
    }));
    for _ in 0..1_000 {
        let _ = service.ready().await.unwrap().call(7).await;
    }
    let retried = handle.stats().retried;
    assert!((190..=200).contains(&retried), "{retried} of 1,000 calls");
    assert_eq!(attempts.load(Relaxed), 1_000 + retried as u32);
}

#[tokio::test(start_paused = true)]
async fn calls_that_succeed_pay_for_those_that_fail_whichever_clone_makes_them() {
    let mock = Mock::new([]);
    let (layer, handle) = retry().budget(Budget::new(0.1, 0.0)).with_handle();
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
    assert_eq!((handle.stats().retried, handle.stats().over_budget), (1, 1));
}

/// The further attempts of all of ten calls that fail, with a service of its own.
async fn spend<L>(layer: &L) -> u64
where
    L: Layer<Mock, Service = Retry<Mock>>,
{
    let service = layer.layer(Mock::new([Fail("no"); 30]));
    for _ in 0..10 {
        assert!(service.clone().oneshot(7).await.is_err());
    }
    service.handle().stats().retried
}

#[tokio::test(start_paused = true)]
async fn all_applications_share_one_budget_and_those_per_service_have_their_own() {
    let layer =
        || RetryLayer::max_attempts(3).backoff(Backoff::none()).budget(Budget::new(0.0, 1.0));
    let shared = layer();
    assert_eq!([spend(&shared).await, spend(&shared.clone()).await], [10, 10]);
    assert_eq!(shared.with_handle().1.stats().retried, 10);
    let per_service = layer().per_service();
    assert_eq!([spend(&per_service).await, spend(&per_service).await], [10, 10]);
    assert_eq!(spend(&per_service.clone()).await, 10);
}

#[tokio::test(start_paused = true)]
async fn layers_with_clones_of_one_budget_share_it_and_have_counts_of_their_own() {
    let budget = Budget::new(0.0, 1.0);
    let layer = || RetryLayer::max_attempts(3).backoff(Backoff::none()).budget(budget.clone());
    assert_eq!([spend(&layer()).await, spend(&layer()).await], [10, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_setter_starts_a_layer_that_shares_nothing_with_the_one_before() {
    let before = RetryLayer::max_attempts(3).backoff(Backoff::none());
    assert_eq!(spend(&before).await, 20);
    let (after, handle) = before.clone().name("after").with_handle();
    assert_eq!(handle.stats(), Default::default());
    assert_eq!(spend(&after).await, 20);
    assert_eq!(before.with_handle().1.stats().retried, 20);
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_is_set_while_the_layer_works_holds_from_the_next_attempt_on() {
    let layer = RetryLayer::max_attempts(3).backoff(Backoff::none());
    let (layer, handle) = layer.budget(Budget::new(0.0, 0.0)).with_handle();
    assert_eq!(spend(&layer).await, 0);
    handle.set_budget(Budget::unlimited());
    assert_eq!(spend(&layer).await, 20);
    assert!(handle.budget().ratio().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_call_keeps_the_configuration_that_it_began_with_and_the_next_has_the_new_one() {
    let mock = Mock::new([Fail("a"), Fail("b"), Good(1), Fail("c"), Fail("d"), Good(2)]);
    let service = retry().layer(mock.clone());
    let handle = service.handle();
    let mut call = task::spawn(service.clone().oneshot(7));
    assert_pending!(call.poll());

    let mut config = handle.config();
    (config.max_attempts, config.backoff) = (2, Backoff::constant(MS * 10));
    config.name = Some("other".into());
    handle.set(config).unwrap();
    assert_eq!((handle.config().max_attempts, handle.name()), (2, None), "names stay");
    assert_eq!(call.await, Ok(1), "it had three attempts, 100 ms apart");
    assert_eq!(mock.calls(), [(7, Duration::ZERO), (7, MS * 100), (7, MS * 200)]);

    assert_eq!(service.oneshot(8).await, Err(Error::Service("d")));
    assert_eq!(mock.calls()[3..], [(8, MS * 200), (8, MS * 210)]);
}

#[tokio::test(start_paused = true)]
async fn a_new_configuration_reaches_clones_that_were_called_often_and_those_that_never_were() {
    let mock = Mock::new([Fail("a"); 60]);
    let mut often = retry().layer(mock.clone());
    let never = often.clone();
    for _ in 0..9 {
        often.ready().await.unwrap().call(1).await.unwrap_err();
    }
    let handle = never.handle();
    for (attempts, calls) in [(1, 27), (5, 29)] {
        let mut config = handle.config();
        config.max_attempts = attempts;
        handle.set(config).unwrap();
        assert_eq!(mock.calls().len(), calls);
        often.ready().await.unwrap().call(1).await.unwrap_err();
        never.clone().oneshot(1).await.unwrap_err();
        assert_eq!(mock.calls().len(), calls + 2 * attempts as usize);
    }
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_is_wrong_changes_nothing() {
    let (_layer, handle) = retry().with_handle();
    let mut config = handle.config();
    (config.max_attempts, config.max_elapsed) = (9, Some(Duration::ZERO));
    let error = handle.set(config).unwrap_err().to_string();
    assert_eq!(
        error,
        "Config::max_elapsed: 0ns is not allowed, it has to be from 1ns to 315360000s"
    );
    assert_eq!((handle.config().max_attempts, handle.config().max_elapsed), (3, None));
}

#[tokio::test(start_paused = true)]
async fn any_floor_rate_pays_out_in_the_long_run() {
    let attempts = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&attempts);
    let service = service_fn(move |_: u32| {
        count.fetch_add(1, Relaxed);
        async { Err::<u32, _>(Error::Service("no")) }
    });
    let (layer, handle) = RetryLayer::max_attempts(2).budget(Budget::new(0.2, 0.05)).with_handle();
    let service = layer.layer(service);
    for _ in 0..1_000 {
        assert!(service.clone().oneshot(7).await.is_err());
        tokio::time::sleep(MS * 10_000).await;
    }
    let retried = handle.stats().retried;
    assert!((500..=700).contains(&retried), "{retried}");
    assert_eq!(u64::from(attempts.load(Relaxed)), 1_000 + retried);
}

#[tokio::test(start_paused = true)]
async fn the_floor_rate_comes_back_with_time() {
    let mock = Mock::new((0..1_000).map(|_| Fail("no")));
    let layer =
        RetryLayer::max_attempts(100).backoff(Backoff::none()).budget(Budget::new(0.0, 1.0));
    let (layer, handle) = layer.with_handle();
    let service = layer.layer(mock);
    assert!(service.clone().oneshot(7).await.is_err());
    assert_eq!(handle.stats().retried, 10);
    tokio::time::advance(Duration::from_secs(30 * 86_400)).await;
    assert!(service.oneshot(7).await.is_err());
    assert_eq!(handle.stats().retried, 20, "ten seconds' worth, after thirty days");
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
#[should_panic(
    expected = "RetryLayer::max_attempts: 0 is not allowed, it has to be from 1 to 4294967295"
)]
fn zero_attempts_are_wrong() {
    let _ = RetryLayer::max_attempts(0);
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

#[test]
#[should_panic(expected = "RetryLayer::name: \"xxx")]
fn a_name_of_a_megabyte_is_wrong() {
    let _ = retry().name("x".repeat(1 << 20));
}

#[test]
fn the_same_checks_are_there_as_errors() {
    let error = |change: fn(&mut Config)| {
        let mut config = Config::new(3);
        change(&mut config);
        config.try_build().unwrap_err().to_string()
    };
    assert!(error(|c| c.max_attempts = 0).starts_with("Config::max_attempts: 0 is not"));
    let endless = Some(Duration::MAX);
    assert!(error(|c| c.max_elapsed = Some(Duration::ZERO)).contains("max_elapsed: 0ns is not"));
    let mut config = Config::new(3);
    (config.retry_refusals, config.name) = (endless, Some("db".to_owned().into()));
    assert!(config.clone().try_build().unwrap_err().to_string().contains("retry_refusals"));
    config.retry_refusals = None;
    assert_eq!(config.try_build().unwrap().with_handle().1.name(), Some("db"));
    assert!(Backoff::try_exponential(MS * 2, MS).is_err());
    assert!(Backoff::try_constant(Duration::ZERO).is_err());
    assert!(Backoff::default().try_factor(0.5).is_err());
}

#[test]
fn the_order_of_setters_makes_no_difference() {
    let one = RetryLayer::max_attempts(2)
        .name("db")
        .idempotent(|_: &u32| false)
        .seed(1)
        .max_elapsed(MS)
        .backoff(Backoff::none());
    let other = RetryLayer::max_attempts(2)
        .backoff(Backoff::none())
        .max_elapsed(MS)
        .seed(1)
        .idempotent(|_: &u32| false)
        .name("db");
    assert_eq!(format!("{one:?}"), format!("{other:?}"));
}

#[test]
fn the_handle_reads_back_what_is_configured() {
    let (_, handle) = retry().name("db").retry_refusals(MS).max_elapsed(MS * 2).with_handle();
    let config = handle.config();
    assert_eq!((config.max_attempts, config.retry_refusals), (3, Some(MS)));
    assert_eq!((config.max_elapsed, handle.name()), (Some(MS * 2), Some("db")));
    assert!(config.budget.unwrap().per_second().is_none(), "unlimited");
}

// === prepare, bypass, switched off ===

#[tokio::test(start_paused = true)]
async fn prepare_changes_the_request_of_each_attempt_and_sees_the_result_before_it() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let prepare = move |request: &mut u32, attempt, last: Option<&Result<u32, Failure>>| {
        *request += 100 * attempt;
        log.lock().unwrap().push((attempt, last.copied()));
    };
    let mock = Mock::new([Refuse(refused()), Fail("a"), Unready("b"), Good(3)]);
    let layer = retry().retry_refusals(MS * 1_000).prepare(prepare);
    assert_eq!(layer.layer(mock.clone()).oneshot(7).await, Ok(3));
    let refused = Err(Error::Rejected(refused()));
    let [a, b] = ["a", "b"].map(|text| Err(Error::Service(text)));
    let expected = [(1, None), (1, Some(refused)), (2, Some(a)), (3, Some(b))];
    assert_eq!(*seen.lock().unwrap(), expected);
    let sent: Vec<_> = mock.calls().iter().map(|(request, _)| *request).collect();
    assert_eq!(sent, [107, 207, 707], "changes stay");
}

#[tokio::test(start_paused = true)]
async fn requests_that_pass_by_are_not_repeated_copied_or_charged() {
    let mock = Mock::new([Fail("a"), Fail("b"), Good(3)]);
    let copies = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&copies);
    let (layer, handle) = retry()
        .budget(Budget::new(1.0, 0.0))
        .clone_request(move |n: &u32| {
            count.fetch_add(1, Relaxed);
            Some(*n)
        })
        .bypass(|n: &u32| *n == 7)
        .with_handle();
    let service = layer.layer(mock.clone());
    assert_eq!(service.clone().oneshot(7).await, Err(Error::Service("a")));
    assert_eq!((copies.load(Relaxed), handle.stats()), (0, Default::default()));
    assert!(!handle.budget().withdraw(Instant::now()));
    assert_eq!(service.oneshot(8).await, Ok(3));
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_is_switched_off_repeats_nothing() {
    let mock = Mock::new([Fail("a"), Fail("b"), Good(3)]);
    let (layer, handle) = retry().with_handle();
    let service = layer.layer(mock.clone());
    handle.set_enabled(false);
    assert!(!handle.is_enabled());
    assert_eq!(service.clone().oneshot(7).await, Err(Error::Service("a")));
    handle.set_enabled(true);
    assert_eq!(service.oneshot(7).await, Ok(3));
}

#[tokio::test(start_paused = true)]
async fn a_sleep_is_reported_to_whoever_measures_the_service() {
    let mock = Mock::new([Fail("a"), Good(2)]);
    let mut counter = waits::Counter::default();
    let mut call = std::pin::pin!(retry().layer(mock).oneshot(7));
    let answer = std::future::poll_fn(|cx| counter.enter(|| call.as_mut().poll(cx))).await;
    assert_eq!((answer, counter.waited()), (Ok(2), MS * 100));
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
    let (named, handle) = retry().name("search").with_handle();
    assert_eq!(handle.name(), Some("search"));
    assert_eq!(named.layer(Mock::new([])).handle().name(), Some("search"));
}
