//! How stacks fare while the service is not well. In virtual time, with the real layers: half of the capacity is
//! offered, for two seconds all is well, then the fault comes, and then there is time to recover.

use std::time::Duration;

use crate::{
    arrivals::{Times, poisson},
    combo::Combo,
    load::{self, End, Ended},
    plan::{Plan, Section},
    record::{Clock, Fault},
    server::{Health, Server},
    worker::{Event, Worker},
};

/// A way not to be well.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What it is called.
    pub name: &'static str,
    /// What happens, in a sentence.
    pub about: &'static str,
    /// How the service is, by the time since the start.
    health: fn(Duration) -> Health,
    /// When it is as well as it was.
    well: Duration,
}

const BEGIN: Duration = Duration::from_secs(2);
/// From when on it gets better.
const END: Duration = Duration::from_secs(4);
const WELL: Duration = Duration::from_secs(8);
const OVER: Duration = Duration::from_secs(14);
const BUCKET: Duration = Duration::from_millis(250);
/// A call that takes longer was not answered in time.
const IN_TIME: Duration = Duration::from_millis(200);
/// So many of the calls of a bucket are to be answered in time.
const MOST: f64 = 0.95;

/// All of them.
pub const SCENARIOS: [Scenario; 3] = [
    Scenario {
        name: "error burst",
        about: "for two seconds nine of ten calls fail, quickly",
        health: |now| if within(now) { Health::Failing(0.9) } else { Health::Well },
        well: END,
    },
    Scenario {
        name: "stall",
        about: "for two seconds no call ends",
        health: |now| if within(now) { Health::Stalled(END) } else { Health::Well },
        well: END,
    },
    Scenario {
        name: "slow recovery",
        about: "for two seconds all calls fail; then they take ten times as long, and over four seconds less and less",
        health: slow_recovery,
        well: WELL,
    },
];

fn within(now: Duration) -> bool {
    (BEGIN..END).contains(&now)
}

fn slow_recovery(now: Duration) -> Health {
    if within(now) {
        Health::Failing(1.0)
    } else if (END..WELL).contains(&now) {
        let left = (WELL - now).as_secs_f64() / (WELL - END).as_secs_f64();
        Health::Slow(1.0 + 9.0 * left)
    } else {
        Health::Well
    }
}

/// Lets every scenario happen to every stack of the plan.
#[inline]
pub fn measure(plan: &Plan, worker: &Worker) {
    let combos = plan.combos();
    let step = plan.estimate(Section::Faults) / (SCENARIOS.len() * combos.len()) as f64;
    for scenario in SCENARIOS {
        for combo in &combos {
            if worker.is_stopped() {
                return;
            }
            worker.emit(&Event::Fault(happen(scenario, *combo, plan.seed)));
            worker.emit(&Event::Done(step));
        }
    }
}

/// Lets a scenario happen to a stack.
#[inline]
pub fn happen(scenario: Scenario, combo: Combo, seed: u64) -> Fault {
    let mean = load::mean(Clock::Virtual);
    let (ended, attempts) = load::paused(seed).block_on(async {
        let server = Server::new(Times { mean, slow: 0.0, seed }, scenario.health);
        let stack = load::stack(combo, server.clone(), mean, seed);
        let arrivals = poisson(Server::capacity(mean) / 2.0, OVER, seed);
        (load::open(stack, &arrivals).await, server.attempts())
    });
    let unwell = BEGIN..scenario.well;
    let tried = attempts.iter().filter(|at| unwell.contains(at)).count();
    let asked = ended.iter().filter(|call| unwell.contains(&call.arrived)).count();
    let answered = ended.iter().filter(|call| call.end == End::Answered).count();
    Fault {
        stack: combo.to_string(),
        scenario: scenario.name.to_owned(),
        requests: ended.len() as u64,
        answered: 100.0 * answered as f64 / ended.len() as f64,
        amplification: tried as f64 / asked as f64,
        recovery: recovery(&ended, END, OVER).map(|time| time.as_secs_f64()),
    }
}

/// How long after `from` it takes until calls are answered in time again, and it stays so; looks at calls by when
/// they arrived, in buckets of a quarter of a second.
pub fn recovery(ended: &[Ended], from: Duration, to: Duration) -> Option<Duration> {
    let mut well_since = to;
    while well_since > from {
        let bucket = well_since - BUCKET..well_since;
        let calls = ended.iter().filter(|call| bucket.contains(&call.arrived));
        let (mut all, mut good) = (0, 0);
        for call in calls {
            all += 1;
            good += usize::from(call.end == End::Answered && call.took <= IN_TIME);
        }
        if (good as f64) < MOST * f64::from(all) {
            break;
        }
        well_since -= BUCKET;
    }
    (well_since < to).then(|| well_since - from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn calls(end: impl Fn(Duration) -> (Duration, End)) -> Vec<Ended> {
        let at = (0..1_400).map(|n| n * S / 100);
        at.map(|arrived| {
            let (took, end) = end(arrived);
            Ended { arrived, took, end }
        })
        .collect()
    }

    #[test]
    fn who_never_failed_has_recovered_at_once() {
        let ended = calls(|_| (IN_TIME, End::Answered));
        assert_eq!(recovery(&ended, 4 * S, 14 * S), Some(Duration::ZERO));
    }

    #[test]
    fn recovered_means_that_it_stays_so() {
        let failing = |at| at < 5 * S || (8 * S..9 * S).contains(&at);
        let ended = calls(|at| (S / 10, if failing(at) { End::Failed } else { End::Answered }));
        assert_eq!(recovery(&ended, 4 * S, 14 * S), Some(5 * S));
    }

    #[test]
    fn an_answer_that_comes_too_late_is_none() {
        let ended = calls(|at| (if at < 6 * S { S } else { IN_TIME }, End::Answered));
        assert_eq!(recovery(&ended, 4 * S, 14 * S), Some(2 * S));
    }

    #[test]
    fn who_still_fails_at_the_end_has_not_recovered() {
        let ended = calls(|_| (S, End::Failed));
        assert_eq!(recovery(&ended, 4 * S, 14 * S), None);
    }

    #[cfg(feature = "virtual-time")]
    #[test]
    fn a_retry_amplifies_and_a_breaker_holds_it_down() {
        let burst = |name: &str| happen(SCENARIOS[0], name.parse().unwrap(), 1).amplification;
        assert!((burst("bare") - 1.0).abs() < 0.05, "{}", burst("bare"));
        assert!(burst("retry") > 1.1, "{}", burst("retry"));
        assert!(burst("retry+breaker") < burst("bare") / 2.0, "{}", burst("retry+breaker"));
    }

    #[cfg(feature = "virtual-time")]
    #[test]
    fn after_a_stall_a_limit_recovers_sooner_than_the_bare_service() {
        let stall = |name: &str| happen(SCENARIOS[1], name.parse().unwrap(), 1).recovery;
        assert!(stall("limit") < stall("bare"), "{:?} {:?}", stall("limit"), stall("bare"));
    }
}
