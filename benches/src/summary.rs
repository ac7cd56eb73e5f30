//! The essentials, for those who never open the report.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};

use crate::{
    combo::Combo,
    numbers::{Interval, nanoseconds},
    plan::Section,
    record::{Clock, Group, Run, inner},
};

/// Short enough for a terminal.
pub fn text(run: &Run) -> String {
    let mut text = String::new();
    let env = &run.environment;
    let _ = writeln!(
        text,
        "\n{} on {} cores; {}; commit {}; seed {}; load average {}",
        env.processor,
        env.cores,
        env.compiler,
        env.commit,
        run.plan.seed,
        env.loads()
    );
    if env.busy {
        let _ = writeln!(text, "the machine was BUSY: figures, and even ratios, may be off");
    }
    let _ = writeln!(
        text,
        "{} in {:.0} s{}",
        if run.plan.sections.contains(&Section::Overhead) {
            run.plan.extent()
        } else {
            "peers alone".to_owned()
        },
        run.took,
        if run.partial { ", PARTIAL" } else { "" },
    );
    for note in &run.notes {
        let _ = writeln!(text, "note: {note}");
    }
    if !run.overhead.is_empty() {
        let _ = write!(text, "\na call, one layer more at each step\n{}\n", steps(run));
    }
    for group in &run.groups {
        let _ = write!(text, "\n{}", side_by_side(group));
    }
    if !run.goals().is_empty() {
        let _ = write!(text, "\ngoals\n{}\n", goals(run));
    }
    if let Some(offered) = run.usual(Clock::Virtual) {
        let _ = write!(
            text,
            "\nat {offered} of the capacity, in virtual time\n{}\n",
            loads(run, offered)
        );
    }
    text
}

/// The promises, and whether they are kept.
pub fn goals(run: &Run) -> Table {
    let mut table = table(["measured", "what", "found", "at most", "met"]);
    for (group, goal) in run.goals() {
        let met = if goal.is_met() { "yes" } else { "NO" };
        let figure = |value: f64| format!("{value:.2}");
        table.add_row([group, &goal.text, &figure(goal.found), &figure(goal.most), met]);
    }
    table
}

fn steps(run: &Run) -> Table {
    let threads = run.plan.threads;
    let shared = format!("{threads} threads");
    let mut table = table([
        "stack",
        "ready",
        "x bare",
        "95 %",
        "pending once",
        "1 KiB",
        &shared,
        "allocations",
        "bytes",
    ]);
    for combo in Combo::steps() {
        let name = combo.to_string();
        let Some(row) = run.overhead(&name, inner::READY, 1) else { continue };
        let ns = |inner, threads| {
            let row = run.overhead(&name, inner, threads);
            row.map_or_else(String::new, |row| nanoseconds(row.ns.mid))
        };
        table.add_row([
            name.clone(),
            nanoseconds(row.ns.mid),
            format!("{:.1}", row.ratio.mid),
            bounds(row.ratio),
            ns(inner::PENDING, 1),
            ns(inner::LARGE, 1),
            ns(inner::READY, threads),
            count(row.allocations),
            count(row.bytes),
        ]);
    }
    right(table)
}

/// A group in a line.
pub fn side_by_side(group: &Group) -> String {
    let first = group.cases.first().map_or("", |case| case.name.as_str());
    let mut line = format!("{}: ", group.name);
    for (place, case) in group.cases.iter().enumerate() {
        let _ = if place == 0 {
            write!(line, "{first} {} a {}", nanoseconds(case.ns.mid), group.per)
        } else {
            let ratio = case.ratio;
            write!(line, "; {} x{:.2} [{}]", case.name, ratio.mid, bounds(ratio))
        };
    }
    line
}

fn loads(run: &Run, offered: &str) -> Table {
    let mut table =
        table(["stack", "p50 ms", "p90", "p99", "p99.9", "max", "good answers", "refused"]);
    for combo in Combo::steps() {
        let name = combo.to_string();
        let Some(row) = run.load(&name, Clock::Virtual, offered) else { continue };
        let latency = row.latency.clone().unwrap_or_default();
        table.add_row([
            name,
            format!("{:.1}", latency.p50),
            format!("{:.1}", latency.p90),
            format!("{:.1}", latency.p99),
            format!("{:.1}", latency.p999),
            format!("{:.1}", latency.max),
            format!("{:.2} %", 100.0 * row.answered as f64 / row.sent as f64),
            row.refused.values().sum::<u64>().to_string(),
        ]);
    }
    right(table)
}

/// The bounds of an interval.
pub fn bounds(interval: Interval) -> String {
    format!("{:.2} to {:.2}", interval.low, interval.high)
}

/// A count that is whole in all but a few calls.
pub fn count(value: f64) -> String {
    let rounded = (value * 100.0).round() / 100.0;
    format!("{}", rounded.max(0.0))
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header);
    table
}

fn right(mut table: Table) -> Table {
    for column in 1..table.column_count() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A line for each stack, a column for each figure.
pub fn csv(run: &Run) -> String {
    let mut columns = vec!["stack".to_owned()];
    let threads: &[usize] = if run.plan.threads == 1 { &[1] } else { &[1, run.plan.threads] };
    for inner in inner::ALL {
        for threads in threads {
            for figure in ["ns", "ratio", "ratio low", "ratio high", "allocations", "bytes"] {
                columns.push(format!("{inner} {threads} {figure}"));
            }
        }
    }
    let clocks = [(Clock::Virtual, "virtual"), (Clock::Real, "real")];
    for (clock, name) in clocks {
        for offered in run.offered(clock) {
            for figure in [
                "p50 ms",
                "p90 ms",
                "p99 ms",
                "p99.9 ms",
                "p99.99 ms",
                "max ms",
                "goodput",
                "refused",
            ] {
                columns.push(format!("{name} {offered} {figure}"));
            }
        }
    }
    let mut text = columns.join(",") + "\n";
    for stack in &run.plan.stacks {
        let mut cells = vec![stack.clone()];
        for inner in inner::ALL {
            for threads in threads {
                let row = run.overhead(stack, inner, *threads);
                let figures = row.map(|row| {
                    let r = row.ratio;
                    [row.ns.mid, r.mid, r.low, r.high, row.allocations, row.bytes]
                });
                cells.extend(
                    figures.map_or([const { String::new() }; 6], |f| f.map(|f| f.to_string())),
                );
            }
        }
        for (clock, _) in clocks {
            for offered in run.offered(clock) {
                let figures = run.load(stack, clock, offered).map(|row| {
                    let l = row.latency.clone().unwrap_or_default();
                    let refused = row.refused.values().sum::<u64>() as f64;
                    [l.p50, l.p90, l.p99, l.p999, l.p9999, l.max, row.goodput, refused]
                });
                cells.extend(
                    figures.map_or([const { String::new() }; 8], |f| f.map(|f| f.to_string())),
                );
            }
        }
        text += &(cells.join(",") + "\n");
    }
    text
}
