//! The layers that are not in every stack keep all parts of the contract: each stands above a timeout and a limit, so
//! that none of the checks is left out.

#![cfg(all(feature = "chaos", feature = "coalesce", feature = "fallback", feature = "hedge"))]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use stockade::{
    ChaosLayer, CoalesceLayer, Error, FallbackLayer, HedgeLayer, LayerError, LimitLayer, Rejected,
    TimeoutLayer, limit::Limit, timeout::Timeout,
};
use stockade_testkit::{
    Contract, ContractError, Fault, Outcome, Probe, Request, Response, Subject, contract,
};
use tower::{Layer, Service, ServiceExt, util::MapErr};

const LONG: Duration = Duration::from_secs(600);

/// What each of the layers stands above.
fn guarded<S>(inner: S) -> Timeout<Limit<S>>
where
    S: Service<Request, Response = Response, Error: LayerError> + Clone,
{
    TimeoutLayer::new(LONG).layer(LimitLayer::new(2).layer(inner))
}

fn close<S>(stack: &Timeout<Limit<S>>) {
    stack.get_ref().handle().close();
}

/// Runs all checks, of which none may be left out.
async fn assert_all<S: Subject, F: FnMut(Probe) -> S>(contract: Contract<S, F>, close: fn(&mut S)) {
    let report = contract.limit(2).deadline(LONG).close(close).run().await;
    assert_eq!(report.iter().count(), 20);
    assert!(report.iter().all(|(_, outcome)| *outcome == Outcome::Passed), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_hedge_keeps_all_of_it() {
    let layer = || HedgeLayer::after(Duration::from_secs(86_400));
    assert_all(contract(|inner| layer().layer(guarded(inner))), |s| close(s.get_ref())).await;
}

#[tokio::test(start_paused = true)]
async fn a_fallback_keeps_all_of_it() {
    let layer = || FallbackLayer::new(|error: Error<Fault>| std::future::ready(Err(error)));
    assert_all(contract(|inner| layer().layer(guarded(inner))), |s| close(s.get_ref())).await;
}

#[tokio::test(start_paused = true)]
async fn chaos_that_is_off_keeps_all_of_it() {
    let layer = || ChaosLayer::new(1).reject(1.0);
    assert_all(contract(|inner| layer().layer(guarded(inner))), |s| close(s.get_ref())).await;
}

/// The probe's error, which several callers can get.
#[derive(Clone, Debug)]
struct Shared(Arc<Error<Fault>>);

impl From<Error<Fault>> for Shared {
    fn from(error: Error<Fault>) -> Self {
        Self(Arc::new(error))
    }
}

impl From<Rejected> for Shared {
    fn from(rejected: Rejected) -> Self {
        Error::Rejected(rejected).into()
    }
}

impl LayerError for Shared {
    fn rejected(&self) -> Option<&Rejected> {
        self.0.rejected()
    }
}

impl std::fmt::Display for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl ContractError for Shared {
    fn fault(&self) -> Option<Fault> {
        self.0.fault()
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_share_nothing_keep_all_of_it() {
    let next = Arc::new(AtomicU64::new(0));
    let build = move |inner: Probe| {
        let next = Arc::clone(&next);
        let key = move |_: &Request| next.fetch_add(1, Relaxed);
        let inner: MapErr<Probe, fn(Error<Fault>) -> Shared> = inner.map_err(Shared::from);
        CoalesceLayer::new(key).layer(guarded(inner))
    };
    assert_all(contract(build), |s| close(s.get_ref())).await;
}
