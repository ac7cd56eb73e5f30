//! Measures what the layers and the pool cost on the pass path, beside their peers.

use std::{error::Error, fs, path::PathBuf, time::Duration};

use clap::Parser;
use stockade_benches::{
    catalogue, goals,
    machine::{self, Machine},
    measure::Effort,
    report,
};

/// Measures what the layers and the pool of stockade cost, beside their peers.
///
/// Cases that compare take turns in many short rounds. Only ratios, and only of one run, mean something.
#[derive(Debug, Parser)]
#[command(name = "pass_path")]
struct Options {
    /// Fewer rounds: a few seconds instead of about a minute.
    #[arg(long)]
    quick: bool,
    /// Only the cases whose `group/case` contains this, with those they are compared with.
    #[arg(long, value_name = "SUBSTR")]
    filter: Option<String>,
    /// Writes the figures to this file as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only says what would be measured.
    #[arg(long)]
    list: bool,
    /// What cargo passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let effort = if options.quick {
        Effort { rounds: 20, round: Duration::from_millis(3), long_rounds: 3 }
    } else {
        Effort { rounds: 80, round: Duration::from_millis(6), long_rounds: 9 }
    };
    let mut groups = catalogue::pass_path();
    if let Some(text) = &options.filter {
        groups.iter_mut().for_each(|group| group.filter(text));
        groups.retain(|group| !group.cases.is_empty());
    }
    let cases: usize = groups.iter().map(|group| group.cases.len()).sum();
    if options.list {
        for group in &groups {
            for case in &group.cases {
                println!("{}/{}", group.name, case.name());
            }
        }
        return Ok(());
    }

    let machine = Machine::look();
    println!(
        "{cases} cases in {} groups; within a group they take turns: {} rounds of about {:?} each.",
        groups.len(),
        effort.rounds,
        effort.round,
    );
    println!("`adds`: over the bare call. `ratio`: of ns a call, the median of all rounds.");
    println!(
        "{}; {} cores; load average {}{}",
        machine.rustc.as_deref().unwrap_or("rustc unknown"),
        machine.cores,
        machine.load.map_or_else(|| "unknown".to_owned(), |load| load.to_string()),
        if machine.is_busy() { ": the machine is BUSY, figures may be off" } else { "" },
    );
    let mut measured = Vec::new();
    for group in &groups {
        let done = group.run(effort);
        println!("\n## {}\n\n{}\n\n{}", done.name, done.about, report::table(&done));
        measured.push(done);
    }
    let goals = goals::pass_path(&measured);
    println!("\n## goals\n\n{}", report::goals(&goals));
    if let Some(load) = machine::load() {
        println!("\nload average at the end: {load}");
    }
    if let Some(file) = options.json {
        let json = report::json(&machine, &measured, &goals);
        fs::write(&file, format!("{json:#}\n"))?;
        println!("written to {}", file.display());
    }
    Ok(())
}
