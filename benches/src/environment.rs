//! What the figures were taken on.

use std::{
    env::{self, consts},
    fs,
    process::Command,
    thread,
};

use serde::{Deserialize, Serialize};

/// The machine, the compiler and the code.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// The processor.
    pub processor: String,
    /// How many threads can run at the same time.
    pub cores: usize,
    /// The operating system.
    pub system: String,
    /// What `rustc --version` says.
    pub compiler: String,
    /// The commit, and whether something was changed since.
    pub commit: String,
    /// The load average over the last minute, before the run.
    pub load_before: Option<f64>,
    /// The same after it, which the run itself has raised.
    pub load_after: Option<f64>,
    /// Whether others used so much of the machine that even ratios may be off.
    pub busy: bool,
}

/// What is said of a value that cannot be found.
const UNKNOWN: &str = "unknown";

// === impl Environment ===

impl Environment {
    /// Looks around.
    pub fn look() -> Self {
        let unknown = || UNKNOWN.to_owned();
        let (load, cores) = (load(), thread::available_parallelism().map_or(1, usize::from));
        Self {
            processor: processor().unwrap_or_else(unknown),
            cores,
            system: system(),
            busy: load.is_some_and(|load| load > cores as f64 / 2.0),
            load_before: load,
            load_after: None,
            commit: commit().unwrap_or_else(unknown),
            compiler: compiler().unwrap_or_else(unknown),
        }
    }

    /// Looks at the load once more.
    pub fn look_again(&mut self) {
        self.load_after = load();
    }

    /// The load averages, in words.
    pub fn loads(&self) -> String {
        let word =
            |load: Option<f64>| load.map_or_else(|| UNKNOWN.to_owned(), |l| format!("{l:.2}"));
        format!("{} before, {} after", word(self.load_before), word(self.load_after))
    }
}

/// The load average over the last minute.
fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// What `rustc --version` says.
pub fn compiler() -> Option<String> {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let output = Command::new(rustc).arg("--version").output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn system() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{} {} {}", consts::OS, consts::ARCH, release.trim()).trim().to_owned()
}

fn commit() -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changed.is_empty() { commit } else { format!("{commit}, with changes") })
}
