//! Cases that take turns, and what they took.

use std::{fmt, sync::Arc, time::Duration};

use tokio::runtime::{Builder, Runtime};

/// Makes so many calls, and says how long they took together.
pub type Runner = Box<dyn FnMut(u64) -> Duration>;

type Make = Box<dyn Fn(&Arc<Runtime>) -> Runner>;

/// One thing to measure.
pub struct Case {
    name: &'static str,
    peer: Option<&'static str>,
    make: Make,
}

/// Cases that are measured in turns, because they are to be compared.
#[derive(Debug)]
pub struct Group {
    /// A short name, unique.
    pub name: String,
    /// What is done, in a sentence.
    pub about: String,
    /// Where the callers run.
    pub flavor: Flavor,
    /// How many calls a round makes, if it is not to be found out.
    pub calls: Option<u64>,
    /// The cases, in the order of their turns.
    pub cases: Vec<Case>,
}

/// Where the callers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    /// A tokio runtime on the current thread.
    CurrentThread,
    /// A tokio runtime of two workers.
    MultiThread,
}

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// How many turns each case gets.
    pub rounds: usize,
    /// How long a turn takes, about.
    pub round: Duration,
    /// How many turns each case gets where the number of calls is fixed, and a turn takes longer.
    pub long_rounds: usize,
}

/// What the cases of a group took.
#[derive(Debug)]
pub struct Measured {
    /// The name of the group.
    pub name: String,
    /// What was done.
    pub about: String,
    /// One for each case.
    pub rows: Vec<Row>,
}

/// What a case took.
#[derive(Debug)]
pub struct Row {
    /// The name of the case.
    pub name: &'static str,
    /// The case it is compared with.
    pub peer: Option<&'static str>,
    /// How many calls a round made.
    pub calls: u64,
    /// Nanoseconds a call, for each round.
    pub rounds: Vec<f64>,
    /// Allocations a call.
    pub allocations: f64,
}

/// A median and the quartiles around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// A quarter of the values is below.
    pub low: f64,
    /// Half of the values is below.
    pub median: f64,
    /// Three quarters of the values are below.
    pub high: f64,
}

// === impl Case ===

impl Case {
    /// A case without a peer; `make` builds what is called, inside the runtime that it is given.
    pub fn new(name: &'static str, make: impl Fn(&Arc<Runtime>) -> Runner + 'static) -> Self {
        Self { name, peer: None, make: Box::new(make) }
    }

    /// The case of the same group that this one is compared with.
    #[must_use]
    pub fn against(mut self, peer: &'static str) -> Self {
        self.peer = Some(peer);
        self
    }

    /// What the case is called.
    pub fn name(&self) -> &'static str {
        self.name
    }

    fn start(&self, runtime: &Arc<Runtime>) -> Runner {
        let _guard = runtime.enter();
        (self.make)(runtime)
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).field("peer", &self.peer).finish()
    }
}

// === impl Flavor ===

impl Flavor {
    /// Starts a runtime with timer and network, as `#[tokio::main]` does. The network matters: to wake a
    /// runtime that waits for it, as a timer may have to, is a system call.
    ///
    /// # Panics
    ///
    /// If the operating system gives no thread.
    pub fn runtime(self) -> Arc<Runtime> {
        let mut builder = match self {
            Self::CurrentThread => Builder::new_current_thread(),
            Self::MultiThread => Builder::new_multi_thread(),
        };
        if self == Self::MultiThread {
            builder.worker_threads(2);
        }
        Arc::new(builder.enable_all().build().expect("a runtime can be started"))
    }
}

// === impl Group ===

impl Group {
    /// Keeps the cases whose name, with the group's, contains `text`, and those they are compared with.
    pub fn filter(&mut self, text: &str) {
        let wanted = |case: &Case| format!("{}/{}", self.name, case.name).contains(text);
        let kept = self.cases.iter().filter(|case| wanted(case));
        let mut names: Vec<_> = kept.flat_map(|case| [Some(case.name), case.peer]).collect();
        if !names.is_empty() {
            names.push(Some(BARE));
        }
        self.cases.retain(|case| names.contains(&Some(case.name)));
    }

    /// Measures all cases, in turns.
    pub fn run(&self, effort: Effort) -> Measured {
        let allocations: Vec<_> = self.cases.iter().map(allocations).collect();
        let mut turns: Vec<_> = self
            .cases
            .iter()
            .map(|case| {
                // Each has a runtime of its own: a timer that one case leaves behind makes the timers of
                // the others cheaper, because the runtime need not wake earlier for them.
                let mut run = case.start(&self.flavor.runtime());
                let calls = self.calls.unwrap_or_else(|| calibrate(&mut run, effort.round));
                (run, calls, Vec::new())
            })
            .collect();
        let rounds = if self.calls.is_some() { effort.long_rounds } else { effort.rounds };
        for _ in 0..rounds {
            for (run, calls, taken) in &mut turns {
                taken.push(run(*calls).as_nanos() as f64 / *calls as f64);
            }
        }
        let rows = self
            .cases
            .iter()
            .zip(turns)
            .zip(allocations)
            .map(|((case, (_, calls, rounds)), allocations)| {
                let Case { name, peer, .. } = *case;
                Row { name, peer, calls, rounds, allocations }
            })
            .collect();
        Measured { name: self.name.clone(), about: self.about.clone(), rows }
    }
}

/// The name of the case without any layer.
pub const BARE: &str = "bare";

/// How many calls take about as long as `round`. Warms up as well.
fn calibrate(run: &mut Runner, round: Duration) -> u64 {
    let mut calls = 1_024;
    loop {
        let took = run(calls);
        if took >= round / 8 {
            return ((calls as f64 * round.as_secs_f64() / took.as_secs_f64()) as u64).max(1_024);
        }
        calls *= 2;
    }
}

/// Allocations a call, counted on one thread: what twice as many calls allocate more. So what is allocated
/// once a run does not count.
fn allocations(case: &Case) -> f64 {
    const CALLS: u64 = 10_240;
    let mut run = case.start(&Flavor::CurrentThread.runtime());
    run(4 * CALLS);
    let mut count = |calls| {
        allocation_counter::measure(|| {
            run(calls);
        })
        .count_total as f64
    };
    let (once, twice) = (count(CALLS), count(2 * CALLS));
    (twice - once) / CALLS as f64
}

// === impl Measured ===

impl Measured {
    /// The row of a case.
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// How much longer a call takes than the bare one, round by round.
    pub fn adds(&self, row: &Row) -> Option<Spread> {
        if row.name == BARE {
            return None;
        }
        Spread::of(pairs(row, self.row(BARE)?).map(|(row, bare)| row - bare))
    }

    /// A case as a multiple of its peer, round by round.
    pub fn ratio(&self, row: &Row) -> Option<Spread> {
        self.ratio_to(row, self.row(row.peer?)?)
    }

    /// A case as a multiple of another, round by round.
    pub fn ratio_to(&self, row: &Row, other: &Row) -> Option<Spread> {
        Spread::of(pairs(row, other).map(|(row, other)| row / other))
    }

    /// What a case adds to the bare call as a multiple of what its peer adds, round by round; `None` if the
    /// peer adds less than a nanosecond, which is noise.
    pub fn ratio_of_adds(&self, row: &Row) -> Option<Spread> {
        let (bare, peer) = (self.row(BARE)?, self.row(row.peer?)?);
        self.adds(peer).filter(|adds| adds.median >= 1.0)?;
        let bared = pairs(row, peer).zip(&bare.rounds);
        Spread::of(bared.map(|((row, peer), bare)| (row - bare) / (peer - bare)))
    }
}

fn pairs<'a>(a: &'a Row, b: &'a Row) -> impl Iterator<Item = (f64, f64)> + 'a {
    a.rounds.iter().copied().zip(b.rounds.iter().copied())
}

// === impl Row ===

impl Row {
    /// Nanoseconds a call.
    pub fn ns(&self) -> Option<Spread> {
        Spread::of(self.rounds.iter().copied())
    }
}

// === impl Spread ===

impl Spread {
    /// Of all values; `None` if there is none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let at = |part: f64| {
            let place = part * last as f64;
            let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
            below + (above - below) * place.fract()
        };
        Some(Self { low: at(0.25), median: at(0.5), high: at(0.75) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &'static str, peer: Option<&'static str>, rounds: &[f64]) -> Row {
        Row { name, peer, calls: 1, rounds: rounds.to_vec(), allocations: 0.0 }
    }

    #[test]
    fn a_spread_is_the_median_between_the_quartiles() {
        assert_eq!(
            Spread::of([5.0, 1.0, 4.0, 2.0, 3.0]),
            Some(Spread { low: 2.0, median: 3.0, high: 4.0 })
        );
        assert_eq!(Spread::of([2.0, 1.0]).map(|spread| spread.median), Some(1.5));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let rows = vec![
            row(BARE, None, &[1.0, 10.0, 100.0]),
            row("ours", Some("theirs"), &[2.0, 20.0, 200.0]),
            row("theirs", None, &[5.0, 50.0, 500.0]),
        ];
        let measured = Measured { name: String::new(), about: String::new(), rows };
        let ours = measured.row("ours").unwrap();
        assert_eq!(measured.ratio(ours).unwrap().median, 0.4);
        assert_eq!(measured.ratio(ours).unwrap().high, 0.4);
        assert_eq!(measured.ratio_of_adds(ours).unwrap().median, 0.25);
        assert_eq!(measured.adds(ours).unwrap().median, 10.0);
    }

    #[test]
    fn a_filter_keeps_the_peers() {
        let case = |name| Case::new(name, |_| Box::new(|_| Duration::ZERO));
        let mut group = Group {
            name: "group".to_owned(),
            about: String::new(),
            flavor: Flavor::CurrentThread,
            calls: None,
            cases: vec![case(BARE), case("ours").against("theirs"), case("theirs"), case("more")],
        };
        group.filter("group/ou");
        let names: Vec<_> = group.cases.iter().map(|case| case.name).collect();
        assert_eq!(names, [BARE, "ours", "theirs"]);
        group.filter("nothing");
        assert!(group.cases.is_empty());
    }
}
