//! The headline table of the README: made of results that are checked in, between two markers.

use std::{fmt::Write, fs, path::Path};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{
    combo::Combo,
    environment::Environment,
    numbers::nanoseconds,
    record::{Clock, Latency, Overhead, Run, inner},
    summary::count,
    usage::Usage,
};

/// What is checked in: the part of a run that the table is made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Headline {
    /// When it was measured, in UTC.
    pub began: String,
    /// What it was measured on.
    pub environment: Environment,
    /// How many threads share a stack, where more than one does.
    pub threads: usize,
    /// The load of the latencies.
    pub offered: String,
    /// A row for each step from bare to full.
    pub rows: Vec<Row>,
}

/// One stack.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub stack: String,
    /// The service inside is ready.
    pub ready: Overhead,
    /// The service inside is pending once.
    pub pending: Overhead,
    /// More than one thread share the stack.
    pub shared: Overhead,
    /// Under load, in virtual time.
    pub latency: Latency,
}

const BEGIN: &str = "<!-- headline: begin; written by `cargo xtask readme` -->";
const END: &str = "<!-- headline: end -->";

/// Takes the headline from a run, and writes it to where it is checked in.
///
/// # Errors
///
/// If the run has not measured what the table shows.
pub fn renew(run: &Run, path: &Path) -> Result<()> {
    let headline = Headline::of(run)?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, serde_json::to_string_pretty(&headline)? + "\n")
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("results written to {}", path.display());
    Ok(())
}

/// Writes the table into the README, or only looks whether it is there.
///
/// # Errors
///
/// If it is not there, or there are no markers for it.
pub fn apply(results: &Path, readme: &Path, check: bool) -> Result<()> {
    let what = || format!("cannot read {}", results.display());
    let headline = fs::read_to_string(results).with_context(what)?;
    let headline: Headline = serde_json::from_str(&headline).with_context(what)?;
    let text =
        fs::read_to_string(readme).with_context(|| format!("cannot read {}", readme.display()))?;
    let new = replaced(&text, &headline.table()).with_context(|| {
        format!("{} has not the lines {BEGIN:?} and {END:?}, in this order", readme.display())
    })?;
    if new == text {
        println!("{} matches {}", readme.display(), results.display());
        return Ok(());
    }
    if check {
        bail!(
            "the headline table of {} is not the one of {}; `cargo xtask readme` writes it",
            readme.display(),
            results.display()
        );
    }
    fs::write(readme, new).with_context(|| format!("cannot write {}", readme.display()))?;
    println!("{} renewed", readme.display());
    Ok(())
}

/// The text with the table between the markers; `None` without them.
fn replaced(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

// === impl Headline ===

impl Headline {
    /// The headline of a run.
    ///
    /// # Errors
    ///
    /// If something of it was not measured.
    pub fn of(run: &Run) -> Result<Self> {
        let missing = |what: String| {
            Usage(format!(
                "the run {:?} has not measured {what}; it has to be a whole one",
                run.name
            ))
        };
        if run.partial {
            return Err(missing("everything".to_owned()).into());
        }
        let offered = run.usual(Clock::Virtual).ok_or_else(|| missing("load".to_owned()))?;
        let row = |combo: Combo| -> Result<Row> {
            let stack = combo.to_string();
            let overhead = |inner: &str, threads| {
                let row = run.overhead(&stack, inner, threads).cloned();
                row.ok_or_else(|| missing(format!("{stack}, {inner}, on {threads} threads")))
            };
            let load = run.load(&stack, Clock::Virtual, offered);
            Ok(Row {
                ready: overhead(inner::READY, 1)?,
                pending: overhead(inner::PENDING, 1)?,
                shared: overhead(inner::READY, run.plan.threads)?,
                latency: load
                    .and_then(|load| load.latency.clone())
                    .ok_or_else(|| missing(format!("{stack} under load")))?,
                stack,
            })
        };
        Ok(Self {
            began: run.began.clone(),
            environment: run.environment.clone(),
            threads: run.plan.threads,
            offered: offered.to_owned(),
            rows: Combo::steps().into_iter().map(row).collect::<Result<_>>()?,
        })
    }

    /// The table, as Markdown.
    pub fn table(&self) -> String {
        let mut text = format!(
            "| a call through | service ready | x bare | pending once | {} threads share it | allocations | \
             p50 / p99 / p99.9 at {} load |\n|---|---:|---:|---:|---:|---:|---:|\n",
            self.threads, self.offered
        );
        for row in &self.rows {
            let ratio = row.ready.ratio;
            let latency = &row.latency;
            let _ = writeln!(
                text,
                "| `{}` | {} | {:.1} ({:.1} to {:.1}) | {} | {} | {} | {:.0} / {:.0} / {:.0} ms |",
                row.stack,
                nanoseconds(row.ready.ns.mid),
                ratio.mid,
                ratio.low,
                ratio.high,
                nanoseconds(row.pending.ns.mid),
                nanoseconds(row.shared.ns.mid),
                count(row.ready.allocations),
                latency.p50,
                latency.p99,
                latency.p999,
            );
        }
        let env = &self.environment;
        let _ = writeln!(
            text,
            "\nMeasured {} on {} cores of {}, {}, commit {}{}. The last column is modelled: a service that takes 50 ms on \
             average and runs 32 calls at once, in virtual time.",
            self.began.split('T').next().unwrap_or_default(),
            env.cores,
            env.processor,
            env.compiler.split(" (").next().unwrap_or_default(),
            env.commit,
            if env.busy { ", while others used the machine" } else { "" },
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_is_replaced() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let new = replaced(&text, "new\n").unwrap();
        assert_eq!(new, format!("before\n{BEGIN}\nnew\n{END}\nafter\n"));
        assert_eq!(replaced(&new, "new\n").unwrap(), new);
    }

    #[test]
    fn without_markers_there_is_nothing_to_replace() {
        assert_eq!(replaced("text", "new"), None);
        assert_eq!(replaced(&format!("{END} {BEGIN}"), "new"), None);
    }
}
