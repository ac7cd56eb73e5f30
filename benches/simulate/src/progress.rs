//! How far it is: a bar on a terminal, a line for each run elsewhere.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use stockade_simulate::{run::Run, scenario::Scenario};
use tokio::time::Instant;

#[derive(Debug)]
pub(crate) enum Progress {
    None,
    Lines(Instant),
    Bar(ProgressBar),
}

// === impl Progress ===

impl Progress {
    /// For `runs` runs of `scenario`.
    pub(crate) fn new(wanted: bool, scenario: &Scenario, runs: usize) -> Self {
        if !wanted {
            return Self::None;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines(Instant::now());
        }
        let millis = scenario.fleet.duration.get().as_millis() as u64 * runs as u64;
        let style = ProgressStyle::with_template("[{bar:30}] {percent:>3} %, {eta} left: {msg}");
        let style = style.expect("the template is constant").progress_chars("=> ");
        Self::Bar(ProgressBar::new(millis).with_style(style))
    }

    /// The run number `n`, of `stack`, has come to `now`.
    pub(crate) fn at(&self, n: usize, stack: &str, scenario: &Scenario, now: Duration) {
        let Self::Bar(bar) = self else { return };
        let before = scenario.fleet.duration.get() * n as u32;
        bar.set_message(format!("{stack}, at {} s", now.as_secs()));
        bar.set_position((before + now).as_millis() as u64);
    }

    /// A run has ended.
    pub(crate) fn ended(&mut self, run: &Run) {
        let Self::Lines(began) = self else { return };
        let calls: u64 = run.record.phases.iter().map(|phase| phase.counts.calls).sum();
        let (until, took) = (run.until.as_secs_f64(), began.elapsed().as_secs_f64());
        let line = format!("{}: {until:.0} s, {calls} calls, simulated in {took:.1} s", run.stack);
        // Whether anybody reads it makes no difference.
        let _ = writeln!(std::io::stderr(), "{line}");
        *began = Instant::now();
    }

    /// All runs have ended.
    pub(crate) fn done(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
