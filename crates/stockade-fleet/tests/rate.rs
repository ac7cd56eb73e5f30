//! The rate limit over a Redis that runs.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]
#![cfg(feature = "redis")]

mod common;

use std::time::Duration;

use common::{Log, passes, refusal, server};
use stockade_core::{Error, Reason, deadline::Deadline};
use stockade_fleet::{
    Fault, Mode, Presence, Redis,
    rate::{Outage, RateLayer},
};
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn layers_with_one_key_share_one_bucket_and_others_do_not() {
    let (_server, redis) = server().await;
    let others = Redis::new(&_server.url()).unwrap();
    let layers = [redis, others].map(|redis| RateLayer::new(&redis, "shared", 5, HOUR).queue(0));

    let mut passed = 0;
    for n in 0..10 {
        passed += u32::from(passes(&layers[n % 2]).await);
    }

    assert_eq!(passed, 5);
    let other = RateLayer::new(common::handle(&layers[0]).redis(), "other", 5, HOUR).queue(0);
    assert!(passes(&other).await);
}

#[tokio::test]
async fn a_refusal_says_when_the_same_call_would_pass() {
    let (_server, redis) = server().await;
    let layer = RateLayer::new(&redis, "true", 1, 300 * MS).queue(0).name("geocoder");
    assert!(passes(&layer).await);

    let no = refusal(&layer).await;
    let after = common::time(&_server).await;
    assert_eq!(
        (no.layer(), no.reason(), no.name()),
        ("rate", Reason::RateLimited, Some("geocoder"))
    );
    // With a burst of one there is a token when the bucket is full.
    let full_at = common::full_at(&_server, "true").await.unwrap();
    let told = no.retry_after().unwrap();
    assert!(told <= 300 * MS && told >= full_at.saturating_sub(after), "{told:?}");

    sleep(told + MS).await;
    assert!(passes(&layer).await, "at the time that was said");
}

#[tokio::test]
async fn calls_wait_in_their_order_and_pass_at_the_rate() {
    let (_server, redis) = server().await;
    let layer = RateLayer::new(&redis, "order", 1, 20 * MS).queue(100);
    let log = Log::default();
    let begin = Instant::now();

    let service = layer.layer(service_fn(log.recorder()));
    let calls: Vec<_> = (0..20).map(|n| tokio::spawn(service.clone().oneshot(n))).collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }

    assert_eq!(log.order(), (0..20).collect::<Vec<_>>());
    assert!(begin.elapsed() >= 19 * 20 * MS, "{:?}", begin.elapsed());
    assert_eq!(common::handle(&layer).snapshot().waiting, 0);
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_refused_when_it_is_known() {
    let (_server, redis) = server().await;
    let layer = RateLayer::new(&redis, "long", 1, HOUR).max_wait(60 * MS);
    assert!(passes(&layer).await);

    let no = refusal(&layer).await;

    assert_eq!(no.reason(), Reason::WaitExceeded);
    let after = no.retry_after().unwrap();
    assert!(after > HOUR - 10 * 1_000 * MS && after <= HOUR - 60 * MS, "{after:?}");
}

#[tokio::test]
async fn no_call_waits_beyond_its_deadline_and_the_queue_is_bounded() {
    let (_server, redis) = server().await;
    let layer = RateLayer::new(&redis, "deadline", 1, HOUR).queue(1);
    assert!(passes(&layer).await);

    let mut call = std::pin::pin!(layer.layer(service_fn(common::echo)).oneshot(1));
    let mut deadline = Deadline::after(20_000 * MS);
    let begin = Instant::now();
    let expired = std::future::poll_fn(|cx| deadline.enter(|| call.as_mut().poll(cx))).await;
    let Err(Error::Rejected(no)) = expired else { panic!("it passed") };
    assert_eq!(no.reason(), Reason::Expired);
    assert!(begin.elapsed() < 10_000 * MS, "{:?}", begin.elapsed());

    let waits = tokio::spawn(layer.layer(service_fn(common::echo)).oneshot(2));
    while common::handle(&layer).snapshot().waiting == 0 {
        sleep(MS).await;
    }
    sleep(500 * MS).await;
    let full = refusal(&layer).await;
    assert_eq!(full.reason(), Reason::QueueFull);
    assert!(full.retry_after().unwrap() > HOUR - 10 * 1_000 * MS);
    waits.abort();
}

#[tokio::test]
async fn a_call_takes_what_it_costs_and_one_that_can_never_be_paid_is_told_so() {
    let (_server, redis) = server().await;
    let layer = RateLayer::new(&redis, "cost", 10, HOUR).queue(0);
    let layer = layer.cost(|cost: &u32| *cost);
    let call = async |cost| layer.layer(service_fn(common::echo)).oneshot(cost).await;

    let Err(Error::Rejected(no)) = call(11).await else { panic!("it passed") };
    assert_eq!((no.reason(), no.retry_after()), (Reason::TooCostly, None));
    assert!(call(7).await.is_ok());
    assert!(call(4).await.is_err());
    assert!(call(3).await.is_ok());
    assert!(call(0).await.is_ok());
    assert!(call(1).await.is_err());
}

#[tokio::test]
async fn each_key_has_a_bucket_and_a_bucket_that_is_full_takes_no_room() {
    let (_server, redis) = server().await;
    let layer = RateLayer::new(&redis, "user", 2, 4_000 * MS).queue(0);
    let layer = layer.keyed(|user: &u32| *user, 100);
    let call = async |user| layer.layer(service_fn(common::echo)).oneshot(user).await.is_ok();

    for user in 0..5 {
        assert!(call(user).await && call(user).await && !call(user).await);
    }

    let keys = common::keys(&_server, "user:*").await;
    assert_eq!(keys.len(), 5);
    let gone = async {
        while !common::keys(&_server, "user:*").await.is_empty() {
            sleep(50 * MS).await;
        }
    };
    timeout(Duration::from_secs(30), gone).await.expect("a key expires when its bucket is full");
}

#[tokio::test]
async fn keys_beyond_the_bound_share_a_bucket_only_while_all_others_have_calls_under_way() {
    let (_server, redis) = server().await;
    let layer = RateLayer::new(&redis, "bound", 1, HOUR);
    let layer = layer.keyed(|user: &u32| *user, 2);
    let call = |user| tokio::spawn(layer.layer(service_fn(common::echo)).oneshot(user));
    for user in 0..20 {
        assert!(call(user).await.unwrap().is_ok(), "an idle one makes room");
    }
    let waits = [18, 19].map(&call);
    while common::handle(&layer).snapshot().waiting < 2 {
        sleep(MS).await;
    }

    assert!(call(100).await.unwrap().is_ok(), "the first of those that share");
    let shares = timeout(100 * MS, call(101)).await;
    assert!(shares.is_err(), "the second one waits");
    for call in waits {
        call.abort();
    }
}

#[tokio::test]
async fn a_lease_of_ten_takes_one_round_trip_for_ten_calls() {
    let (_server, redis) = server().await;
    let layer = RateLayer::new(&redis, "lease", 100, HOUR).queue(0).lease(10);

    for _ in 0..100 {
        assert!(passes(&layer).await);
    }

    assert_eq!(common::handle(&layer).snapshot().asked, 10);
    assert!(!passes(&layer).await);
}

#[tokio::test]
async fn leases_of_idle_nodes_are_all_that_can_pass_beyond_the_rate() {
    const NODES: usize = 4;
    const K: u32 = 5;
    let (_server, redis) = server().await;
    let layers = [(); NODES].map(|()| RateLayer::new(&redis, "over", 20, HOUR).queue(0).lease(K));
    for layer in &layers {
        assert!(passes(layer).await, "each fetches a lease, and uses one token of it");
    }

    // From here on the bucket is empty, and gives nothing within the hour.
    let mut beyond = 0;
    for layer in &layers {
        while passes(layer).await {
            beyond += 1;
        }
    }

    assert_eq!(beyond, NODES * (K as usize - 1));
}

#[tokio::test]
async fn a_call_that_is_dropped_while_it_waits_leaves_its_token_to_the_next() {
    let (_server, redis) = server().await;
    let layer = RateLayer::new(&redis, "drop", 1, 1_000 * MS);
    assert!(passes(&layer).await);
    let first = tokio::spawn(layer.layer(service_fn(common::echo)).oneshot(1));
    while common::handle(&layer).snapshot().waiting == 0 {
        sleep(MS).await;
    }
    sleep(50 * MS).await;

    let begin = Instant::now();
    let second = tokio::spawn(layer.layer(service_fn(common::echo)).oneshot(2));
    sleep(20 * MS).await;
    first.abort();
    second.await.unwrap().unwrap();

    assert!(
        begin.elapsed() < 1_500 * MS,
        "it took the token that was on its way: {:?}",
        begin.elapsed()
    );
}

#[tokio::test]
async fn while_it_is_away_calls_pass_or_not_as_was_chosen_and_the_way_back_is_found() {
    let (mut server, redis) = server().await;
    let open = RateLayer::new(&redis, "open", 1, HOUR).queue(0).outage(Outage::Open);
    let closed =
        RateLayer::new(&redis, "closed", 1_000, 1_000 * MS).queue(0).outage(Outage::Closed);
    let share = RateLayer::new(&redis, "share", 40, 1_000 * MS).queue(0).outage(Outage::Share(4));
    assert!(passes(&open).await && passes(&closed).await && passes(&share).await);
    assert!(!common::handle(&open).is_alone());
    let watch = common::handle(&open).watch();

    server.kill().await;
    for _ in 0..20 {
        assert!(passes(&open).await);
        let no = refusal(&closed).await;
        assert_eq!(no.reason(), Reason::Unavailable);
        assert!(no.retry_after().unwrap() <= 1_000 * MS, "when it is looked for next");
    }
    let begin = Instant::now();
    let mut passed = 0;
    while begin.elapsed() < 1_000 * MS {
        passed += u32::from(passes(&share).await);
        sleep(5 * MS).await;
    }
    let most = 10.0 * begin.elapsed().as_secs_f64() + 1.0;
    assert!(passed >= 4 && f64::from(passed) <= most, "a quarter of 40 a second: {passed}");
    assert!(common::handle(&open).is_alone() && *watch.borrow() == Mode::Alone);
    let fault = common::handle(&open).snapshot().fault.unwrap();
    assert_eq!(fault.place(), format!("{}/0", server.address()));
    assert!(matches!(fault.fault(), Fault::Lost | Fault::Unreachable), "{fault}");
    assert_eq!(redis.presence(), Presence::Away);

    server.restart().await.unwrap();
    let back = async {
        while common::handle(&closed).is_alone() {
            let _ = passes(&closed).await;
            sleep(10 * MS).await;
        }
    };
    timeout(Duration::from_secs(20), back)
        .await
        .expect("it is back within the longest time between probes");
    assert_eq!(redis.presence(), Presence::Here);
    // The server has lost all buckets, and is told of this one by who knows it.
    let no = refusal(&open).await;
    assert!(no.retry_after().unwrap() > HOUR - 60 * 1_000 * MS, "{no}");
}

#[tokio::test]
async fn a_slow_redis_holds_no_call_longer_than_its_patience() {
    let (server, _) = server().await;
    let redis = Redis::new(&server.url()).unwrap().patience(40 * MS);
    let layer = RateLayer::per_second(&redis, "slow", 1_000).queue(0).outage(Outage::Open);
    assert!(passes(&layer).await);

    server.pause();
    let mut longest = Duration::ZERO;
    for _ in 0..50 {
        let begin = Instant::now();
        assert!(passes(&layer).await);
        longest = longest.max(begin.elapsed());
    }
    server.resume();

    assert!(longest < 2_000 * MS, "the rest is what a busy machine takes: {longest:?}");
    assert_eq!(common::handle(&layer).snapshot().fault.unwrap().fault(), Fault::TimedOut);
    let back = async {
        while common::handle(&layer).is_alone() {
            assert!(passes(&layer).await);
            sleep(10 * MS).await;
        }
    };
    timeout(Duration::from_secs(20), back).await.expect("it is back");
}

#[tokio::test]
async fn a_script_that_the_server_has_forgotten_is_sent_again() {
    let (server, redis) = server().await;
    let layer = RateLayer::new(&redis, "flush", 5, HOUR).queue(0);
    assert!(passes(&layer).await);
    common::command(&server, &["SCRIPT", "FLUSH"]).await.unwrap();
    assert!(passes(&layer).await);
    assert!(!common::handle(&layer).is_alone());
}

#[tokio::test]
async fn what_is_given_as_a_share_is_paid_back_when_a_redis_returns_that_has_kept_its_data() {
    let (server, _) = server().await;
    let redis = Redis::new(&server.url()).unwrap().patience(20 * MS);
    let layer = RateLayer::new(&redis, "debt", 10, 1_000 * MS).queue(0).outage(Outage::Share(1));
    // A busy machine may not connect within the patience at first.
    while !passes(&layer).await {
        sleep(5 * MS).await;
    }
    server.pause();
    let begin = Instant::now();
    let mut alone = 0;
    while begin.elapsed() < 2_000 * MS {
        alone += u32::from(passes(&layer).await);
        sleep(5 * MS).await;
    }
    assert!(alone >= 8, "{alone}");
    server.resume();

    let back = Instant::now();
    let mut passed = 0;
    while back.elapsed() < 1_500 * MS {
        passed += u32::from(passes(&layer).await);
        sleep(2 * MS).await;
    }

    assert!(!common::handle(&layer).is_alone());
    let most = 10.0 * back.elapsed().as_secs_f64() + 3.0;
    assert!(
        f64::from(passed) <= most,
        "the bucket has filled up in the meantime, and is not given out again: {passed}"
    );
}
