//! The two programs that measure: they are handed a plan, and write what they find, a line of JSON each.

use std::{
    io::{self, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use serde::{Deserialize, Serialize};

use super::{
    combo::Combo,
    faults, load, overhead, peers,
    plan::{Plan, Section},
    pools,
    record::{Clock, Fault, Group, Load, Overhead},
};

/// What a worker says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// It begins with a section.
    Begin(Section),
    /// It has done so many seconds of what was estimated.
    Done(f64),
    /// It was told to stop, and did.
    Stopped,
    /// A row.
    Overhead(Overhead),
    /// A row.
    Load(Load),
    /// A row.
    Fault(Fault),
    /// A group about the pool.
    Pool(Group),
    /// A group about peers.
    Peers(Group),
}

/// A worker's ways to speak and to hear.
#[derive(Debug)]
pub struct Worker {
    stopped: Arc<AtomicBool>,
    speaks: bool,
}

// === impl Worker ===

impl Worker {
    /// One that speaks on its standard output, and stops when its standard input ends.
    pub fn on_standard_streams() -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        thread::spawn(move || {
            let mut nothing = [0; 64];
            while io::stdin().read(&mut nothing).is_ok_and(|read| read > 0) {}
            stop.store(true, Ordering::Relaxed);
        });
        Self { stopped, speaks: true }
    }

    /// One that nobody hears.
    pub fn silent() -> Self {
        Self { stopped: Arc::default(), speaks: false }
    }

    /// Whether it is to stop soon.
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

    /// The stacks of a plan.
    ///
    /// # Panics
    ///
    /// If there is no stack of such a name, which whoever made the plan has looked at.
    pub fn combos(&self, plan: &Plan) -> Vec<Combo> {
        let known = |name: &String| name.parse().expect("the plan names stacks of the catalogue");
        plan.stacks.iter().map(known).collect()
    }

    /// Does what the plan says, as far as it is for a worker in virtual time, or in real time.
    #[inline]
    pub fn work(&self, plan: &Plan, clock: Clock) {
        let here = |section: &&Section| section.is_virtual() == (clock == Clock::Virtual);
        for section in plan.sections.iter().filter(here) {
            if self.is_stopped() {
                break;
            }
            self.emit(&Event::Begin(*section));
            match section {
                Section::Overhead => overhead::measure(plan, self),
                Section::Pool => pools::measure(plan, self),
                Section::Peers => peers::measure(plan, self),
                Section::Load | Section::Model => load::measure(plan, clock, self),
                Section::Faults => faults::measure(plan, self),
            }
        }
        if self.is_stopped() {
            self.emit(&Event::Stopped);
        }
    }
}

/// Does what the plan says that is the only argument.
///
/// # Panics
///
/// If it is none: nobody but `bench` starts a worker.
#[inline]
pub fn main(arguments: &[String], clock: Clock) {
    let [plan] = arguments else { panic!("this is started by `cargo xtask bench`") };
    let plan = serde_json::from_str(plan).expect("the plan is one");
    Worker::on_standard_streams().work(&plan, clock);
}
