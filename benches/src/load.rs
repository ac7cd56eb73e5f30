//! Latency under load: calls arrive when they were set to, whatever has become of those before.
//!
//! The load is driven through a box around the stack, so that this need not be compiled 64 times; the stack inside
//! the box is of the type that the overhead is measured of. The box costs the bare service the same.
//!
//! Only a pool whose queue is full is not ready. A caller that finds it so goes away, which counts as a refusal by the
//! pool. The timers of the service and of the arrivals are tokio's, a millisecond coarse, for the bare service too.

use std::{collections::BTreeMap, future::poll_fn, sync::Arc, task::Poll, time::Duration};

use cpu_time::ProcessTime;
use hdrhistogram::Histogram;
use stockade::LayerError;
use tokio::{
    runtime::Runtime,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tower::{Service, util::BoxCloneSyncService};

use crate::{
    arrivals::{Times, poisson},
    combo::Combo,
    kit::{Kit, Visit},
    plan::{Offered, Plan, Section},
    record::{CURVE, Clock, Latency, Load},
    server::{Health, PLACES, Server},
    service::{Failure, Stack},
    turns,
    worker::{Event, Worker},
};

/// A stack whose type is forgotten.
pub type Boxed = BoxCloneSyncService<u64, u64, Failure>;

/// What became of a call.
#[derive(Clone, Debug)]
pub struct Ended {
    /// When it was to arrive, after the start.
    pub arrived: Duration,
    /// From then to the answer.
    pub took: Duration,
    /// How it ended.
    pub end: End,
}

/// How a call can end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With a good answer.
    Answered,
    /// With a refusal by a layer.
    Refused(String),
    /// With the service's own error.
    Failed,
}

/// How long the service takes on average.
pub fn mean(clock: Clock) -> Duration {
    Duration::from_millis(if clock == Clock::Virtual { 50 } else { 10 })
}

/// Forgets the type of a stack.
#[derive(Clone, Copy, Debug)]
pub struct Forget;

impl Visit<u64> for Forget {
    type Out = Boxed;

    fn visit<S: Stack<u64>>(self, stack: S) -> Boxed {
        BoxCloneSyncService::new(stack)
    }
}

/// Sends every load of the plan into every stack of the plan.
#[inline]
pub fn measure(plan: &Plan, clock: Clock, worker: &Worker) {
    let (offered, section) = match clock {
        Clock::Real => (plan.offered_in_real_time(), Section::Load),
        Clock::Virtual => (plan.offered.clone(), Section::Model),
    };
    let combos = plan.combos();
    let step = plan.estimate(section) / (offered.len() * combos.len()) as f64;
    for load in offered {
        for combo in &combos {
            if worker.is_stopped() {
                return;
            }
            worker.emit(&Event::Load(cell(plan, clock, load, *combo)));
            worker.emit(&Event::Done(step));
        }
    }
}

/// One load into one stack.
#[inline]
pub fn cell(plan: &Plan, clock: Clock, load: Offered, combo: Combo) -> Load {
    let span = Duration::from_secs_f64(match clock {
        Clock::Real => plan.real_duration(),
        Clock::Virtual => plan.duration.unwrap_or(if plan.quick { 8.0 } else { 40.0 }),
    });
    let mean = mean(clock);
    let times = Times { mean, slow: 0.01, seed: plan.seed };
    let runtime = match clock {
        Clock::Real => turns::runtime(1),
        Clock::Virtual => paused(plan.seed),
    };
    let cpu = ProcessTime::now();
    let (ended, over) = runtime.block_on(async {
        let server = Server::new(times, |_| Health::Well);
        let stack = stack(combo, server, mean, plan.seed);
        let start = Instant::now();
        let ended = match load.per_second(Server::capacity(mean)) {
            Some(rate) => open(stack, &poisson(rate, span, plan.seed)).await,
            None => closed(stack, load, span).await,
        };
        (ended, start.elapsed())
    });
    let cpu = cpu.elapsed();
    tally(combo, clock, load, &ended, span.max(over), cpu)
}

/// The stack as one would set it before such a service.
#[inline]
pub fn stack(combo: Combo, server: Server, mean: Duration, seed: u64) -> Boxed {
    Kit::before(PLACES, Server::capacity(mean), mean, seed).over(combo, &server, Forget)
}

/// A runtime whose clock jumps to whatever is waited for, so that the same happens each time.
///
/// # Panics
///
/// If this was built without the feature `virtual-time`, in which case there is no such clock.
pub fn paused(seed: u64) -> Arc<Runtime> {
    // The layers' jitter.
    fastrand::seed(seed);
    #[cfg(feature = "virtual-time")]
    {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build();
        Arc::new(runtime.expect("a runtime can be started"))
    }
    #[cfg(not(feature = "virtual-time"))]
    panic!("virtual time needs the feature `virtual-time`")
}

/// Makes each call at its time, and waits for all.
pub async fn open(stack: Boxed, arrivals: &[Duration]) -> Vec<Ended> {
    let start = Instant::now();
    let mut calls = JoinSet::new();
    for (number, arrived) in arrivals.iter().copied().enumerate() {
        if start.elapsed() < arrived {
            sleep_until(start + arrived).await;
        }
        let stack = stack.clone();
        calls.spawn(async move {
            let end = call(stack, number as u64).await;
            Ended { arrived, took: start.elapsed().saturating_sub(arrived), end }
        });
    }
    let mut ended = calls.join_all().await;
    ended.sort_by_key(|call| call.arrived);
    ended
}

/// So many callers, each of which calls again when it has its answer, until `span` has passed.
async fn closed(stack: Boxed, load: Offered, span: Duration) -> Vec<Ended> {
    let Offered::Callers(callers) = load else { return Vec::new() };
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let stack = stack.clone();
        tasks.spawn(async move {
            let mut ended = Vec::new();
            while start.elapsed() < span {
                let arrived = start.elapsed();
                let number = (ended.len() * callers + caller) as u64;
                let end = call(stack.clone(), number).await;
                if end != End::Answered {
                    // Who is refused at once would ask again at once, and no time would ever pass.
                    sleep(Duration::from_millis(1)).await;
                }
                ended.push(Ended { arrived, took: start.elapsed().saturating_sub(arrived), end });
            }
            ended
        });
    }
    tasks.join_all().await.concat()
}

async fn call(mut stack: Boxed, number: u64) -> End {
    let ready = poll_fn(|cx| Poll::Ready(stack.poll_ready(cx))).await;
    let result = match ready {
        Poll::Pending => return End::Refused("pool: queue full".to_owned()),
        Poll::Ready(Err(error)) => Err(error),
        Poll::Ready(Ok(())) => stack.call(number).await,
    };
    match result {
        Ok(_) => End::Answered,
        Err(error) => error.rejected().map_or(End::Failed, |rejected| {
            End::Refused(format!("{}: {}", rejected.layer(), rejected.reason().as_str()))
        }),
    }
}

fn tally(
    combo: Combo,
    clock: Clock,
    load: Offered,
    ended: &[Ended],
    over: Duration,
    cpu: Duration,
) -> Load {
    let mut refused = BTreeMap::new();
    let mut failed = 0;
    let mut answered = Histogram::<u64>::new(3).expect("three digits are allowed");
    for call in ended {
        match &call.end {
            End::Answered => {
                let took = u64::try_from(call.took.as_micros()).unwrap_or(u64::MAX);
                answered.record(took.max(1)).expect("the histogram grows");
            }
            End::Refused(why) => *refused.entry(why.clone()).or_default() += 1,
            End::Failed => failed += 1,
        }
    }
    let rate = ended.len() as f64 / over.as_secs_f64();
    Load {
        stack: combo.to_string(),
        clock,
        offered: load.to_string(),
        per_second: load.per_second(Server::capacity(mean(clock))).unwrap_or(rate),
        sent: ended.len() as u64,
        answered: answered.len(),
        goodput: answered.len() as f64 / over.as_secs_f64(),
        refused,
        failed,
        cpu_ns: (clock == Clock::Real && !ended.is_empty())
            .then(|| cpu.as_nanos() as f64 / ended.len() as f64),
        latency: latency(&answered),
    }
}

/// The percentiles of a histogram of microseconds; `None` of an empty one.
pub fn latency(histogram: &Histogram<u64>) -> Option<Latency> {
    if histogram.is_empty() {
        return None;
    }
    let at = |percent| histogram.value_at_percentile(percent) as f64 / 1e3;
    Some(Latency {
        p50: at(50.0),
        p90: at(90.0),
        p99: at(99.0),
        p999: at(99.9),
        p9999: at(99.99),
        max: histogram.max() as f64 / 1e3,
        curve: CURVE.map(at).to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_milliseconds() {
        let mut histogram = Histogram::new(3).unwrap();
        (1..=10_000).for_each(|n| histogram.record(n * 10).unwrap());
        let latency = latency(&histogram).unwrap();
        assert!((latency.p50 - 50.0).abs() < 0.1, "{latency:?}");
        assert!((latency.p99 - 99.0).abs() < 0.1, "{latency:?}");
        assert_eq!(latency.curve.len(), CURVE.len());
        assert!(super::latency(&Histogram::new(3).unwrap()).is_none());
    }

    #[cfg(feature = "virtual-time")]
    mod in_virtual_time {
        use super::*;
        use crate::combo::Combo;

        fn plan() -> Plan {
            Plan {
                seed: 1,
                quick: true,
                stacks: Vec::new(),
                sections: Vec::new(),
                offered: Vec::new(),
                duration: Some(2.0),
                threads: 2,
            }
        }

        fn run(load: Offered, name: &str) -> Load {
            cell(&plan(), Clock::Virtual, load, name.parse().unwrap())
        }

        #[test]
        fn the_same_seed_finds_the_same_to_the_last_digit() {
            for name in ["bare", "pool", "pool+retry+breaker+rate+limit+timeout"] {
                let (a, b) = (run(Offered::Share(0.95), name), run(Offered::Share(0.95), name));
                assert_eq!(a.latency, b.latency, "{name}");
                assert_eq!(a.refused, b.refused, "{name}");
            }
        }

        #[test]
        fn every_call_is_accounted_for() {
            for combo in Combo::all() {
                let load = cell(&plan(), Clock::Virtual, Offered::Share(1.2), combo);
                let refused: u64 = load.refused.values().sum();
                assert_eq!(load.sent, load.answered + refused + load.failed, "{combo}");
                assert!(load.answered > 0, "{combo}");
            }
        }

        #[test]
        fn below_its_capacity_a_limit_refuses_nobody_and_above_it_does() {
            assert!(run(Offered::Share(0.5), "limit").refused.is_empty());
            let over = run(Offered::Share(3.0), "limit");
            assert!(over.refused.contains_key("limit: queue full"), "{:?}", over.refused);
        }

        #[test]
        fn above_capacity_a_stack_that_refuses_is_faster_than_one_that_lets_all_wait() {
            let p99 = |name| run(Offered::Share(3.0), name).latency.unwrap().p99;
            assert!(p99("limit") < p99("bare") / 2.0, "{} {}", p99("limit"), p99("bare"));
        }

        #[test]
        fn a_stall_is_charged_to_every_request_that_it_delays() {
            fn health(now: Duration) -> Health {
                let end = Duration::from_secs(1);
                if now < end { Health::Stalled(end) } else { Health::Well }
            }
            let ended = paused(1).block_on(async {
                let times = Times { mean: Duration::from_millis(1), slow: 0.0, seed: 1 };
                let stack = stack(Combo::BARE, Server::new(times, health), times.mean, 1);
                open(stack, &poisson(200.0, Duration::from_secs(1), 1)).await
            });
            assert!(ended.len() > 100);
            for call in ended {
                assert!(call.arrived + call.took >= Duration::from_secs(1), "{call:?}");
            }
        }

        #[test]
        fn callers_of_a_closed_loop_never_have_more_calls_than_they_are() {
            let load = run(Offered::Callers(8), "limit");
            assert!(load.refused.is_empty(), "{load:?}");
            // Eight callers, fifty milliseconds, two seconds.
            assert!((250..400).contains(&load.sent), "{}", load.sent);
        }
    }
}
