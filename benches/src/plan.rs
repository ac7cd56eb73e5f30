//! What a run is to do, as the programs tell each other.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{combo::Combo, numbers::Percent};

/// What is to be measured, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What arrivals, service times, jitter and the bootstrap are drawn from.
    pub seed: u64,
    /// Less than three minutes instead of about fifteen.
    pub quick: bool,
    /// The names of the stacks.
    pub stacks: Vec<String>,
    /// What to measure.
    pub sections: Vec<Section>,
    /// The loads.
    pub offered: Vec<Offered>,
    /// For how many seconds calls arrive, at each load; `None`: as many as are good for the clock.
    pub duration: Option<f64>,
    /// How many threads share a stack where more than one does.
    pub threads: usize,
}

/// A part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    /// What a call costs.
    Overhead,
    /// Each layer beside its peers.
    Layers,
    /// Many tasks that share one stack.
    Tasks,
    /// The pool beside what could stand in its place.
    Pool,
    /// The memory after a peak.
    Memory,
    /// Latency under load on the real clock.
    Load,
    /// Latency under load in virtual time.
    Model,
    /// Behaviour under faults in virtual time.
    Faults,
    /// Where adaptive limits settle, in virtual time.
    Adaptive,
}

/// How much is sent into a stack.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Offered {
    /// This part of the capacity, open loop.
    Share(f64),
    /// So many calls a second, open loop.
    PerSecond(f64),
    /// So many callers, each of which makes its next call when it has its answer: a closed loop.
    Callers(usize),
}

// === impl Section ===

impl Section {
    /// All of them, in the order of measuring.
    pub const ALL: [Self; 9] = [
        Self::Overhead,
        Self::Layers,
        Self::Tasks,
        Self::Pool,
        Self::Memory,
        Self::Load,
        Self::Model,
        Self::Faults,
        Self::Adaptive,
    ];

    /// The comparisons with peers, and the memory: everything that goals are set for.
    pub const PEERS: [Self; 4] = [Self::Layers, Self::Tasks, Self::Pool, Self::Memory];

    /// Whether it runs in virtual time, which is another program.
    pub fn is_virtual(self) -> bool {
        matches!(self, Self::Model | Self::Faults | Self::Adaptive)
    }

    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Overhead => "overhead",
            Self::Layers => "layers",
            Self::Tasks => "tasks",
            Self::Pool => "pool",
            Self::Memory => "memory",
            Self::Load => "load",
            Self::Model => "model",
            Self::Faults => "faults",
            Self::Adaptive => "adaptive",
        }
    }

    /// What it is called in a sentence.
    pub fn title(self) -> &'static str {
        match self {
            Self::Overhead => "overhead of a call",
            Self::Layers => "layers beside their peers",
            Self::Tasks => "many tasks",
            Self::Pool => "pool",
            Self::Memory => "memory after a peak",
            Self::Load => "latency under load, real clock",
            Self::Model => "latency under load, virtual time",
            Self::Faults => "faults, virtual time",
            Self::Adaptive => "adaptive limits, virtual time",
        }
    }
}

// === impl Plan ===

impl Plan {
    /// The loads of the real clock: a quick run takes the usual one alone, because each takes its time.
    pub fn offered_in_real_time(&self) -> Vec<Offered> {
        let usual = Offered::Share(0.8);
        if self.quick && self.offered.len() > 1 && self.offered.contains(&usual) {
            vec![usual]
        } else {
            self.offered.clone()
        }
    }

    /// For how long calls arrive on the real clock, in seconds.
    pub fn real_duration(&self) -> f64 {
        self.duration.unwrap_or(if self.quick { 0.5 } else { 2.0 })
    }

    /// The stacks.
    ///
    /// # Panics
    ///
    /// If there is no stack of such a name; `bench` has looked at them.
    pub fn combos(&self) -> Vec<Combo> {
        let known = |name: &String| name.parse().expect("the plan names stacks of the catalogue");
        self.stacks.iter().map(known).collect()
    }

    /// How many of the 64 stacks there are, and how many with newer layers in them.
    pub fn extent(&self) -> String {
        let combos = self.combos();
        let newer = combos.iter().filter(|combo| combo.has_newer()).count();
        let text = format!("{} of {} stacks", combos.len() - newer, Combo::all().len());
        if newer == 0 { text } else { format!("{text} and {newer} with newer layers") }
    }

    /// About how many seconds a section takes.
    pub fn estimate(&self, section: Section) -> f64 {
        let stacks = self.stacks.len() as f64;
        match section {
            Section::Overhead if self.quick => stacks * 0.5,
            Section::Overhead => stacks * 1.6,
            // Half a minute of it makes the stacks of 100,000 keys, however quick the rounds are.
            Section::Layers if self.quick => 36.0,
            Section::Layers => 80.0,
            Section::Tasks | Section::Pool if self.quick => 16.0,
            Section::Tasks | Section::Pool => 60.0,
            Section::Memory => 10.0,
            Section::Load => {
                let loads = self.offered_in_real_time().len() as f64;
                stacks * loads * (self.real_duration() + 0.1)
            }
            Section::Model => stacks * self.offered.len() as f64 * 0.05,
            Section::Faults => stacks * 0.1,
            Section::Adaptive => 10.0,
        }
    }
}

// === impl Offered ===

impl Offered {
    /// Half, most, nearly all and more than a stack can take.
    pub const USUAL: [Self; 4] =
        [Self::Share(0.5), Self::Share(0.8), Self::Share(0.95), Self::Share(1.2)];

    /// Arrivals a second, where that is fixed.
    pub fn per_second(self, capacity: f64) -> Option<f64> {
        match self {
            Self::Share(share) => Some(share * capacity),
            Self::PerSecond(rate) => Some(rate),
            Self::Callers(_) => None,
        }
    }
}

impl fmt::Display for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(share) => Percent(*share).fmt(f),
            Self::PerSecond(rate) => write!(f, "{rate}/s"),
            Self::Callers(callers) => write!(f, "{callers} callers"),
        }
    }
}

impl FromStr for Offered {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no rate; write a part of the capacity, such as 80%, or calls a second, such as 500"
            )
        };
        let positive = |value: f64| (value.is_finite() && value > 0.0).then_some(value);
        if text.trim_end().ends_with('%') {
            let Percent(share) = text.parse().map_err(|_| wrong())?;
            return positive(share)
                .filter(|share| *share <= 10.0)
                .map(Self::Share)
                .ok_or_else(wrong);
        }
        let rate = text.trim().trim_end_matches("/s").parse().ok().and_then(positive);
        rate.filter(|rate| *rate <= 1e6).map(Self::PerSecond).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_run_of_everything_takes_less_than_three_minutes() {
        let plan = Plan {
            seed: 1,
            quick: true,
            stacks: Combo::all().iter().map(Combo::to_string).collect(),
            sections: Section::ALL.to_vec(),
            offered: Offered::USUAL.to_vec(),
            duration: None,
            threads: 2,
        };
        let seconds: f64 = Section::ALL.map(|section| plan.estimate(section)).iter().sum();
        assert!(seconds < 180.0, "{seconds}");
    }

    #[test]
    fn a_rate_is_a_part_of_the_capacity_or_calls_a_second() {
        assert_eq!("80%".parse(), Ok(Offered::Share(0.8)));
        assert_eq!("120 %".parse(), Ok(Offered::Share(1.2)));
        assert_eq!("500".parse(), Ok(Offered::PerSecond(500.0)));
        assert_eq!("500/s".parse(), Ok(Offered::PerSecond(500.0)));
        for wrong in ["", "0", "0%", "-5", "fast", "NaN", "2000%", "1e9"] {
            let error = wrong.parse::<Offered>().unwrap_err();
            assert!(error.contains(&format!("{wrong:?}")) && error.contains("80%"), "{error}");
        }
    }

    #[test]
    fn a_load_is_named_as_one_types_it() {
        let names = Offered::USUAL.map(|load| load.to_string());
        assert_eq!(names, ["50 %", "80 %", "95 %", "120 %"]);
        assert_eq!(Offered::PerSecond(500.0).to_string(), "500/s");
        assert_eq!(Offered::Callers(32).to_string(), "32 callers");
    }
}
