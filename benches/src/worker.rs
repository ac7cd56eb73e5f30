//! How the programs that measure speak to `bench`: what they find is a line of JSON each.

use std::{
    io::{self, Read, Write},
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    plan::Section,
    record::{Adaptive, Fault, Group, Load, Memory, Overhead},
};

/// What a worker says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// It begins with a section.
    Begin(Section),
    /// It has done this many seconds of the estimate.
    Done(f64),
    /// It was told to stop, and did.
    Stopped,
    /// A row.
    Overhead(Overhead),
    /// A row.
    Load(Load),
    /// A row.
    Fault(Fault),
    /// A row.
    Adaptive(Adaptive),
    /// A row.
    Memory(Memory),
    /// A group.
    Group(Group),
}

/// A worker's ways to speak and to listen.
#[derive(Debug)]
pub struct Worker {
    stopped: Arc<AtomicBool>,
    speaks: bool,
}

/// How long it may take to stop.
const PATIENCE: Duration = Duration::from_secs(30);

// === impl Worker ===

impl Worker {
    /// Speaks on the standard output, and stops when the standard input ends. What has not come to its end then is
    /// ended with the process, so that it never disturbs what is measured later.
    pub fn on_standard_streams() -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        thread::spawn(move || {
            let mut nothing = [0; 64];
            while io::stdin().read(&mut nothing).is_ok_and(|read| read > 0) {}
            stop.store(true, Ordering::Relaxed);
            thread::sleep(PATIENCE);
            eprintln!("told to stop, it went on for {PATIENCE:?}: ended");
            process::exit(1);
        });
        Self { stopped, speaks: true }
    }

    /// Says nothing.
    pub fn silent() -> Self {
        Self { stopped: Arc::default(), speaks: false }
    }

    /// Whether it should stop soon.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Tells it to stop.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Says something. If nobody listens any more, stops.
    pub fn emit(&self, event: &Event) {
        if !self.speaks {
            return;
        }
        let line = serde_json::to_string(event).expect("an event can be written as JSON");
        let mut out = io::stdout().lock();
        if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
            self.stop();
        }
    }
}
