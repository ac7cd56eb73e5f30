//! Tables for a reader, and JSON for a program.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use crate::{
    record::{BIN, PhaseRecord},
    run::Run,
    scenario::Scenario,
};

/// How many refusals of a phase a table names.
const NAMED: usize = 3;

/// Fleet and server, in a few words.
pub fn setting(scenario: &Scenario, seed: u64) -> String {
    let fleet = &scenario.fleet;
    format!(
        "{} clients make {} calls a second each, and wait {} for an answer; the server answers {} requests a second \
         with {} workers, and lets {} wait; seed {seed}",
        fleet.clients.get(),
        fleet.rate.get(),
        humantime::format_duration(fleet.patience.get()),
        scenario.capacity().round(),
        scenario.workers(),
        scenario.queue(),
    )
}

/// What the columns of the tables mean.
pub const LEGEND: &str = "\
goodput     calls answered while their caller still waited, of all that were made
attempts    requests that reached the server, for each call
wasted      requests that the server did for nobody, of all that it did
p50 …       how long the calls took that were answered
back        how long after the beginning of the phase at least 95 % of the calls of every second were good";

/// Every stack in every phase.
pub fn details(scenario: &Scenario, runs: &[Run]) -> Table {
    let mut table = plain(&[
        "stack",
        "phase",
        "goodput",
        "attempts",
        "wasted",
        "p50",
        "p99",
        "p99.9",
        "back at 95 %",
        "refused or given up",
    ]);
    for run in runs {
        for (n, phase) in reached(scenario, run) {
            let first = if n == 0 { run.stack.as_str() } else { "" };
            table.add_row([
                first.to_owned(),
                scenario.phases[n].name.clone(),
                goodput(phase),
                format!("{:.2}", phase.counts.attempts()),
                percent(phase.counts.waste()),
                latency(phase, 0.5),
                latency(phase, 0.99),
                latency(phase, 0.999),
                back(scenario, run, n).unwrap_or_default(),
                refusals(phase),
            ]);
        }
    }
    align(&mut table, 2..=8);
    table
}

/// A line for each stack: its goodput in each phase, and how soon it was back.
pub fn summary(scenario: &Scenario, runs: &[Run]) -> Table {
    let names = scenario.phases.iter().map(|phase| phase.name.as_str());
    let header: Vec<_> = std::iter::once("goodput").chain(names).collect();
    let mut table = plain(&header);
    for run in runs {
        let mut row = vec![run.stack.clone()];
        row.extend(reached(scenario, run).map(|(n, phase)| {
            let goodput = goodput(phase);
            back(scenario, run, n).map_or(goodput.clone(), |back| format!("{goodput}, back {back}"))
        }));
        row.resize(header.len(), "-".to_owned());
        table.add_row(row);
    }
    align(&mut table, 1..=header.len() - 1);
    table
}

/// All of it, for a program. The same scenario and seed give the same text.
pub fn json(name: &str, scenario: &Scenario, seed: u64, runs: &[Run]) -> Value {
    let fleet = &scenario.fleet;
    json!({
        "scenario": name,
        "about": scenario.about,
        "seed": seed,
        "fleet": {
            "clients": fleet.clients.get(),
            "calls_per_second_and_client": fleet.rate.get(),
            "patience_s": fleet.patience.get().as_secs_f64(),
            "duration_s": fleet.duration.get().as_secs_f64(),
        },
        "server": {
            "workers": scenario.workers(),
            "requests_per_second": scenario.capacity(),
            "queue": scenario.queue(),
        },
        "runs": runs.iter().map(|run| run_json(scenario, run)).collect::<Vec<_>>(),
    })
}

fn run_json(scenario: &Scenario, run: &Run) -> Value {
    let phases = reached(scenario, run).map(|(n, phase)| {
        let (bounds, counts) = (scenario.bounds(n), &phase.counts);
        let millis = |q| phase.latency_at(q).map(|time| time.as_secs_f64() * 1e3);
        let refusals = phase.refusals.iter();
        json!({
            "name": scenario.phases[n].name,
            "from_s": bounds.start.as_secs_f64(),
            "until_s": bounds.end.as_secs_f64(),
            "calls": counts.calls,
            "good": counts.good,
            "late": counts.late,
            "failed": counts.failed,
            "goodput": counts.goodput(),
            "attempts": counts.attempts,
            "attempts_per_call": counts.attempts(),
            "done_by_the_server": counts.done,
            "done_for_nobody": counts.wasted,
            "latency_ms": { "p50": millis(0.5), "p99": millis(0.99), "p99.9": millis(0.999) },
            "recovered_after_s": recovery(scenario, run, n).flatten().map(|time| time.as_secs_f64()),
            "refusals": refusals
                .map(|r| json!({ "by": r.by, "reason": r.reason, "calls": r.calls }))
                .collect::<Vec<_>>(),
        })
    });
    let bins = &run.record.bins;
    json!({
        "stack": run.stack,
        "simulated_s": run.until.as_secs_f64(),
        "phases": phases.collect::<Vec<_>>(),
        "timeline": {
            "step_s": BIN.as_secs_f64(),
            "calls": bins.iter().map(|bin| bin.calls).collect::<Vec<_>>(),
            "good": bins.iter().map(|bin| bin.good).collect::<Vec<_>>(),
            "attempts": bins.iter().map(|bin| bin.attempts).collect::<Vec<_>>(),
        },
    })
}

/// The phases that a run came to.
fn reached<'a>(
    scenario: &'a Scenario,
    run: &'a Run,
) -> impl Iterator<Item = (usize, &'a PhaseRecord)> {
    let phases = run.record.phases.iter().enumerate();
    phases.take_while(|(n, _)| scenario.bounds(*n).start < run.until)
}

/// How soon the phase was back at 95 %, where it is one to recover in; inside that, whether it ever was.
fn recovery(scenario: &Scenario, run: &Run, phase: usize) -> Option<Option<Duration>> {
    let to_recover = scenario.recoveries().any(|n| n == phase);
    // Without a call nothing can be told.
    let told = to_recover && run.record.phases[phase].counts.calls > 0;
    told.then(|| run.record.recovered_after(scenario.bounds(phase)))
}

fn back(scenario: &Scenario, run: &Run, phase: usize) -> Option<String> {
    let complete = scenario.bounds(phase).end <= run.until;
    recovery(scenario, run, phase).map(|after| match after {
        Some(time) => format!("in {:.1} s", time.as_secs_f64()),
        None if complete => format!("not in {:.0} s", length(scenario, phase).as_secs_f64()),
        None => "not yet".to_owned(),
    })
}

fn goodput(phase: &PhaseRecord) -> String {
    if phase.counts.calls == 0 { "-".to_owned() } else { percent(phase.counts.goodput()) }
}

fn length(scenario: &Scenario, phase: usize) -> Duration {
    let bounds = scenario.bounds(phase);
    bounds.end.saturating_sub(bounds.start)
}

fn refusals(phase: &PhaseRecord) -> String {
    let share = |calls: u64| calls as f64 / phase.counts.calls.max(1) as f64;
    let shares = phase.refusals.iter().map(|r| (share(r.calls), r));
    let told: Vec<_> = shares
        .take(NAMED)
        .filter(|(share, _)| *share >= 0.0005)
        .map(|(share, r)| format!("{} {}: {}", percent(share), r.by, r.reason))
        .collect();
    told.join(", ")
}

fn latency(phase: &PhaseRecord, q: f64) -> String {
    match phase.latency_at(q).map(|time| time.as_secs_f64()) {
        None => "-".to_owned(),
        Some(seconds) if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        Some(seconds) => format!("{seconds:.1} s"),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn plain(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header);
    table
}

fn align(table: &mut Table, columns: std::ops::RangeInclusive<usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}
