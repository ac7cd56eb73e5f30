//! What a limit does that follows a policy.

mod common;

use std::{convert::Infallible, future::ready, sync::atomic::Ordering::SeqCst, time::Duration};

use common::{Inner, Refusal};
use stockade_core::{Class, Error, Reason, Rejected, deadline::Deadline};
use stockade_limit::{Adaptive, Aimd, Gradient2, LimitHandle, LimitLayer, Policy, Sample, Vegas};
use tokio::time::{Instant, sleep};
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{Layer, Service};

/// How a call goes: after so long, with this class.
type Request = (Duration, Class);

const MS: Duration = Duration::from_millis(1);
const OVERLOAD: Class = Class::OVERLOAD;

/// Tells the class that is in the answer.
fn classify(result: Result<&Class, &Refusal>) -> Class {
    result.copied().unwrap_or(Class::Transient { after: None })
}

async fn answer((after, class): Request) -> Result<Class, Refusal> {
    sleep(after).await;
    match class {
        Class::Transient { .. } => Err(Rejected::new(&"timeout", Reason::Elapsed).into()),
        class => Ok(class),
    }
}

/// Runs `calls` at once, until all have ended.
async fn burst<S>(svc: &S, calls: impl IntoIterator<Item = Request>)
where
    S: Service<Request, Response = Class, Error = Refusal> + Clone,
    S::Future: Send + 'static,
{
    let calls: Vec<_> =
        calls.into_iter().map(|call| tokio::spawn(svc.clone().call(call))).collect();
    for call in calls {
        let _ = call.await.expect("no panic");
    }
}

fn aimd(
    initial: usize,
) -> (impl Service<Request, Response = Class, Error = Refusal, Future: Send> + Clone, LimitHandle) {
    let layer = LimitLayer::adaptive(Aimd::new()).initial(initial).classify(classify);
    let svc = layer.layer(tower::service_fn(answer));
    let handle = svc.handle();
    (svc, handle)
}

#[tokio::test(start_paused = true)]
async fn clones_do_not_over_admit_and_limit_2_over_8_services_runs_2() {
    let layer = LimitLayer::adaptive(Aimd::new()).max(2);
    let inner = Inner::default();
    let mut services: Vec<_> = (0..8).map(|_| layer.layer(inner.clone())).collect();
    for svc in &mut services {
        assert_ready_ok!(task::spawn(()).enter(|cx, _| svc.poll_ready(cx)));
    }
    let mut calls: Vec<_> = services.iter_mut().map(|svc| task::spawn(svc.call(0))).collect();
    calls.iter_mut().for_each(|call| assert_pending!(call.poll()));
    let handle = services[0].handle();
    assert_eq!((handle.in_flight(), handle.waiting()), (2, 6));
    for ended in (2..=8).step_by(2) {
        assert_eq!(inner.calls.load(SeqCst), ended);
        inner.open.notify_waiters();
        calls[ended - 2..].iter_mut().for_each(|call| {
            let _ = call.poll();
        });
    }
    assert_eq!((handle.in_flight(), handle.max()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn one_burst_of_losses_counts_once() {
    let (svc, limit) = aimd(10);
    burst(&svc, [(MS, OVERLOAD); 10]).await;
    assert_eq!(limit.max(), 9);
    burst(&svc, [(MS, OVERLOAD)]).await;
    assert_eq!(limit.max(), 8);
}

#[tokio::test(start_paused = true)]
async fn results_of_calls_admitted_before_a_change_change_nothing() {
    let (svc, limit) = aimd(10);
    let late = svc.clone();
    let late = tokio::spawn(async move { burst(&late, [(10 * MS, OVERLOAD); 4]).await });
    burst(&svc, [(MS, Class::Success); 6]).await;
    assert_eq!(limit.max(), 11, "one for the first, and nothing for those of its time");
    late.await.unwrap();
    assert_eq!(limit.max(), 11);

    let late = svc.clone();
    let late = tokio::spawn(async move { burst(&late, [(10 * MS, OVERLOAD); 4]).await });
    sleep(MS).await;
    limit.set_max(20).unwrap();
    late.await.unwrap();
    assert_eq!(limit.max(), 20);
}

#[tokio::test(start_paused = true)]
async fn grows_only_when_at_least_half_of_the_limit_is_in_flight() {
    let (svc, limit) = aimd(10);
    for _ in 0..50 {
        burst(&svc, [(MS, Class::Success); 4]).await;
    }
    assert_eq!(limit.max(), 10);
    burst(&svc, [(MS, Class::Success); 5]).await;
    assert_eq!(limit.max(), 11);
}

#[tokio::test(start_paused = true)]
async fn overload_and_timeouts_are_losses_and_other_failures_tell_nothing() {
    for (class, after) in [
        (Class::Success, 11),
        (Class::Permanent, 11),
        (OVERLOAD, 9),
        (Class::Transient { after: None }, 9),
        (Class::NoEffect { after: None }, 10),
    ] {
        let (svc, limit) = aimd(10);
        burst(&svc, [(MS, class); 10]).await;
        assert_eq!(limit.max(), after, "{class:?}");
    }
    let layer = LimitLayer::adaptive(Aimd::new()).initial(1);
    let mut svc =
        layer.layer(tower::service_fn(|()| ready(Err::<(), _>(Error::Service("broken")))));
    svc.call(()).await.unwrap_err();
    assert_eq!(svc.handle().max(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_after_its_deadline_is_a_loss_and_one_dropped_before_tells_nothing() {
    for (wait, after) in [(5, 10), (10, 9)] {
        let (mut svc, limit) = aimd(10);
        let mut deadline = Deadline::At(Instant::now() + 10 * MS);
        let call = deadline.enter(|| svc.call((1_000 * MS, Class::Success)));
        sleep(wait * MS).await;
        drop(call);
        assert_eq!((limit.max(), limit.in_flight()), (after, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_in_the_queue_tells_nothing() {
    let (mut svc, limit) = aimd(1);
    let mut deadline = Deadline::At(Instant::now() + MS);
    let _held = svc.call((1_000 * MS, Class::Success));
    let waiting = deadline.enter(|| svc.call((MS, Class::Success)));
    sleep(5 * MS).await;
    drop(waiting);
    assert_eq!((limit.max(), limit.in_flight(), limit.waiting()), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_come_in_when_the_limit_grows() {
    let (mut svc, limit) = aimd(1);
    let mut calls: Vec<_> =
        (0..3).map(|n| task::spawn(svc.call((MS * (1 + 9 * n), Class::Success)))).collect();
    calls.iter_mut().for_each(|call| assert_pending!(call.poll()));
    sleep(2 * MS).await;
    assert_ready_ok!(calls[0].poll());
    assert!(calls[1].is_woken() && calls[2].is_woken());
    assert_eq!((limit.max(), limit.in_flight(), limit.waiting()), (2, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn the_limit_stays_within_its_bounds_whatever_the_policy_says() {
    #[derive(Clone)]
    struct Says(f64);
    impl Policy for Says {
        fn update(&mut self, _: &Sample) -> f64 {
            self.0
        }
    }
    for (says, after) in
        [(0.0, 4), (-1e300, 4), (1e300, 8), (f64::INFINITY, 8), (f64::NAN, 5), (6.9, 6)]
    {
        let layer = LimitLayer::adaptive(Says(says)).min(4).max(8).initial(5).classify(classify);
        let svc = layer.layer(tower::service_fn(answer));
        burst(&svc, [(MS, Class::Success); 5]).await;
        assert_eq!(svc.handle().max(), after, "{says}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_panics_costs_one_call_its_answer() {
    #[derive(Clone)]
    struct Fails(bool);
    impl Policy for Fails {
        fn update(&mut self, sample: &Sample) -> f64 {
            assert!(std::mem::replace(&mut self.0, true), "as asked");
            sample.limit + 1.0
        }
    }
    let layer = LimitLayer::adaptive(Fails(false)).initial(1);
    let svc = layer.layer(tower::service_fn(|()| ready(Ok::<_, Error<Infallible>>(()))));
    let call =
        |mut svc: stockade_limit::Limit<_, _>| tokio::spawn(async move { svc.call(()).await });
    let handle = svc.handle();
    assert!(call(svc.clone()).await.unwrap_err().is_panic());
    assert_eq!(handle.in_flight(), 0);
    call(svc).await.unwrap().unwrap();
    assert_eq!((handle.in_flight(), handle.max()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_per_service_layer_learns_for_each_service_by_itself() {
    let layer = LimitLayer::adaptive(Aimd::new()).initial(10).classify(classify).per_service();
    let (one, other) =
        (layer.layer(tower::service_fn(answer)), layer.layer(tower::service_fn(answer)));
    burst(&one, [(MS, OVERLOAD)]).await;
    assert_eq!((one.handle().max(), other.handle().max()), (9, 10));
}

#[tokio::test(start_paused = true)]
async fn backpressure_follows_the_policy_too() {
    let layer = LimitLayer::adaptive(Aimd::new()).initial(1).classify(classify);
    let (layer, handle) = layer.with_handle();
    let mut svc = layer.backpressure().layer(tower::service_fn(answer));
    let mut other = svc.clone();
    let mut task = task::spawn(());
    assert_ready_ok!(task.enter(|cx, _| svc.poll_ready(cx)));
    assert_pending!(task.enter(|cx, _| other.poll_ready(cx)));
    let call = svc.call((MS, Class::Success));
    call.await.unwrap();
    assert!(task.is_woken());
    assert_ready_ok!(task.enter(|cx, _| other.poll_ready(cx)));
    assert_ready_ok!(task.enter(|cx, _| svc.poll_ready(cx)));
    assert_eq!((handle.max(), handle.in_flight()), (2, 2));
}

/// A service that works at so many calls at once, and takes 10 ms for each, as many callers see it as the
async fn settled(layer: LimitLayer<Adaptive<impl Policy>>, servers: usize) -> usize {
    let work = LimitLayer::new(servers);
    let inner = work.layer(tower::service_fn(async |()| {
        sleep(10 * MS).await;
        Ok::<_, Error<Infallible>>(())
    }));
    let svc = layer.queue(1_000).layer(inner);
    let limit = svc.handle();
    let callers: Vec<_> = (0..200)
        .map(|_| {
            let mut svc = svc.clone();
            tokio::spawn(async move {
                let end = Instant::now() + 20_000 * MS;
                while Instant::now() < end {
                    svc.call(()).await.expect("an answer");
                }
            })
        })
        .collect();
    sleep(10_000 * MS).await;
    let mut late = Vec::new();
    while !callers.iter().all(tokio::task::JoinHandle::is_finished) {
        late.push(limit.max());
        sleep(100 * MS).await;
    }
    late.sort_unstable();
    late[late.len() / 2]
}

#[tokio::test(start_paused = true)]
async fn vegas_finds_how_many_calls_a_service_works_at() {
    for servers in [5, 30] {
        let limit = settled(LimitLayer::adaptive(Vegas::new()), servers).await;
        assert!((servers..=servers + 8).contains(&limit), "{limit} for {servers}");
    }
}

#[tokio::test(start_paused = true)]
async fn aimd_finds_the_limit_beyond_which_calls_are_slow() {
    let policy = Aimd::new().slower_than(25 * MS);
    let limit = settled(LimitLayer::adaptive(policy), 20).await;
    assert!((36..=60).contains(&limit), "{limit}, while 25 ms are 2.5 turns of 20");
}

#[tokio::test(start_paused = true)]
async fn gradient2_does_not_leave_a_service_idle_nor_go_beyond_its_maximum() {
    let limit = settled(LimitLayer::adaptive(Gradient2::new()).initial(1).max(60), 20).await;
    assert!((20..=60).contains(&limit), "{limit}");
}

#[test]
fn the_bounds_of_an_adaptive_limit_may_be_set_in_any_order_and_are_clamped() {
    let adaptive = || LimitLayer::adaptive(Aimd::new());
    let starts = |layer: LimitLayer<Adaptive<Aimd>>| layer.with_handle().1.max();
    assert_eq!(starts(adaptive()), 20);
    assert_eq!(starts(adaptive().max(5)), 5);
    assert_eq!([starts(adaptive().max(5).min(6)), starts(adaptive().min(6).max(5))], [5, 5]);
    assert_eq!(
        [starts(adaptive().max(5).initial(9)), starts(adaptive().initial(9).max(5))],
        [5, 5]
    );
    assert_eq!(
        [starts(adaptive().min(7).initial(2)), starts(adaptive().initial(2).min(7))],
        [7, 7]
    );
    assert_eq!(starts(adaptive().min(3_000).max(4_000)), 3_000);

    let refused = |build: fn() -> LimitLayer<Adaptive<Aimd>>| {
        let panic = std::panic::catch_unwind(build).unwrap_err();
        panic.downcast_ref::<String>().unwrap().clone()
    };
    let message = refused(|| LimitLayer::adaptive(Aimd::new()).min(0));
    assert_eq!(message, "LimitLayer::min: 0 is not allowed, it has to be from 1 to 2147483647");
    let message = refused(|| LimitLayer::adaptive(Aimd::new().backoff(f64::NAN)));
    assert_eq!(message, "Aimd::backoff: NaN is not allowed, it has to be from 0.1 to 0.99");
}
