//! What a run is kept as: JSON, read and written by `serde`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    environment::Environment,
    numbers::Interval,
    plan::{Plan, Section},
};

/// The form of the file; another number means another form.
pub const FORM: u32 = 2;

/// Everything that one run found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// [`FORM`].
    pub form: u32,
    /// What it was saved as.
    pub name: String,
    /// When it began, in UTC.
    pub began: String,
    /// How many seconds it took.
    pub took: f64,
    /// Whether it was interrupted, and something is missing.
    pub partial: bool,
    /// What was asked for.
    pub plan: Plan,
    /// What it ran on.
    pub environment: Environment,
    /// What was left out or cut short, in words.
    pub notes: Vec<String>,
    /// What a call through a stack costs.
    pub overhead: Vec<Overhead>,
    /// How long calls take under load.
    pub load: Vec<Load>,
    /// What becomes of calls when the service fails.
    pub faults: Vec<Fault>,
    /// Where adaptive limits settle.
    #[serde(default)]
    pub adaptive: Vec<Adaptive>,
    /// The layers and the pool beside their peers.
    pub groups: Vec<Group>,
    /// The memory after peaks.
    pub memory: Vec<Memory>,
}

/// What a call through one stack costs, and what it allocates.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Overhead {
    /// The name of the stack.
    pub stack: String,
    /// What is called: see [`inner`].
    pub inner: String,
    /// How many threads share the stack.
    pub threads: usize,
    /// Nanoseconds from one call of a thread to its next.
    pub ns: Interval,
    /// The same as a multiple of the bare service, round by round.
    pub ratio: Interval,
    /// How much more that is than the bare service, round by round, in nanoseconds.
    pub adds: Interval,
    /// Allocations a call.
    pub allocations: f64,
    /// Bytes allocated a call.
    pub bytes: f64,
    /// How many rounds there were.
    pub rounds: usize,
}

/// The services that overhead is measured over.
pub mod inner {
    /// Ready at the first poll.
    pub const READY: &str = "ready";
    /// Pending once.
    pub const PENDING: &str = "pending once";
    /// Ready at the first poll, with requests of 1 KiB.
    pub const LARGE: &str = "1 KiB";
    /// All of them.
    pub const ALL: [&str; 3] = [READY, PENDING, LARGE];
}

/// Which clock a load ran on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// The machine's.
    Real,
    /// tokio's paused one, which jumps to whatever is waited for.
    Virtual,
}

/// What calls met that were sent into one stack at one rate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Load {
    /// The name of the stack.
    pub stack: String,
    /// Which clock it ran on.
    pub clock: Clock,
    /// What was offered: a part of the capacity, a rate, or a number of callers.
    pub offered: String,
    /// Arrivals a second; of closed loops, what came of it.
    pub per_second: f64,
    /// Calls made.
    pub sent: u64,
    /// Calls with a good answer.
    pub answered: u64,
    /// Good answers a second.
    pub goodput: f64,
    /// Calls that ended with a layer's refusal, by layer and reason.
    pub refused: BTreeMap<String, u64>,
    /// Calls that ended with the service's own error.
    pub failed: u64,
    /// Processor time a call in nanoseconds, the load generator's included; only on the real clock.
    pub cpu_ns: Option<f64>,
    /// How long good answers took from the intended arrival, if there was one.
    pub latency: Option<Latency>,
}

/// Milliseconds from the intended arrival to the answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half of the calls were faster.
    pub p50: f64,
    /// Nine of ten were faster.
    pub p90: f64,
    /// 99 of 100 were faster.
    pub p99: f64,
    /// 999 of 1,000 were faster.
    pub p999: f64,
    /// 9,999 of 10,000 were faster.
    pub p9999: f64,
    /// None was slower.
    pub max: f64,
    /// Milliseconds at the shares of [`CURVE`].
    pub curve: Vec<f64>,
}

/// The percentiles of a curve, evenly spaced by the logarithm of what is slower.
pub const CURVE: [f64; 17] = [
    0.0, 10.0, 25.0, 50.0, 65.0, 75.0, 82.0, 90.0, 94.0, 97.0, 99.0, 99.5, 99.8, 99.9, 99.95,
    99.98, 99.99,
];

/// How one stack fared while the service was not well.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fault {
    /// The name of the stack.
    pub stack: String,
    /// What was wrong with the service.
    pub scenario: String,
    /// Requests made.
    pub requests: u64,
    /// Requests with a good answer, in percent.
    pub answered: f64,
    /// Attempts that reached the service while it was not well, per request of that time.
    pub amplification: f64,
    /// Seconds from the end of the fault until all requests were answered in time again; `None` if that did not
    /// happen before the end of the run.
    pub recovery: Option<f64>,
}

/// What an adaptive limit was over time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Adaptive {
    /// What the service was like.
    pub scenario: String,
    /// What the limit followed.
    pub policy: String,
    /// The limit, by minutes since the start.
    pub limits: Vec<(f64, usize)>,
}

/// Cases that took turns because they compare.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Group {
    /// The section that it is of.
    pub section: Section,
    /// A short name.
    pub name: String,
    /// What was done, in a sentence.
    pub about: String,
    /// What is counted: `call` or `job`.
    pub per: String,
    /// The cases; ratios are taken to the first.
    pub cases: Vec<Case>,
    /// What was promised.
    pub goals: Vec<Goal>,
}

/// A promise, and what was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Goal {
    /// What is compared.
    pub text: String,
    /// What was found.
    pub found: f64,
    /// The most that was promised.
    pub most: f64,
}

/// The memory of a process around a peak, in bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Memory {
    /// What there was a million of.
    pub name: String,
    /// Before the peak.
    pub before: u64,
    /// At the peak.
    pub peak: u64,
    /// After it.
    pub after: u64,
}

/// One case of a [`Group`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Case {
    /// What was measured.
    pub name: String,
    /// Nanoseconds.
    pub ns: Interval,
    /// As a multiple of the first case, round by round.
    pub ratio: Interval,
    /// Allocations, where they were counted.
    pub allocations: Option<f64>,
}

// === impl Goal ===

impl Goal {
    /// Whether the promise is kept.
    pub fn is_met(&self) -> bool {
        self.found <= self.most
    }
}

// === impl Run ===

impl Run {
    /// All promises, with where they belong.
    pub fn goals(&self) -> Vec<(&str, Goal)> {
        let of_groups = |group: &'_ Group| group.goals.clone();
        let mut goals: Vec<_> = self
            .groups
            .iter()
            .flat_map(|group| of_groups(group).into_iter().map(|goal| (group.name.as_str(), goal)))
            .collect();
        goals.extend(self.memory.iter().map(|memory| {
            let text = format!("memory after a million {}, against before", memory.name);
            (
                Section::Memory.title(),
                Goal { text, found: memory.after as f64 / memory.before as f64, most: 1.1 },
            )
        }));
        goals
    }

    /// The overhead of a stack over one of [`inner`], on so many threads.
    pub fn overhead(&self, stack: &str, inner: &str, threads: usize) -> Option<&Overhead> {
        self.overhead
            .iter()
            .find(|row| row.stack == stack && row.inner == inner && row.threads == threads)
    }

    /// The load of a stack.
    pub fn load(&self, stack: &str, clock: Clock, offered: &str) -> Option<&Load> {
        self.load
            .iter()
            .find(|row| row.stack == stack && row.clock == clock && row.offered == offered)
    }

    /// What was offered on this clock, in the order of measuring.
    pub fn offered(&self, clock: Clock) -> Vec<&str> {
        let mut offered = Vec::new();
        for row in self.load.iter().filter(|row| row.clock == clock) {
            if !offered.contains(&row.offered.as_str()) {
                offered.push(&row.offered);
            }
        }
        offered
    }

    /// The load that tables show: 80 % of the capacity if there was that, else the last one offered.
    pub fn usual(&self, clock: Clock) -> Option<&str> {
        let offered = self.offered(clock);
        offered.iter().find(|load| **load == "80 %").or(offered.last()).copied()
    }
}
