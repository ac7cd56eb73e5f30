//! Where adaptive limits settle, in virtual time: the real limit over a service that works at so many calls at once and
//! queues the others, with more callers than that.

use std::{convert::Infallible, sync::Arc, time::Duration};

use stockade::{
    Error, Reason, Rejected,
    limit::{Aimd, Gradient2, LimitLayer, Policy, Vegas},
};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tower::{Layer, Service, service_fn};

use crate::{
    load,
    plan::{Plan, Section},
    record::Adaptive,
    worker::{Event, Worker},
};

/// A way in which a service is saturated.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What it is called.
    pub name: &'static str,
    /// What happens, in a sentence.
    pub about: &'static str,
    /// How many calls the service works at, in each of the [`PHASE`]s.
    pub capacity: [u32; PHASES],
    /// How long the client inside of the limit waits for an answer.
    patience: Duration,
}

/// The policies, by their names.
pub const POLICIES: [&str; 3] = ["AIMD", "Vegas", "Gradient2"];

/// How long the capacity stays as it is.
pub const PHASE: Duration = Duration::from_secs(3 * 60);

const PHASES: usize = 4;
const CALLERS: usize = 200;
/// How long the service works at a call.
const TAKES: Duration = Duration::from_millis(100);
/// How often the limit is read.
const LOOK: Duration = Duration::from_secs(2);
/// Calls of a service are weighed, so that it works at fewer when each weighs more.
const PLACES: u32 = 20;

/// All of them.
pub const SCENARIOS: [Scenario; 3] = [
    Scenario {
        name: "saturated",
        about: "the service works at 10 calls at once, and 200 callers call again and again",
        capacity: [10; PHASES],
        patience: Duration::MAX,
    },
    Scenario {
        name: "capacity halves and doubles",
        about: "every three minutes the service works at another number of calls",
        capacity: [10, 5, 10, 20],
        patience: Duration::MAX,
    },
    Scenario {
        name: "client timeout",
        about: "as saturated, and the client inside of the limit gives up after 500 ms, which is when 50 calls are in flight",
        capacity: [10; PHASES],
        patience: Duration::from_millis(500),
    },
];

/// Lets each policy settle in each scenario.
#[inline]
pub fn measure(plan: &Plan, worker: &Worker) {
    let step = plan.estimate(Section::Adaptive) / (SCENARIOS.len() * POLICIES.len()) as f64;
    for scenario in SCENARIOS {
        for policy in POLICIES {
            if worker.is_stopped() {
                return;
            }
            worker.emit(&Event::Adaptive(settle(scenario, policy, plan.seed)));
            worker.emit(&Event::Done(step));
        }
    }
}

/// Lets one of [`POLICIES`] settle in a scenario.
///
/// # Panics
///
/// If there is no policy of this name.
#[inline]
pub fn settle(scenario: Scenario, policy: &str, seed: u64) -> Adaptive {
    let limits = load::paused(seed).block_on(async {
        match policy {
            "AIMD" => follow(scenario, Aimd::new(), seed).await,
            "Vegas" => follow(scenario, Vegas::new(), seed).await,
            "Gradient2" => follow(scenario, Gradient2::new(), seed).await,
            other => panic!("there is no policy {other:?}"),
        }
    });
    Adaptive { scenario: scenario.name.to_owned(), policy: policy.to_owned(), limits }
}

/// The limit over time, in minutes.
async fn follow(scenario: Scenario, policy: impl Policy, seed: u64) -> Vec<(f64, usize)> {
    let start = Instant::now();
    let places = Arc::new(Semaphore::new(PLACES as usize));
    let work = move |request: u64| {
        let places = Arc::clone(&places);
        async move {
            let phase = start.elapsed().as_secs() / PHASE.as_secs();
            let capacity = scenario.capacity[(phase as usize).min(PHASES - 1)];
            let answer = async {
                let _place = places.acquire_many(PLACES / capacity).await;
                let spread = fastrand::Rng::with_seed(seed ^ request).f64();
                sleep(TAKES.mul_f64(0.8 + 0.4 * spread)).await;
            };
            let late = Rejected::new(&"client", Reason::Elapsed);
            let answered = timeout(scenario.patience, answer).await;
            answered.map_err(|_| Error::<Infallible>::from(late))
        }
    };
    let service = LimitLayer::adaptive(policy).layer(service_fn(work));
    let limit = service.handle();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS as u64 {
        let mut service = service.clone();
        callers.spawn(async move {
            for call in 0.. {
                let _ = service.call(call << 8 | caller).await;
            }
        });
    }
    let mut limits = Vec::new();
    while start.elapsed() < PHASE * PHASES as u32 {
        limits.push((start.elapsed().as_secs_f64() / 60.0, limit.max()));
        sleep(LOOK).await;
    }
    limits
}

#[cfg(all(test, feature = "virtual-time"))]
mod tests {
    use super::*;

    /// The median limit in the last minute of a phase.
    fn settled(found: &Adaptive, phase: u32) -> usize {
        let end = f64::from(phase + 1) * PHASE.as_secs_f64() / 60.0;
        let last = found.limits.iter().filter(|(at, _)| (end - 1.0..end).contains(at));
        let mut last: Vec<_> = last.map(|(_, limit)| *limit).collect();
        last.sort_unstable();
        last[last.len() / 2]
    }

    #[test]
    fn vegas_and_gradient2_settle_within_twice_of_a_capacity_that_changes() {
        for policy in ["Vegas", "Gradient2"] {
            let found = settle(SCENARIOS[1], policy, 1);
            for (phase, capacity) in (0..).zip(SCENARIOS[1].capacity) {
                let twice = capacity as usize / 2..=2 * capacity as usize;
                let settled = settled(&found, phase);
                assert!(twice.contains(&settled), "{policy} over {capacity}: {settled}");
            }
        }
    }

    #[test]
    fn aimd_settles_where_timeouts_begin() {
        let settled = settled(&settle(SCENARIOS[2], "AIMD", 1), 3);
        assert!((40..=60).contains(&settled), "{settled}");
    }
}
