//! Calls that wait in equal or weighted shares; on the paused clock.

mod common;

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use stockade_core::{LayerError, Reason, Share};
use stockade_limit::LimitLayer;
use stockade_testkit::{Probe, contract};
use tokio::time::{Instant, sleep};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service, ServiceExt, service_fn};

use common::Refusal;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Tenant {
    Hot,
    Cold,
}

use Tenant::{Cold, Hot};

const MS: Duration = Duration::from_millis(1);

fn takes(
    time: Duration,
) -> impl Service<Tenant, Response = (), Error = Refusal, Future: Send> + Clone + Send {
    service_fn(move |_: Tenant| async move {
        sleep(time).await;
        Ok(())
    })
}

/// How many calls of each tenant were answered in ten seconds, where each tenant makes so many calls a second.
async fn offer<S>(svc: S, tenants: &[(Tenant, u32)]) -> BTreeMap<Tenant, u32>
where
    S: Service<Tenant, Response = (), Error = Refusal, Future: Send> + Clone + Send + 'static,
{
    let answered: &'static Mutex<BTreeMap<_, _>> = Box::leak(Box::default());
    let end = Instant::now() + 10_000 * MS;
    let sources = tenants.iter().map(|&(tenant, rate)| {
        let svc = svc.clone();
        tokio::spawn(async move {
            while Instant::now() < end {
                let call = svc.clone().oneshot(tenant);
                tokio::spawn(async move {
                    if call.await.is_ok() && Instant::now() < end {
                        *answered.lock().expect("nobody panics").entry(tenant).or_default() += 1;
                    }
                });
                sleep(1_000 * MS / rate).await;
            }
        })
    });
    for source in sources.collect::<Vec<_>>() {
        source.await.expect("no call panics");
    }
    answered.lock().expect("nobody panics").clone()
}

fn ratio(answered: &BTreeMap<Tenant, u32>) -> f64 {
    f64::from(answered[&Hot]) / f64::from(answered[&Cold])
}

#[tokio::test(start_paused = true)]
async fn two_tenants_at_ten_to_one_get_equal_shares_or_what_they_weigh() {
    // 100 a second, of which one tenant wants ten times as much as the other.
    let load = [(Hot, 1_000), (Cold, 100)];
    for queue in [16, 1_024] {
        let limit = LimitLayer::new(10).queue(queue);
        let equal = limit.clone().fair_by(|tenant: &Tenant| *tenant);
        let answered = offer(equal.layer(takes(100 * MS)), &load).await;
        assert!((ratio(&answered) - 1.0).abs() < 0.05, "{answered:?}");
        assert!(answered.values().sum::<u32>() >= 980, "{answered:?}");

        let weigh = |tenant: &Tenant| Share::of(tenant).weight(if *tenant == Hot { 3 } else { 1 });
        let answered = offer(limit.fair_by(weigh).layer(takes(100 * MS)), &load).await;
        assert!((ratio(&answered) - 3.0).abs() < 0.15, "{answered:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_pays_more_for_a_call_makes_fewer_of_them() {
    let cost = |tenant: &Tenant| Share::of(tenant).cost(if *tenant == Hot { 4 } else { 1 });
    let limit = LimitLayer::new(10).fair_by(cost);
    let answered = offer(limit.layer(takes(100 * MS)), &[(Hot, 500), (Cold, 500)]).await;
    assert!((ratio(&answered) - 0.25).abs() < 0.0125, "{answered:?}");
}

#[tokio::test(start_paused = true)]
async fn what_one_tenant_does_not_use_goes_to_the_other() {
    let limit = LimitLayer::new(10).fair_by(|tenant: &Tenant| *tenant);
    let answered = offer(limit.layer(takes(100 * MS)), &[(Hot, 1_000), (Cold, 20)]).await;
    assert!(answered[&Cold] >= 195, "{answered:?}");
    assert!(answered[&Hot] >= 780, "{answered:?}");
}

#[tokio::test(start_paused = true)]
async fn in_a_full_queue_the_one_with_the_most_calls_loses_the_last_of_them() {
    let (limit, handle) =
        LimitLayer::new(1).queue(3).fair_by(|tenant: &Tenant| *tenant).with_handle();
    let svc = limit.layer(takes(MS));
    let call = |tenant| task::spawn(svc.clone().oneshot(tenant));
    let reason = |result: Result<(), Refusal>| result.unwrap_err().rejected().unwrap().reason();
    let permit = handle.try_acquire().unwrap();
    let mut hot = [Hot; 3].map(call);
    hot.iter_mut().for_each(|call| assert_pending!(call.poll()));
    let mut cold = call(Cold);
    assert_pending!(cold.poll());
    assert!(!hot[0].is_woken() && !hot[1].is_woken() && hot[2].is_woken());
    assert_eq!(reason(assert_ready!(hot[2].poll())), Reason::Shed);
    assert_eq!(reason(assert_ready!(call(Hot).poll())), Reason::QueueFull);
    assert_eq!(reason(assert_ready!(call(Cold).poll())), Reason::QueueFull);
    drop(permit);
    assert!(hot[0].is_woken());
    drop((hot, cold));
    assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_permit_by_hand_waits_as_one_of_nobody() {
    let (limit, handle) = LimitLayer::new(1).fair_by(|tenant: &Tenant| *tenant).with_handle();
    let svc = limit.layer(takes(MS));
    let permit = handle.try_acquire().unwrap();
    let mut calls = [Hot; 3].map(|tenant| task::spawn(svc.clone().oneshot(tenant)));
    calls.iter_mut().for_each(|call| assert_pending!(call.poll()));
    let mut by_hand = task::spawn(handle.acquire());
    assert_pending!(by_hand.poll());
    drop(permit);
    assert!(calls[0].is_woken());
    drop(calls);
    assert!(assert_ready!(by_hand.poll()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_fair_limit_keeps_the_contract() {
    contract(|inner: Probe| LimitLayer::new(2).fair_by(|_: &_| 1).layer(inner))
        .limit(2)
        .run()
        .await
        .assert();
    contract(|inner: Probe| LimitLayer::new(2).fair_by(|_: &_| 1).backpressure().layer(inner))
        .limit(2)
        .run()
        .await
        .assert();
}
