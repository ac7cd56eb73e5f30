//! Running commands and steps: what is run is printed, timed, and summed up at the end.

use std::{
    ffi::OsStr,
    fmt::Write,
    path::Path,
    process::{Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::steps::{Job, Step};

/// How often a child that may not run for ever is looked after.
const GLANCE: Duration = Duration::from_millis(50);

/// One line of the summary.
struct Outcome {
    name: &'static str,
    result: &'static str,
    time: Option<Duration>,
}

/// Runs `steps` in order, and prints a summary.
///
/// # Errors
///
/// Names the steps that failed. Without `keep_going` the first of them is the last to run.
pub(crate) fn all<'a>(
    steps: impl Iterator<Item = &'a Step>,
    job: &Job,
    keep_going: bool,
) -> Result<()> {
    let begin = now();
    let mut outcomes = Vec::new();
    let mut failed = Vec::new();
    for step in steps {
        let name = step.name;
        if !failed.is_empty() && !keep_going {
            outcomes.push(Outcome { name, result: "not run", time: None });
            continue;
        }
        println!("\n==> {name}: {}", step.about);
        let begin = now();
        let result = (step.run)(job);
        let time = begin.elapsed();
        let result = match result {
            Ok(()) => "ok",
            Err(error) => {
                eprintln!("{name}: {error:#}");
                failed.push(name);
                "failed"
            }
        };
        println!("<== {name}: {result}, {}", human(time));
        outcomes.push(Outcome { name, result, time: Some(time) });
    }
    println!("\n{}", summary(&outcomes, begin.elapsed()));
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// Runs `command` with its output passed through.
///
/// # Errors
///
/// When it cannot be started, or does not end well.
pub(crate) fn command(command: &mut Command) -> Result<()> {
    let line = announce(command);
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    ended(&line, status)
}

/// Like [`command`], but kills a child that still runs after `limit`.
///
/// # Errors
///
/// Also when it was killed.
pub(crate) fn command_within(limit: Duration, command: &mut Command) -> Result<()> {
    let line = announce(command);
    let mut child = command.spawn().with_context(|| format!("cannot start `{line}`"))?;
    let begin = now();
    loop {
        if let Some(status) = child.try_wait()? {
            return ended(&line, status);
        }
        if begin.elapsed() >= limit {
            child.kill()?;
            child.wait()?;
            bail!("`{line}` was killed: it ran for longer than {}", human(limit));
        }
        thread::sleep(GLANCE);
    }
}

fn ended(line: &str, status: ExitStatus) -> Result<()> {
    ensure!(status.success(), "`{line}` ended with {status}");
    Ok(())
}

/// Prints `command`, and returns what was printed.
fn announce(command: &Command) -> String {
    let line = shown(command);
    println!("$ {line}");
    line
}

/// `command` as one would type it: changed variables, the program without its path, arguments.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let quote = |part: &OsStr| {
        let part = part.to_string_lossy();
        if part.is_empty() || part.contains(char::is_whitespace) {
            format!("'{part}'")
        } else {
            part.into_owned()
        }
    };
    let variables = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.display(), quote(value?))));
    let arguments = command.get_args().map(quote);
    variables.chain([quote(program)]).chain(arguments).collect::<Vec<_>>().join(" ")
}

fn summary(outcomes: &[Outcome], total: Duration) -> String {
    let mut table = format!("{:<12}{:<9}{:>10}\n", "step", "result", "time");
    for Outcome { name, result, time } in outcomes {
        let time = time.map(human).unwrap_or_default();
        let _ = writeln!(table, "{name:<12}{result:<9}{time:>10}");
    }
    let _ = write!(table, "{:<21}{:>10}", "total", human(total));
    table
}

fn human(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 59.95 {
        format!("{seconds:.1} s")
    } else {
        let seconds = seconds.round();
        format!("{} min {:02} s", (seconds / 60.0).trunc(), seconds % 60.0)
    }
}

#[expect(clippy::disallowed_methods, reason = "nothing here runs on tokio's clock")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable() {
        assert_eq!(human(Duration::from_millis(340)), "0.3 s");
        assert_eq!(human(Duration::from_millis(59_940)), "59.9 s");
        assert_eq!(human(Duration::from_millis(59_960)), "1 min 00 s");
        assert_eq!(human(Duration::from_secs(605)), "10 min 05 s");
    }

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("/somewhere/bin/cargo");
        command.args(["doc", "--no-deps", "two words"]);
        command.env("RUSTDOCFLAGS", "-D warnings").env_remove("CARGO_PKG_NAME");

        assert_eq!(shown(&command), "RUSTDOCFLAGS='-D warnings' cargo doc --no-deps 'two words'");
    }

    #[test]
    fn the_summary_tells_steps_that_were_not_run() {
        let outcomes = [
            Outcome { name: "fmt", result: "failed", time: Some(Duration::from_secs(1)) },
            Outcome { name: "docs", result: "not run", time: None },
        ];

        let table = summary(&outcomes, Duration::from_secs(1));

        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let lines: Vec<_> = table.lines().map(words).collect();
        assert_eq!(lines[1], ["fmt", "failed", "1.0", "s"]);
        assert_eq!(lines[2], ["docs", "not", "run"]);
        assert_eq!(lines[3], ["total", "1.0", "s"]);
    }
}
