//! The command as a user meets it.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

fn simulate(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_simulate"));
    command.current_dir(directory);
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

const SMALL: &[&str] = &["--clients", "2", "--duration", "20s", "--svg", "chart.svg"];

#[test]
fn a_run_prints_tables_and_writes_the_files_that_were_asked_for() {
    let directory = TempDir::new().unwrap();
    let mut command = simulate(directory.path());
    let output = command.args(SMALL).args(["--json", "out/figures.json"]).output().unwrap();

    assert!(output.status.success(), "{}", stderr(&output));
    let told = stdout(&output);
    for word in ["goodput", "recommended", "after the overload", "back in", "chart: chart.svg"] {
        assert!(told.contains(word), "{word:?} is not in:\n{told}");
    }
    assert!(stderr(&output).contains("recommended: 20 s, "), "{}", stderr(&output));
    let svg = fs::read_to_string(directory.path().join("chart.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    let json = fs::read_to_string(directory.path().join("out/figures.json")).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["runs"].as_array().unwrap().len(), 7);
    assert_eq!(json["fleet"]["clients"], 2);
}

#[test]
fn only_the_stacks_that_were_asked_for_run() {
    let directory = TempDir::new().unwrap();
    let mut command = simulate(directory.path());
    let output =
        command.args(SMALL).args(["--stack", "timeout", "--no-progress"]).output().unwrap();

    assert!(output.status.success());
    assert_eq!(stderr(&output), "");
    assert!(stdout(&output).contains("| timeout "));
    assert!(!stdout(&output).contains("| recommended "));
}

#[test]
fn the_scenarios_that_come_along_are_listed_and_printed() {
    let directory = TempDir::new().unwrap();
    let listed = simulate(directory.path()).arg("--list").output().unwrap();
    assert!(listed.status.success());

    for line in stdout(&listed).lines() {
        let name = line.split_whitespace().next().unwrap();
        let printed = simulate(directory.path()).args(["--print", name]).output().unwrap();
        let mine = directory.path().join("mine.toml");
        fs::write(&mine, printed.stdout).unwrap();
        let args = ["--clients", "1", "--duration", "1s", "--svg", "chart.svg", "mine.toml"];
        let output = simulate(directory.path()).args(args).output().unwrap();
        assert!(output.status.success(), "{name}: {}", stderr(&output));
    }
    assert!(stdout(&listed).lines().count() >= 3);
}

#[test]
fn a_mistake_ends_with_exit_code_2_and_its_line() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("mine.toml"), "\nabot = \"nothing\"\n").unwrap();
    let output = simulate(directory.path()).arg("mine.toml").output().unwrap();

    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).starts_with("error: mine.toml:2:1: unknown field `abot`"));
    assert_eq!(stdout(&output), "");
}

#[test]
fn what_is_not_there_ends_with_exit_code_2_and_the_names_of_what_is() {
    let directory = TempDir::new().unwrap();
    for (args, right) in [
        (["strom", "--no-progress"], "storm, brownout, tail, order"),
        (["--stack", "recomended"], "\"recommended\""),
        (["--clients", "-3"], "a whole number from 1 to 1000000"),
        (["--rate", "1e6"], "10000000 is the most"),
    ] {
        let output = simulate(directory.path()).args(args).output().unwrap();

        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(right), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn the_tables_are_printed_although_a_file_cannot_be_written() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("file"), "").unwrap();
    let args = ["--clients", "1", "--duration", "1s", "--svg", "file/chart.svg"];
    let output = simulate(directory.path()).args(args).output().unwrap();

    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("| recommended "));
    assert!(
        stderr(&output).contains("error: cannot write file/chart.svg: "),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_phase_without_a_call_has_no_goodput() {
    let directory = TempDir::new().unwrap();
    let args = ["--clients", "1", "--rate", "0.000001", "--stack", "timeout", "--svg", "chart.svg"];
    let output = simulate(directory.path()).args(args).output().unwrap();

    let summary =
        stdout(&output).lines().rfind(|line| line.starts_with("| timeout")).unwrap().to_owned();
    let cells: Vec<_> = summary.split('|').map(str::trim).collect();
    assert_eq!(cells, ["", "timeout", "-", "-", "-", "-", "-", ""]);
}

#[cfg(unix)]
#[test]
fn ctrl_c_shows_what_was_simulated_so_far() {
    use std::{
        io::{BufRead, BufReader, Read},
        process::Stdio,
    };

    let directory = TempDir::new().unwrap();
    let mut command = simulate(directory.path());
    command.args(["--clients", "20", "--svg", "chart.svg"]).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    // The first of seven runs is over.
    let mut first = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("no layers: 60 s, "), "{first}");
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());

    let mut told = String::new();
    child.stdout.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{told}");
    assert!(told.contains("| no layers "), "{told}");
    assert!(!told.contains("| recommended "), "{told}");
    assert!(told.contains("stopped by Ctrl-C"), "{told}");
    assert!(directory.path().join("chart.svg").is_file());
}
