//! The command line of `cargo xtask bench`, as a user meets it: exit codes, messages, files.

#![expect(clippy::unwrap_used, reason = "what helps a test fails as the test does")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};
#[cfg(feature = "virtual-time")]
use std::{process::Stdio, thread};

use tempfile::TempDir;

const BENCH: &str = env!("CARGO_BIN_EXE_bench");

/// Where the programs are that measure. Here they are built without optimization, which is enough.
fn workers() -> &'static Path {
    Path::new(BENCH).parent().unwrap()
}

fn bench(folder: &TempDir) -> Command {
    let mut bench = Command::new(BENCH);
    bench.arg("--directory").arg(folder.path()).arg("--workers").arg(workers());
    bench
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The message of a command that cannot be done as asked.
fn refused(folder: &TempDir, arguments: &[&str]) -> String {
    let Output { status, stderr, .. } = bench(folder).args(arguments).output().unwrap();
    assert_eq!(status.code(), Some(2), "{arguments:?}: {}", text(&stderr));
    text(&stderr)
}

#[test]
fn help_lists_every_command_and_option() {
    let output = Command::new(BENCH).arg("--help").output().unwrap();
    assert!(output.status.success());
    let help = text(&output.stdout);
    for word in ["list", "run", "peers", "save", "compare", "instr", "report"] {
        assert!(help.contains(&format!("\n  {word}")), "{word} is not in\n{help}");
    }
    for word in [
        "--quick",
        "--filter",
        "--layers",
        "--only",
        "--rate",
        "--duration",
        "--threads",
        "--seed",
        "--json",
        "--csv",
        "--no-progress",
    ] {
        assert!(help.contains(word), "{word} is not in\n{help}");
    }
}

#[test]
fn list_names_the_stacks_that_were_asked_for() {
    let folder = TempDir::new().unwrap();
    let list = |arguments: &[&str]| {
        let output = bench(&folder).arg("list").args(arguments).output().unwrap();
        assert!(output.status.success());
        text(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(list(&[]).len(), 64);
    assert_eq!(list(&["--layers", "retry,breaker"]), ["bare", "breaker", "retry", "retry+breaker"]);
    let newer = list(&["--layers", "hedge,retry"]);
    assert_eq!(newer, ["bare", "retry", "hedge", "retry+hedge"]);
    assert_eq!(list(&["--layers", "keyed,limit"]), ["bare", "limit", "keyed", "keyed+limit"]);
    assert_eq!(list(&["--filter", "^pool\\+rate$"]), ["bare", "pool+rate"]);
}

#[test]
fn what_cannot_be_done_is_named_with_what_would_have_been_right() {
    let folder = TempDir::new().unwrap();
    for (arguments, words) in [
        (&["--filter", "("] as &[&str], &["unclosed group", "^pool"] as &[&str]),
        (&["--layers", "braker"], &["braker", "breaker, rate, limit, timeout"]),
        (&["--only", "latency"], &["latency", "overhead, layers, tasks"]),
        (&["peers", "--only", "model"], &["nothing to do", "layers, tasks, pool, memory"]),
        (&["--rate", "0"], &["0", "80%"]),
        (&["compare", "a", "b"], &["no run \"a\"", "there is none yet"]),
        (&["report", "nothing"], &["no run \"nothing\"", "save NAME"]),
        (&["save", "a/b"], &["a/b", "letters"]),
        (&["save", "last"], &["last"]),
        (&["instr", "--budget", "/nowhere"], &["/nowhere", "--bless"]),
    ] {
        let message = refused(&folder, arguments);
        for word in words {
            assert!(message.contains(word), "{arguments:?}: {message}");
        }
    }
}

#[test]
fn without_valgrind_instr_says_how_to_get_it() {
    let folder = TempDir::new().unwrap();
    let budget = folder.path().join("budget.json");
    fs::write(&budget, r#"{"compiler":"","stacks":{}}"#).unwrap();
    let output = bench(&folder)
        .args(["instr", "--budget"])
        .arg(budget)
        .env("PATH", folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("apt-get install valgrind"), "{output:?}");
}

/// Few stacks, little time.
#[cfg(feature = "virtual-time")]
const LITTLE: [&str; 10] = [
    "--quick",
    "--layers",
    "limit",
    "--only",
    "overhead,load,model,faults",
    "--duration",
    "100ms",
    "--no-progress",
    "--seed",
    "7",
];

#[cfg(feature = "virtual-time")]
#[test]
fn a_run_is_kept_shown_and_compared() {
    let folder = TempDir::new().unwrap();
    let (json, csv) = (folder.path().join("out.txt"), folder.path().join("out.csv"));
    let output = bench(&folder)
        .args(["save", "one"])
        .args(LITTLE)
        .arg("--json")
        .arg(&json)
        .arg("--csv")
        .arg(&csv)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let summary = text(&output.stdout);
    assert!(summary.contains("2 of 64 stacks") && summary.contains("62 of 64"), "{summary}");
    assert!(summary.contains("seed 7"), "{summary}");

    let run: serde_json::Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(run["overhead"].as_array().unwrap().len(), 2 * 3 * 2);
    assert_eq!(run["load"].as_array().unwrap().len(), 2 * (1 + 4));
    assert_eq!(run["faults"].as_array().unwrap().len(), 2 * 3);
    assert!(run["memory"].as_array().unwrap().is_empty() && summary.contains("only these parts"));
    assert_eq!(fs::read_to_string(csv).unwrap().lines().count(), 1 + 2);
    assert!(folder.path().join("report.html").is_file());

    let message = refused(&folder, &["compare", "one", "two"]);
    assert!(message.contains("no run \"two\"") && message.contains("last, one"), "{message}");

    let compare = |base: &str, new: &str| {
        bench(&folder).args(["compare", base, new, "--fail-over", "5%"]).output().unwrap()
    };
    let same = compare("one", "last");
    assert!(same.status.success(), "{same:?}");
    assert!(text(&same.stdout).contains("no regression over 5 %"), "{same:?}");

    let path = folder.path().join("one.json");
    let mut dearer: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    for row in dearer["overhead"].as_array_mut().unwrap() {
        for bound in ["low", "mid", "high"] {
            row["ratio"][bound] = (row["ratio"][bound].as_f64().unwrap() * 100.0).into();
        }
    }
    fs::write(folder.path().join("dear.json"), dearer.to_string()).unwrap();
    let regressed = compare("one", "dear");
    assert_eq!(regressed.status.code(), Some(1), "{regressed:?}");
    assert!(text(&regressed.stdout).contains("regressions over 5 %"), "{regressed:?}");
}

#[cfg(feature = "virtual-time")]
#[test]
fn an_interrupted_run_is_kept_and_says_so() {
    let folder = TempDir::new().unwrap();
    let mut child = bench(&folder)
        .args(["--layers", "limit,rate,retry", "--duration", "1h"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It says when it begins to measure; from then on it can be interrupted.
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().contains("overhead")));
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let rest = thread::spawn(move || lines.count());
    let status = child.wait().unwrap();
    rest.join().unwrap();
    assert!(status.success(), "{status}");

    let kept = fs::read_to_string(folder.path().join("last.json")).unwrap();
    let run: serde_json::Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(run["partial"], true);
    let page = fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(page.contains("Partial."));
}

#[test]
fn the_readme_is_held_against_the_results() {
    let folder = TempDir::new().unwrap();
    let readme = folder.path().join("README.md");
    fs::write(&readme, "# Without markers\n").unwrap();
    let output = bench(&folder).args(["readme", "--readme"]).arg(&readme).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("headline: begin"), "{output:?}");

    let begin = "<!-- headline: begin; written by `cargo xtask readme` -->";
    fs::write(&readme, format!("above\n{begin}\n<!-- headline: end -->\nbelow\n")).unwrap();
    let run = |check: &[&str]| {
        bench(&folder)
            .args(["readme", "--readme"])
            .arg(&readme)
            .args(check)
            .status()
            .unwrap()
            .code()
    };
    assert_eq!(run(&["--check"]), Some(1));
    assert_eq!(run(&[]), Some(0));
    assert_eq!(run(&["--check"]), Some(0));
    let written = fs::read_to_string(&readme).unwrap();
    assert!(written.starts_with("above\n") && written.ends_with("\nbelow\n"));
    assert!(written.contains("| `bare` |"), "{written}");
}
