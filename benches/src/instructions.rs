//! Instructions a call, counted by callgrind: the gate against regressions that no busy machine can blur.
//!
//! One process calls every stack, each from a function of its own; callgrind begins anew before such a function
//! and writes down what it has counted after it.

use std::{
    collections::BTreeMap,
    fs,
    hint::black_box,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::{
    combo::Combo,
    drive::call_often,
    environment,
    kit::{Kit, Visit},
    programs::{Program, program},
    service::{AtOnce, Stack},
    turns,
    usage::{Usage, root},
};

/// What each stack may cost, as it is checked in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// The compiler that it was counted with: another one makes other code.
    pub compiler: String,
    /// Instructions a call, by stack, in the order of their names.
    pub stacks: BTreeMap<String, f64>,
}

/// What may be more than the budget: another linker or C library makes a little difference.
pub const TOLERANCE: f64 = 0.02;

const CALLS: u64 = 1_000;

/// How a count stands to its budget.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is within.
    Kept,
    /// It is so much below that the budget can be lowered.
    Below(f64),
    /// It is above.
    Above(f64),
    /// There is none.
    Missing,
}

// === impl Budget ===

impl Budget {
    /// Holds what was counted against the budget.
    pub fn judge(&self, stack: &str, counted: f64) -> Verdict {
        let Some(budget) = self.stacks.get(stack) else { return Verdict::Missing };
        let by = counted / budget - 1.0;
        if by > TOLERANCE {
            Verdict::Above(by)
        } else if by < -TOLERANCE {
            Verdict::Below(by)
        } else {
            Verdict::Kept
        }
    }
}

/// Counts, and holds the counts against the budget, or makes them the budget. Tells whether it was kept.
///
/// # Errors
///
/// If there is no valgrind, no budget, or counting fails.
pub fn hold(combos: &[Combo], bless: bool, path: &Path, workers: Option<&Path>) -> Result<bool> {
    let budget = match fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text)
            .with_context(|| format!("{} is no budget", path.display()))?,
        Err(_) if bless => Budget::default(),
        Err(error) => {
            return Err(Usage(format!(
                "cannot read the budget {}: {error}; `cargo xtask bench instr --bless` makes one",
                path.display()
            ))
            .into());
        }
    };
    let valgrind = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    if !valgrind.is_ok_and(|status| status.success()) {
        return Err(Usage(
            "instructions are counted by callgrind, and there is no `valgrind` here; get it with \
             `apt-get install valgrind`, or from https://valgrind.org"
                .to_owned(),
        )
        .into());
    }
    let counted = count(combos, workers)?;
    let compiler = environment::compiler().unwrap_or_default();
    if bless {
        let mut budget = budget;
        budget.compiler = compiler;
        budget.stacks.extend(counted.iter().map(|(combo, count)| (combo.to_string(), *count)));
        let known = |name: &String| name.parse::<Combo>().is_ok();
        budget.stacks.retain(|name, _| known(name));
        fs::write(path, serde_json::to_string_pretty(&budget)? + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("{} counts written to {}", counted.len(), path.display());
        return Ok(true);
    }
    println!("{}", show(&budget, &counted, &compiler));
    let kept = |(combo, count): &(Combo, f64)| {
        matches!(budget.judge(&combo.to_string(), *count), Verdict::Kept | Verdict::Below(_))
    };
    Ok(counted.iter().all(kept))
}

fn show(budget: &Budget, counted: &[(Combo, f64)], compiler: &str) -> String {
    let mut text = format!("instructions a call, budget and up to {} % more\n", TOLERANCE * 100.0);
    let (mut above, mut below) = (0, 0);
    for (combo, count) in counted {
        let name = combo.to_string();
        let verdict = match budget.judge(&name, *count) {
            Verdict::Kept => String::new(),
            Verdict::Below(by) => {
                below += 1;
                format!("{:+.1} %", by * 100.0)
            }
            Verdict::Above(by) => {
                above += 1;
                format!("{:+.1} %  ABOVE ITS BUDGET", by * 100.0)
            }
            Verdict::Missing => {
                above += 1;
                "HAS NO BUDGET".to_owned()
            }
        };
        let allowed = budget.stacks.get(&name).map_or_else(String::new, |b| format!("{b:.1}"));
        text += &format!("{name:40} {count:8.1} {allowed:>8} {verdict}\n");
    }
    if compiler != budget.compiler {
        text += &format!("note: the budget is of {:?}, this is {compiler:?}\n", budget.compiler);
    }
    if below > 0 {
        text += &format!(
            "{below} are below their budget: `cargo xtask bench instr --bless` lowers it\n"
        );
    }
    if above > 0 {
        text += &format!(
            "{above} are above their budget; if that is meant, `cargo xtask bench instr --bless` raises it"
        );
    } else {
        text += "the budget is kept";
    }
    text
}

/// Counts instructions a call.
///
/// # Errors
///
/// If callgrind cannot be run, or does not say as much as it was asked for.
pub fn count(combos: &[Combo], workers: Option<&Path>) -> Result<Vec<(Combo, f64)>> {
    let program = program(Program::Calls, workers)?;
    let folder = root().join("target/bench/callgrind");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let names: Vec<_> = combos.iter().map(Combo::to_string).collect();
    let output = Command::new("valgrind")
        // Variables stand on the stack of a new process, and move what is on it.
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .current_dir(&folder)
        .arg("--tool=callgrind")
        .args(["--dump-before=*from_here_on*", "--dump-after=*calls_that_are_counted*"])
        .args(["--callgrind-out-file=out", "--combine-dumps=no", "--log-file=log"])
        .arg(&program)
        .arg(names.join(","))
        .output()
        .context("cannot start valgrind")?;
    if !output.status.success() {
        let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
        bail!(
            "callgrind ended with {}\n{log}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let mut counts = Vec::new();
    for (place, combo) in combos.iter().enumerate() {
        // The one before it is of what came before the function was entered.
        let path = folder.join(format!("out.{}", 2 * place + 2));
        let text = fs::read_to_string(&path)
            .with_context(|| format!("callgrind has counted nothing for {combo}"))?;
        let total = total(&text).with_context(|| format!("{} has no total", path.display()))?;
        ensure!(total > 0, "callgrind has counted nothing for {combo}");
        // What starting and ending the calls takes is rounded away, and a carry in the arithmetic of times too.
        counts.push((*combo, (total as f64 / CALLS as f64).round()));
    }
    Ok(counts)
}

/// The sum that a file of callgrind's ends with, or begins with.
fn total(text: &str) -> Option<u64> {
    let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start));
    line("totals: ").or_else(|| line("summary: "))?.trim().parse().ok()
}

// === what is counted ===

/// Makes calls through each of the named stacks, one after the other.
///
/// # Panics
///
/// If a stack is unknown: nobody but [`count`] asks for it.
#[inline]
pub fn make_calls(stacks: &str) {
    // Whatever of the layers draws by chance draws the same each time.
    fastrand::seed(1);
    for name in stacks.split(',') {
        let combo: Combo = name.parse().expect("a stack of the catalogue");
        let runtime = turns::runtime(1);
        let _guard = runtime.enter();
        Kit::passing().over::<u64, _>(combo, &AtOnce, Counted(&runtime));
    }
}

struct Counted<'a>(&'a Runtime);

impl Visit<u64> for Counted<'_> {
    type Out = ();

    fn visit<S: Stack>(self, mut stack: S) {
        self.0.block_on(call_often::<u64, _>(&mut stack, 64));
        from_here_on();
        calls_that_are_counted(self.0, &mut stack);
    }
}

/// Where callgrind begins anew. It heeds one of its options for a function only, so this is another one.
#[inline(never)]
fn from_here_on() {
    black_box(());
}

/// Everything that happens on the thread until all calls are answered; the workers of a pool run on it too.
#[inline(never)]
fn calls_that_are_counted<S: Stack>(runtime: &Runtime, stack: &mut S) {
    runtime.block_on(call_often::<u64, _>(stack, CALLS));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget() -> Budget {
        Budget { compiler: String::new(), stacks: BTreeMap::from([("limit".to_owned(), 100.0)]) }
    }

    #[test]
    fn a_count_within_the_tolerance_keeps_the_budget() {
        assert_eq!(budget().judge("limit", 100.0), Verdict::Kept);
        assert_eq!(budget().judge("limit", 101.9), Verdict::Kept);
        assert_eq!(budget().judge("limit", 98.1), Verdict::Kept);
    }

    #[test]
    fn a_count_above_it_does_not() {
        assert!(matches!(budget().judge("limit", 103.0), Verdict::Above(by) if by > 0.02));
        assert!(matches!(budget().judge("limit", 90.0), Verdict::Below(by) if by < -0.02));
    }

    #[test]
    fn a_stack_without_a_budget_is_told() {
        assert_eq!(budget().judge("rate", 1.0), Verdict::Missing);
        let shown = show(&budget(), &[("rate".parse().unwrap(), 1.0)], "");
        assert!(shown.contains("HAS NO BUDGET") && shown.contains("--bless"), "{shown}");
    }

    #[test]
    fn the_total_is_read_from_what_callgrind_writes() {
        assert_eq!(total("version: 1\nsummary: 12\n\nfn=(1)\n0 12\n\ntotals: 34\n"), Some(34));
        assert_eq!(total("version: 1\n"), None);
    }
}
