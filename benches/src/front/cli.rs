//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use regex::Regex;

use crate::{
    combo::{self, Combo, Selection},
    numbers::Percent,
    plan::{Offered, Section},
    usage::root,
};

/// Measures every combination of the layers: what a call costs, how long it takes under load, what becomes of it when
/// the service fails.
///
/// There are 64 stacks: every subset of timeout, limit, rate, breaker and retry, with and without the pool in front.
/// Without --quick it takes about fifteen minutes on two cores, with it less than three. Ctrl-C keeps what was
/// measured.
///
/// Exits with 0, with 1 on a regression or a failure, with 2 if it cannot be done as asked.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
pub struct Cli {
    /// What to do; without it, run
    #[command(subcommand)]
    pub command: Option<Command>,

    #[command(flatten)]
    #[expect(missing_docs, reason = "it would stand in the help")]
    pub measuring: Measuring,

    /// Where runs are kept
    #[arg(long, value_name = "DIR", global = true, hide = true, default_value_os_t = root().join("target/bench"))]
    pub directory: PathBuf,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists the stacks
    List,

    /// Measures, prints a summary, and draws the report (default)
    Run,

    /// Measures the layers and the pool beside all their peers (tower, tower-resilience, seatbelt, tokio, flume), and
    /// the memory after a peak
    Peers,

    /// Holds a kept run against the goals of the project; exits with 1 if one is missed
    Goals {
        /// Which run; `peers` is the latest one of that command
        #[arg(default_value = "last")]
        name: String,
    },

    /// Measures, and keeps the run under a name
    Save {
        /// What to call it
        name: String,
    },

    /// Compares two runs that were kept; `last` is the latest one
    Compare {
        /// The older one
        base: String,
        /// The newer one
        new: String,
        /// Exits with 1 if a stack costs so much more than it did on one thread, such as 5%, or allocates more often
        #[arg(long, value_name = "PERCENT")]
        fail_over: Option<Percent>,
    },

    /// Counts the instructions of a call through each stack, and holds the budget of each
    ///
    /// Counted by callgrind, which is part of valgrind: exact, and the same whenever the code is the same.
    Instr {
        /// Writes what was counted as the new budget
        #[arg(long)]
        bless: bool,
        /// Where the budget stands
        #[arg(long, value_name = "FILE", default_value_os_t = root().join("benches/instructions.json"))]
        budget: PathBuf,
    },

    /// Draws the report of a run that was kept
    Report {
        /// Which run
        #[arg(default_value = "last")]
        name: String,
        /// Shows the difference to this older run as well
        #[arg(long, value_name = "NAME")]
        against: Option<String>,
        /// Where to write it
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Opens it in the browser
        #[arg(long)]
        open: bool,
    },

    /// Writes the headline table of the README from the results that are checked in
    #[command(hide = true)]
    Readme {
        /// Only says whether they match
        #[arg(long)]
        check: bool,
        /// Renews the results from a run that was kept
        #[arg(long, value_name = "NAME", conflicts_with = "check")]
        from: Option<String>,
        #[arg(long, hide = true, value_name = "FILE", default_value_os_t = root().join("README.md"))]
        #[expect(missing_docs, reason = "it is hidden")]
        readme: PathBuf,
        #[arg(long, hide = true, value_name = "FILE", default_value_os_t = root().join("benches/results/headline.json"))]
        #[expect(missing_docs, reason = "it is hidden")]
        results: PathBuf,
    },
}

/// What is measured, and how.
#[derive(Args, Debug)]
#[command(next_help_heading = "Measuring")]
pub struct Measuring {
    /// The whole matrix in less than three minutes on two cores, with fewer and shorter rounds
    #[arg(long, global = true)]
    pub quick: bool,

    /// Only the stacks whose name matches, and the bare service
    #[arg(long, global = true, value_name = "REGEX", value_parser = regex)]
    pub filter: Option<Regex>,

    /// Only the stacks made of these layers and no others, such as retry,breaker; pool is one of them
    ///
    /// Stacks with fallback, coalesce, hedge, keyed or chaos in them are measured only where these are named here. In
    /// them each layer is in a box, which costs an allocation a call, so compare them with each other only. With
    /// keyed, each of 1,000 keys has its own breaker, rate limit, limit and timeout, of those that are named.
    #[arg(long, global = true, value_name = "LAYERS", value_parser = combo::layers)]
    pub layers: Option<Combo>,

    /// Only these parts, such as overhead,model: overhead, layers, tasks, pool, memory, load, model, faults, adaptive
    #[arg(long, global = true, value_name = "PARTS", value_delimiter = ',', value_parser = section)]
    pub only: Vec<Section>,

    /// Offers this load in the place of 50%, 80%, 95% and 120% of the capacity: a percentage, or calls a second
    #[arg(long, global = true, value_name = "RATE", value_delimiter = ',')]
    pub rate: Vec<Offered>,

    /// For how long calls arrive at each load, such as 5s
    #[arg(long, global = true, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,

    /// In the place of an open loop so many callers, each of which waits for its answer before it calls again
    #[arg(long, global = true, value_name = "CALLERS", value_parser = callers, conflicts_with = "rate")]
    pub closed: Option<usize>,

    /// How many threads share a stack, where more than one does
    #[arg(long, global = true, value_name = "N", default_value = "2", value_parser = threads)]
    pub threads: usize,

    /// What arrivals, service times, jitter and the bootstrap are drawn from
    #[arg(long, global = true, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Beside all peers in the same run, for which more has to be built; the command peers measures nothing else
    #[arg(long, global = true)]
    pub peers: bool,

    /// Writes everything to this file as JSON
    #[arg(long, global = true, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Writes a line for each stack to this file
    #[arg(long, global = true, value_name = "FILE")]
    pub csv: Option<PathBuf>,

    /// Says nothing while it measures
    #[arg(long, global = true)]
    pub no_progress: bool,

    /// Where the programs that measure are, if they are not to be built
    #[arg(long, global = true, hide = true, value_name = "DIR")]
    pub workers: Option<PathBuf>,
}

// === impl Measuring ===

impl Measuring {
    /// The wanted stacks.
    pub fn combos(&self) -> Vec<Combo> {
        Selection { filter: self.filter.clone(), layers: self.layers }.combos()
    }
}

fn regex(text: &str) -> Result<Regex, String> {
    let regex = Regex::new(text)
        .map_err(|error| format!("{error}; write one such as 'retry\\+breaker' or '^pool'"))?;
    if combo::is_some_name(&regex) {
        Ok(regex)
    } else {
        Err(format!(
            "no stack has such a name; names are made like {} and {}, see `cargo xtask bench list`",
            Combo::FULL,
            combo::BARE
        ))
    }
}

fn section(text: &str) -> Result<Section, String> {
    let known = || Section::ALL.map(Section::name).join(", ");
    let found = Section::ALL.into_iter().find(|section| section.name() == text);
    found.ok_or_else(|| format!("there is no part {text:?}; there are: {}", known()))
}

fn duration(text: &str) -> Result<Duration, String> {
    let right = "write a time from 10ms to 1h, such as 500ms or 5s";
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("{text:?} is no time: {error}; {right}"))?;
    if (Duration::from_millis(10)..=Duration::from_secs(3_600)).contains(&duration) {
        Ok(duration)
    } else {
        Err(format!("{text:?} is out of range; {right}"))
    }
}

fn threads(text: &str) -> Result<usize, String> {
    number(text, 64)
}

fn callers(text: &str) -> Result<usize, String> {
    number(text, 10_000)
}

fn number(text: &str, most: usize) -> Result<usize, String> {
    let number = text.parse().ok().filter(|n| (1..=most).contains(n));
    number.ok_or_else(|| format!("{text:?} is not a whole number from 1 to {most}"))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, error::ErrorKind};

    use super::*;

    fn refused(arguments: &[&str]) -> String {
        let all = ["bench"].iter().chain(arguments);
        let error = Cli::try_parse_from(all).unwrap_err();
        assert_ne!(error.kind(), ErrorKind::DisplayHelp);
        error.to_string()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_may_stand_before_and_after_the_command() {
        let cli =
            Cli::try_parse_from(["bench", "--quick", "save", "x", "--layers", "retry,breaker"]);
        let cli = cli.unwrap();
        assert!(cli.measuring.quick);
        assert_eq!(cli.measuring.combos().len(), 4);
        assert!(matches!(cli.command, Some(Command::Save { name }) if name == "x"));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_be_right() {
        for (arguments, words) in [
            (&["--layers", "retry,braker"] as &[&str], &["braker", "breaker"] as &[&str]),
            (&["--filter", "("], &["unclosed group", "^pool"]),
            (&["--filter", "nothing"], &["no stack", "list"]),
            (&["--rate", "fast"], &["fast", "80%"]),
            (&["--duration", "5"], &["5s"]),
            (&["--duration", "0s"], &["10ms"]),
            (&["--threads", "0"], &["1 to 64"]),
            (&["--closed", "none"], &["none", "1 to 10000"]),
            (&["--seed", "x"], &["x"]),
            (&["compare", "a", "b", "--fail-over", "five"], &["five", "5%"]),
            (&["lst"], &["lst", "list"]),
        ] {
            let message = refused(arguments);
            for word in words {
                assert!(message.contains(word), "{arguments:?}: {message}");
            }
        }
    }

    #[test]
    fn several_rates_can_be_given_at_once() {
        let cli = Cli::try_parse_from(["bench", "--rate", "50%,700"]).unwrap();
        assert_eq!(cli.measuring.rate, [Offered::Share(0.5), Offered::PerSecond(700.0)]);
    }
}
