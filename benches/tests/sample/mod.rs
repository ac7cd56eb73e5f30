//! A run that was never measured, with a figure of every kind for every stack.

use std::collections::BTreeMap;

use stockade_benches::{
    adaptive,
    combo::Combo,
    environment::Environment,
    faults::SCENARIOS,
    numbers::Interval,
    plan::{Offered, Plan, Section},
    record::{
        Adaptive, CURVE, Case, Clock, FORM, Fault, Group, Latency, Load, Overhead, Run, inner,
    },
};

fn around(mid: f64) -> Interval {
    Interval { low: mid * 0.97, mid, high: mid * 1.04 }
}

/// What a call takes: more with every layer, and much more with the pool.
fn cost(combo: Combo) -> f64 {
    let each = [180.0, 0.0, 0.0, 22.0, 0.0, 14.0, 17.0, 19.0, 12.5, 0.0];
    2.5 + each.iter().zip(combo.has()).map(|(ns, has)| if has { *ns } else { 0.0 }).sum::<f64>()
}

fn overheads() -> Vec<Overhead> {
    let mut rows = Vec::new();
    for threads in [1, 2] {
        for (place, inner) in inner::ALL.into_iter().enumerate() {
            for combo in Combo::all() {
                let extra = (30 * place) as f64;
                let (bare, ns) = (cost(Combo::BARE) + extra, cost(combo) * threads as f64 + extra);
                rows.push(Overhead {
                    stack: combo.to_string(),
                    inner: inner.to_owned(),
                    threads,
                    ns: around(ns),
                    ratio: around(ns / bare),
                    adds: around(ns - bare),
                    allocations: f64::from(u8::from(combo.pool)),
                    bytes: if combo.pool { 96.0 } else { 0.0 },
                    rounds: 31,
                });
            }
        }
    }
    rows
}

fn loads() -> Vec<Load> {
    let mut rows = Vec::new();
    for clock in [Clock::Virtual, Clock::Real] {
        for offered in Offered::USUAL {
            for combo in Combo::all() {
                let rate = offered.per_second(640.0).unwrap_or_default();
                let bounded = combo.limit || combo.pool;
                let over = rate > 640.0;
                let ms = |nines: f64| {
                    let base = 40.0 * (1.0 + rate / 640.0) * (1.0 + nines * nines);
                    if over && !bounded { base * 12.0 } else { base }
                };
                let nines = |percent: f64| -(1.0 - percent / 100.0).log10();
                let refused = if over && bounded { 400 } else { 0 };
                let sent = (rate * 8.0) as u64;
                rows.push(Load {
                    stack: combo.to_string(),
                    clock,
                    offered: offered.to_string(),
                    per_second: rate,
                    sent,
                    answered: sent - refused,
                    goodput: rate.min(640.0) * 0.98,
                    refused: BTreeMap::from([("limit: queue full".to_owned(), refused)]),
                    failed: 0,
                    cpu_ns: (clock == Clock::Real).then(|| 8_000.0 + cost(combo)),
                    latency: Some(Latency {
                        p50: ms(0.3),
                        p90: ms(1.0),
                        p99: ms(2.0),
                        p999: ms(3.0),
                        p9999: ms(4.0),
                        max: ms(4.2),
                        curve: CURVE.map(nines).map(ms).to_vec(),
                    }),
                });
            }
        }
    }
    rows
}

/// A limit that swings around twice the capacity.
fn adaptive() -> Vec<Adaptive> {
    let mut rows = Vec::new();
    for scenario in adaptive::SCENARIOS {
        for policy in adaptive::POLICIES {
            let limits = (0..120)
                .map(|n| (f64::from(n) / 10.0, 20 + n % 5))
                .map(|(at, limit)| (at, limit as usize));
            rows.push(Adaptive {
                scenario: scenario.name.to_owned(),
                policy: policy.to_owned(),
                limits: limits.collect(),
            });
        }
    }
    rows
}

fn faults() -> Vec<Fault> {
    let row = |combo: Combo, scenario: &str| Fault {
        stack: combo.to_string(),
        scenario: scenario.to_owned(),
        requests: 4_480,
        answered: 82.0 + combo.layers() as f64 * 2.0,
        amplification: match (combo.retry, combo.breaker) {
            (true, false) => 1.8,
            (_, true) => 0.2,
            _ => 1.0,
        },
        recovery: (combo.layers() != 1).then(|| combo.layers() as f64 / 4.0),
    };
    let all = SCENARIOS.iter().flat_map(|s| Combo::all().into_iter().map(|c| row(c, s.name)));
    all.collect()
}

fn group(section: Section, name: &str, per: &str, peers: &[&str]) -> Group {
    let case = |(place, name): (usize, &&str)| Case {
        name: (*name).to_owned(),
        ns: around(100.0 * (place + 1) as f64),
        ratio: around((place + 1) as f64),
        allocations: Some(place as f64),
    };
    Group {
        section,
        name: name.to_owned(),
        about: "a group of cases that take turns".to_owned(),
        per: per.to_owned(),
        cases: peers.iter().enumerate().map(case).collect(),
        goals: Vec::new(),
    }
}

/// The run.
pub(crate) fn run(name: &str) -> Run {
    Run {
        form: FORM,
        name: name.to_owned(),
        began: "2030-01-01T00:00:00Z".to_owned(),
        took: 116.0,
        partial: false,
        plan: Plan {
            seed: 1,
            quick: true,
            stacks: Combo::all().iter().map(Combo::to_string).collect(),
            sections: Section::ALL.to_vec(),
            offered: Offered::USUAL.to_vec(),
            duration: None,
            threads: 2,
        },
        environment: Environment {
            processor: "a processor that does not exist".to_owned(),
            cores: 2,
            system: "linux x86_64".to_owned(),
            compiler: "rustc 1.95.0".to_owned(),
            commit: "0123456789ab".to_owned(),
            load_before: Some(0.1),
            load_after: Some(1.2),
            busy: false,
        },
        notes: vec!["this run was never measured".to_owned()],
        overhead: overheads(),
        load: loads(),
        faults: faults(),
        adaptive: adaptive(),
        groups: vec![
            group(Section::Layers, "five layers", "call", &["stockade", "tower + Buffer"]),
            group(Section::Pool, "round trips", "job", &["ready + call", "tokio::spawn"]),
            group(Section::Pool, "run", "job", &["stockade pool", "tokio JoinSet of 128"]),
        ],
        memory: Vec::new(),
    }
}
