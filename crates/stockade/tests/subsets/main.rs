//! Every subset of the layers, in several orders, with and without the pool: whatever goes wrong inside or
//! outside, each call ends exactly once, every permit comes back and no task is left.
//!
//! A failure names the stack and the seed; `check` with these two runs it again.

mod runner;
mod stacks;

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use fastrand::Rng;
use stacks::{
    ALL, Boxed, Client, End, Handles, Kind, MS, PERMITS, Request, STALE, WORKERS, paused, stack,
    subset,
};
use stockade::Pool;
use tokio::{runtime::Handle, task::JoinSet, time::sleep};
use tower::{ServiceExt, util::BoxCloneService};

const CALLS: u64 = 60;

/// How often each stack is tried, each time with other calls and other orders.
const ROUNDS: u64 = 6;

/// How the calls of one stack ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ends {
    answered: u64,
    /// Answered by a fallback.
    stale: u64,
    /// Answered with what another call with the same key got.
    shared: u64,
    failed: u64,
    panicked: u64,
    given_up: u64,
    /// What the handles say: second attempts, calls that shared an answer, faults.
    hedged: u64,
    joined: u64,
    made_up: u64,
}

fn request(id: u64, rng: &mut Rng) -> Request {
    let takes = if rng.bool() { Duration::ZERO } else { MS * rng.u32(1..12) };
    let end = match rng.u32(0..20) {
        0..11 => End::Answer,
        11..15 => End::Fail,
        15..17 => End::Panic,
        17 => End::PanicInCall,
        _ => End::Hang,
    };
    Request { id, takes, end }
}

/// Makes the calls, some of which their callers give up; the last ones after a while.
async fn call_all(service: Boxed, rng: &mut Rng) -> Ends {
    let mut calls = JoinSet::new();
    for id in 0..CALLS {
        let (service, request) = (service.clone(), request(id, rng));
        let patience = MS * if rng.u32(0..5) == 0 { rng.u32(0..10) } else { 300 };
        let start = MS * rng.u32(0..40);
        calls.spawn(async move {
            sleep(start).await;
            tokio::time::timeout(patience, service.oneshot(request)).await.map(|end| (end, id))
        });
    }
    drop(service);
    let mut ends = Ends::default();
    while let Some(end) = calls.join_next().await {
        match end {
            Ok(Ok((Ok(answer), id))) if answer == id => ends.answered += 1,
            Ok(Ok((Ok(STALE), _))) => ends.stale += 1,
            Ok(Ok((Ok(answer), id))) => {
                assert_eq!(answer / 2, id / 2, "the answer of another call");
                ends.shared += 1;
            }
            Ok(Ok((Err(_), _))) => ends.failed += 1,
            Ok(Err(_)) => ends.given_up += 1,
            Err(error) if error.is_panic() => ends.panicked += 1,
            Err(error) => panic!("{error}"),
        }
    }
    ends
}

/// Runs one stack; returns how its calls ended.
async fn check(order: &[Kind], pooled: bool, backpressure: bool, seed: u64) -> Ends {
    let case = format!("{order:?}, pool: {pooled}, backpressure: {backpressure}, seed: {seed}");
    let mut rng = Rng::with_seed(seed);
    // A hedge inside of them makes two calls of one.
    let is_hedged = order.iter().any(|kind| format!("{kind:?}") == "Hedge");
    let most = |bound: usize| if is_hedged { 2 * bound } else { bound };
    let seen = Arc::new(Client::default());
    let (service, handles) = stack(order, backpressure, &seen);
    let mut ends = if pooled {
        let pool = Pool::builder().workers(WORKERS).queue(8).build(service);
        let ends = call_all(BoxCloneService::new(pool.clone()), &mut rng).await;
        let drained = pool.drain(Duration::from_secs(60)).await;
        let stats = pool.stats();
        assert!(drained.is_complete(), "{case}: {drained:?}");
        assert_eq!((stats.accepted, stats.queued, stats.running), (stats.ended(), 0, 0), "{case}");
        assert_eq!(ends.panicked, 0, "{case}: a panic is an answer of the pool");
        assert!(seen.peak.load(SeqCst) as usize <= most(WORKERS), "{case}");
        ends
    } else {
        call_all(service, &mut rng).await
    };
    let sum =
        ends.answered + ends.stale + ends.shared + ends.failed + ends.panicked + ends.given_up;
    assert_eq!(sum, CALLS, "{case}");
    assert_eq!(seen.running.load(SeqCst), 0, "{case}: a call runs on in the client");
    check_new(order, &handles, &mut ends, &case);
    if let Some(limit) = handles.limit {
        assert_eq!((limit.in_flight(), limit.waiting()), (0, 0), "{case}");
        assert!(seen.peak.load(SeqCst) as usize <= most(PERMITS), "{case}");
    }
    if let Some(rate) = handles.rate {
        assert_eq!(rate.waiting(), 0, "{case}");
        sleep(10 * MS).await;
        assert_eq!(rate.available(), 4, "{case}: tokens come back with time");
    }
    if let Some(breaker) = handles.breaker {
        assert_eq!(breaker.snapshot().probes, 0, "{case}");
    }
    // What sleeps for a timer finds out when it wakes that nobody is left.
    sleep(Duration::from_secs(1)).await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0, "{case}: a task is left");
    ends
}

/// What the hedge, the fallback, the coalesce and the chaos layer promise, where they are in the stack.
fn check_new(order: &[Kind], handles: &Handles, ends: &mut Ends, case: &str) {
    let has = |name: &str| order.iter().any(|kind| format!("{kind:?}") == name);
    assert!(has("Fallback") || ends.stale == 0, "{case}");
    assert!(has("Coalesce") || ends.shared == 0, "{case}");
    #[cfg(feature = "hedge")]
    if let Some(hedge) = &handles.hedge {
        ends.hedged = hedge.stats().hedged;
    }
    #[cfg(feature = "coalesce")]
    if let Some(coalesce) = &handles.coalesce {
        assert_eq!(coalesce.in_flight(), 0, "{case}");
        ends.joined = coalesce.joined();
    }
    #[cfg(feature = "chaos")]
    if let Some(chaos) = &handles.chaos {
        let counts = chaos.counts();
        ends.made_up = counts.slow + counts.errors + counts.rejected + counts.hung;
    }
}

/// All subsets, each in the canonical order and in three others.
fn check_all(pooled: bool) {
    let mut total = Ends::default();
    for seed in 0..32 * 4 * ROUNDS {
        let (bits, shuffle) = (seed / 4 % 32, seed % 4);
        let mut order = subset(bits);
        if shuffle > 0 {
            Rng::with_seed(seed).shuffle(&mut order);
        }
        let ends = paused().block_on(check(&order, pooled, shuffle == 3, seed));
        total.answered += ends.answered;
        total.failed += ends.failed;
        total.panicked += ends.panicked;
        total.given_up += ends.given_up;
    }
    // The injected troubles really happened.
    let Ends { answered, failed, panicked, given_up, .. } = total;
    assert!(answered > 1_000 && failed > 1_000 && given_up > 1_000, "{total:?}");
    assert_eq!(panicked > 1_000, !pooled, "{total:?}");
}

#[test]
fn all_subsets_in_four_orders_end_each_call_once_and_give_every_permit_back() {
    check_all(false);
}

#[test]
fn all_subsets_behind_a_pool_end_each_call_once_and_give_every_permit_back() {
    check_all(true);
}

/// Any layers in any order, with what went wrong in each.
fn check_some(pooled: bool) {
    let (mut hedged, mut joined, mut made_up, mut stale) = (0, 0, 0, 0);
    for seed in 0..600 {
        let mut rng = Rng::with_seed(seed);
        let mut order: Vec<_> = ALL.iter().copied().filter(|_| rng.bool()).collect();
        rng.shuffle(&mut order);
        let seen = paused().block_on(check(&order, pooled, seed % 3 == 0, seed));
        stale += seen.stale;
        hedged += seen.hedged;
        joined += seen.joined;
        made_up += seen.made_up;
    }
    let happened =
        [("fallback", stale), ("hedge", hedged), ("coalesce", joined), ("chaos", made_up)];
    for (layer, count) in happened {
        let is_in = ALL.iter().any(|kind| format!("{kind:?}").eq_ignore_ascii_case(layer));
        assert_eq!(count > 100, is_in, "{layer}: {count}");
    }
}

#[test]
fn any_layers_in_any_order_end_each_call_once_and_give_everything_back() {
    check_some(false);
}

#[test]
fn any_layers_behind_a_pool_end_each_call_once_and_give_everything_back() {
    check_some(true);
}
