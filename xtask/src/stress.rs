//! Runs the tests that use real time, processes or servers again and again, on a machine that is kept busy.
//!
//! A package lists the targets with such tests in its manifest, each with parts of the tests' names, or with nothing
//! for all of its tests:
//!
//! ```toml
//! [package.metadata.stress]
//! processes = []
//! ```

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    hint::black_box,
    path::Path,
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, available_parallelism},
    time::Duration,
};

use anyhow::{Result, bail, ensure};

use crate::{
    binaries,
    run::GLANCE,
    steps,
    workspace::{Workspace, table},
};

/// The longest that one run of a test binary may take.
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// Runs the listed tests of the selected packages `times` times each.
///
/// # Errors
///
/// If a test fails, or on Ctrl-C.
pub(crate) fn run(workspace: &Workspace, times: u32) -> Result<()> {
    let mut binaries = Vec::new();
    for binary in binaries::build(workspace)? {
        if let Some(tests) = table(binary.package, "stress")?.remove(&binary.target) {
            binaries.push((binary, tests));
        }
    }
    // From here on, Ctrl-C ends the loop below, so that everything is cleaned up.
    let stop = Arc::new(AtomicBool::new(false));
    #[cfg(unix)]
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    // A test that is killed leaves the data of its servers in here.
    let scratch = tempfile::Builder::new().prefix("stockade-stress-").tempdir()?;
    #[cfg(unix)] // PostgreSQL has to get in under another account than root's.
    fs::set_permissions(scratch.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    (0..2 * available_parallelism()?.get()).for_each(|_| drop(thread::spawn(keep_busy)));

    // How often each test ran and failed.
    let mut tallies = BTreeMap::new();
    for round in 1..=times {
        println!("round {round} of {times}");
        for (binary, tests) in &binaries {
            let mut command = binary.command();
            let run = run_once(command.args(tests), scratch.path(), &stop)?;
            for (test, passed) in run {
                let test = format!("{} {}::{test}", binary.package.name, binary.target);
                let (runs, failures) = tallies.entry(test).or_insert((0, 0));
                *runs += 1;
                *failures += u32::from(!passed);
            }
        }
    }
    for (test, (runs, failures)) in &tallies {
        println!("{runs:>5} runs {failures:>5} failures  {test}");
    }
    steps::print_left_out(workspace)?;
    let failed = tallies.values().filter(|(_, failures)| *failures > 0).count();
    ensure!(failed == 0, "{failed} of {} tests failed", tallies.len());
    Ok(())
}

/// Runs a test binary, prints what it says if it fails, and returns its tests and whether they passed.
fn run_once(
    command: &mut Command,
    scratch: &Path,
    stop: &AtomicBool,
) -> Result<Vec<(String, bool)>> {
    let (output, errors) = (scratch.join("output"), scratch.join("errors"));
    command.stdout(File::create(&output)?).stderr(File::create(&errors)?).env("TMPDIR", scratch);
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    let passed = wait(command, stop)?;
    let output = fs::read_to_string(output)?;
    let mut results = results(&output);
    if !passed {
        println!("{output}{}", fs::read_to_string(errors)?);
        if results.iter().all(|&(_, passed)| passed) {
            results.push(("(killed or aborted)".to_owned(), false));
        }
    }
    Ok(results)
}

/// Whether `command` ends well within [`LIMIT`]. Kills it and all its children when the time is over, or to `stop`.
fn wait(command: &mut Command, stop: &AtomicBool) -> Result<bool> {
    let mut child = command.spawn()?;
    for _ in 0..LIMIT.as_millis() / GLANCE.as_millis() {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if stop.load(Relaxed) {
            kill(&mut child)?;
            bail!("interrupted");
        }
        thread::sleep(GLANCE);
    }
    kill(&mut child)?;
    Ok(false)
}

fn kill(child: &mut Child) -> Result<()> {
    #[cfg(unix)]
    if let Some(group) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL)?;
    }
    child.kill()?;
    child.wait()?;
    // PostgreSQL has processes outside of the group, which end when they notice that the first one is gone.
    thread::sleep(10 * GLANCE);
    Ok(())
}

/// The tests in the output of a test binary, and whether they passed.
fn results(output: &str) -> Vec<(String, bool)> {
    let result = |line: &str| {
        let (test, result) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
        matches!(result, "ok" | "FAILED").then(|| (test.to_owned(), result == "ok"))
    };
    output.lines().filter_map(result).collect()
}

/// Computes and allocates for ever, as a compiler does.
fn keep_busy() {
    loop {
        let map: HashMap<_, _> = (0..10_000_u32).map(|n| (format!("{n:x}"), n)).collect();
        black_box(map);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_from_the_output_of_a_test_binary() {
        let output = "running 3 tests\ntest a::b ... ok\ntest c - should panic ... ok\ntest d ... FAILED\n\
                      test e ... ignored\n\nfailures:\ntest result: FAILED. 2 passed; 1 failed\n";

        let expected = [("a::b", true), ("c - should panic", true), ("d", false)];
        assert_eq!(results(output), expected.map(|(test, passed)| (test.to_owned(), passed)));
    }

    #[test]
    #[cfg(unix)]
    fn a_stopped_run_leaves_no_process_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & echo $! > pid; wait"]).current_dir(folder.path());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let stop = AtomicBool::new(false);

        let error = thread::scope(|scope| {
            let run = scope.spawn(|| wait(&mut command, &stop).unwrap_err().to_string());
            let pid = folder.path().join("pid");
            while !fs::read_to_string(&pid).is_ok_and(|pid| pid.ends_with('\n')) {
                thread::sleep(GLANCE);
            }
            stop.store(true, Relaxed);
            run.join().unwrap()
        });

        assert_eq!(error, "interrupted");
        let pid = fs::read_to_string(folder.path().join("pid")).unwrap();
        // It may wait as a zombie for init, which is nothing that runs.
        let state = Command::new("ps").args(["-o", "stat=", "-p", pid.trim()]).output().unwrap();
        let state = String::from_utf8(state.stdout).unwrap();
        assert!(state.is_empty() || state.starts_with('Z'), "{pid} still runs: {state}");
    }
}
