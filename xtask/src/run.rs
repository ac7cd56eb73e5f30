//! Running commands and steps: each one is printed, timed, and summed up at the end.

use std::{
    ffi::OsStr,
    io::{self, Seek, Write},
    path::Path,
    process::{Child, Command, ExitCode, ExitStatus},
    sync::{Mutex, PoisonError},
    thread::{self, available_parallelism},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{steps::Step, workspace::Workspace};

/// The pause between two looks at a child that has a time limit.
pub(crate) const GLANCE: Duration = Duration::from_millis(50);

/// Runs `steps` in order, and prints a summary.
///
/// # Errors
///
/// If steps fail; the error names them. Without `keep_going` it stops at the first one.
pub(crate) fn all<'a>(
    steps: impl Iterator<Item = &'a Step>,
    workspace: &Workspace,
    keep_going: bool,
) -> Result<()> {
    let start = now();
    let mut summary = row("step", "result", "time");
    let mut failed = Vec::new();
    for step in steps {
        let name = step.name;
        if !failed.is_empty() && !keep_going {
            summary += &row(name, "not run", "");
            continue;
        }
        println!("\n==> {name}: {}", step.about);
        let start = now();
        let result = (step.run)(workspace);
        let time = human(start.elapsed());
        let result = result.map_or_else(
            |error| {
                eprintln!("{name}: {error:#}");
                failed.push(name);
                "failed"
            },
            |()| "ok",
        );
        println!("<== {name}: {result}, {time}");
        summary += &row(name, result, &time);
    }
    println!("\n{summary}{}", row("total", "", &human(start.elapsed())));
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// Runs `command` with its output passed through.
///
/// # Errors
///
/// If it cannot be started or fails.
pub(crate) fn command(command: &mut Command) -> Result<()> {
    let status = start(command)?.wait()?;
    ensure!(status.success(), "`{}` ended with {status}", shown(command));
    Ok(())
}

/// Runs `commands`, as many at once as there are cores. Prints each when it starts, and again with all of its output
/// when it has ended. One that still runs after `limit` is killed.
///
/// # Errors
///
/// If one cannot be started, fails, or was killed; the error names all of these. The others run to their end.
pub(crate) fn at_once(commands: Vec<Command>, limit: Duration) -> Result<()> {
    let (failed, commands) = (Mutex::new(Vec::new()), Mutex::new(commands.into_iter()));
    let next = || commands.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some(mut command) = next() {
            if let Err(error) = captured(&mut command, limit) {
                failed.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{error:#}"));
            }
        }
    };
    let cores = available_parallelism()?.get();
    thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

fn captured(command: &mut Command, limit: Duration) -> Result<()> {
    let shown = shown(command);
    println!("> {shown}");
    let mut output = tempfile::tempfile()?;
    command.stdout(output.try_clone()?).stderr(output.try_clone()?);
    let mut child = command.spawn().with_context(|| format!("cannot start `{shown}`"))?;
    let ended = wait(&mut child, limit);
    output.rewind()?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "$ {shown}")?;
    io::copy(&mut output, &mut stdout)?;
    match ended? {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("`{shown}` ended with {status}"),
        None => bail!("`{shown}` was killed: it ran for longer than {}", human(limit)),
    }
}

/// How `child` has ended within `limit`. If it has not, it is killed.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let start = now();
    while start.elapsed() < limit {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(GLANCE);
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// Starts `command`, and prints it.
///
/// # Errors
///
/// If it cannot be started.
pub(crate) fn start(command: &mut Command) -> Result<Child> {
    println!("$ {}", shown(command));
    command.spawn().with_context(|| format!("cannot start `{}`", shown(command)))
}

/// Runs `command` in place of this program, whose exit code is that of `command`. Where it can, it becomes that program,
/// so that a signal reaches it.
///
/// # Errors
///
/// If it cannot be started.
pub(crate) fn hand_over(command: &mut Command) -> Result<ExitCode> {
    #[cfg(unix)]
    return Err(std::os::unix::process::CommandExt::exec(command)).context("cannot start cargo");
    #[cfg(not(unix))]
    {
        let status = command.status().context("cannot start cargo")?;
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
    }
}

/// `command` as one would type it: changed variables, the program without its path, arguments.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let quote = |part: &OsStr| {
        let part = part.to_string_lossy();
        let quote = if part.is_empty() || part.contains(char::is_whitespace) { "'" } else { "" };
        format!("{quote}{part}{quote}")
    };
    let variables = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.display(), quote(value?))));
    let arguments = command.get_args().map(quote);
    variables.chain([quote(program)]).chain(arguments).collect::<Vec<_>>().join(" ")
}

fn row(name: &str, result: &str, time: &str) -> String {
    format!("{name:<13} {result:<8} {time:>10}\n")
}

fn human(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let seconds = seconds.round();
    format!("{} min {:02} s", (seconds / 60.0).trunc(), seconds % 60.0)
}

#[expect(clippy::disallowed_methods, reason = "nothing here runs on tokio's clock")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(_: &Workspace) -> Result<()> {
        Ok(())
    }

    fn fails(_: &Workspace) -> Result<()> {
        bail!("on purpose")
    }

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
    fn all_steps_run_only_if_none_fails_or_it_keeps_going() {
        let workspace = Workspace::load(Vec::new(), Vec::new()).unwrap();
        let steps = [
            Step { name: "fmt", about: "", run: fails },
            Step { name: "docs", about: "", run: ok },
            Step { name: "deny", about: "", run: fails },
        ];

        let error = |keep_going| all(steps.iter(), &workspace, keep_going).unwrap_err().to_string();
        assert_eq!(error(false), "failed: fmt");
        assert_eq!(error(true), "failed: fmt, deny");
        all(steps[1..2].iter(), &workspace, false).unwrap();
    }

    #[test]
    fn of_commands_that_run_at_once_those_that_fail_or_take_too_long_are_named_and_the_others_end()
    {
        let folder = tempfile::tempdir().unwrap();
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).current_dir(&folder);
            command
        };
        let commands = ["exit 3", "echo end > first", "false", "echo end > last"];

        let run = |commands: &[&str], limit| {
            at_once(commands.iter().map(|script| shell(script)).collect(), limit)
        };

        let error = run(&commands, Duration::MAX).unwrap_err().to_string();
        assert!(error.contains("exit 3") && error.contains("false"), "{error}");
        assert_eq!(error.lines().count(), 2);
        assert!(folder.path().join("first").exists() && folder.path().join("last").exists());
        run(&[], Duration::MAX).unwrap();
        let error = run(&["exec sleep 60"], GLANCE).unwrap_err().to_string();
        assert!(error.contains("exec sleep 60") && error.contains("was killed"), "{error}");
    }
}
