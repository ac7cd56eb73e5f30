//! What the figures were taken on.

use std::{env, fs, process::Command, thread};

/// The machine and the compiler, as far as they can be told.
#[derive(Clone, Debug)]
pub struct Machine {
    /// How many threads can run at the same time.
    pub cores: usize,
    /// The load average over the last minute, where there is one.
    pub load: Option<f64>,
    /// What `rustc --version` says.
    pub rustc: Option<String>,
}

// === impl Machine ===

impl Machine {
    /// Looks at this machine.
    pub fn look() -> Self {
        let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
        Self {
            cores: thread::available_parallelism().map_or(1, usize::from),
            load: load(),
            rustc: Command::new(rustc)
                .arg("--version")
                .output()
                .ok()
                .and_then(|output| String::from_utf8(output.stdout).ok())
                .map(|version| version.trim().to_owned()),
        }
    }

    /// Whether others use so much of the machine that figures, and even ratios, may be off.
    pub fn is_busy(&self) -> bool {
        self.load.is_some_and(|load| load > self.cores as f64 / 2.0)
    }
}

/// The load average over the last minute.
pub fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}
