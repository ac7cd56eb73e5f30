//! The programs `measure` and `model`, which `bench` starts: they carry out a plan, as far as it is for their clock.

use std::{
    env,
    process::{Command, Stdio},
};

use crate::{
    adaptive, faults, layers, load, memory, overhead,
    plan::{Plan, Section},
    pools,
    record::Clock,
    tasks, turns,
    worker::{Event, Worker},
};

/// Carries out the plan that is the only argument, or goes through one peak of memory.
///
/// # Panics
///
/// If the arguments are anything else: only `bench` starts this.
#[inline]
pub fn main(clock: Clock) {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["--memory", name] => {
            let memory = serde_json::to_string(&memory::peak(name));
            println!("{}", memory.expect("it can be written as JSON"));
        }
        [plan] => {
            let plan = serde_json::from_str(plan).expect("the argument is a plan");
            work(&plan, clock, &Worker::on_standard_streams());
        }
        _ => panic!("this is started by `cargo xtask bench`"),
    }
}

#[inline]
fn work(plan: &Plan, clock: Clock, worker: &Worker) {
    let here = |section: &Section| section.is_virtual() == (clock == Clock::Virtual);
    for section in plan.sections.iter().copied().filter(here) {
        if worker.is_stopped() {
            break;
        }
        worker.emit(&Event::Begin(section));
        match section {
            Section::Overhead => overhead::measure(plan, worker),
            Section::Layers => {
                turns::measure(layers::groups(plan.threads), plan, section, worker);
            }
            Section::Tasks => turns::measure(tasks::groups(plan.threads), plan, section, worker),
            Section::Pool => turns::measure(pools::groups(plan.threads), plan, section, worker),
            Section::Memory => peaks(plan, worker),
            Section::Load | Section::Model => load::measure(plan, clock, worker),
            Section::Faults => faults::measure(plan, worker),
            Section::Adaptive => adaptive::measure(plan, worker),
        }
    }
    if worker.is_stopped() {
        worker.emit(&Event::Stopped);
    }
}

fn peaks(plan: &Plan, worker: &Worker) {
    for name in memory::PEAKS.iter().take_while(|_| !worker.is_stopped()) {
        let program = env::current_exe().expect("a program knows where it is");
        let output =
            Command::new(program).args(["--memory", name]).stderr(Stdio::inherit()).output();
        let output = output.expect("a program can start itself").stdout;
        let memory = serde_json::from_slice(&output).expect("it says what it found");
        worker.emit(&Event::Memory(memory));
        worker.emit(&Event::Done(plan.estimate(Section::Memory) / memory::PEAKS.len() as f64));
    }
}
