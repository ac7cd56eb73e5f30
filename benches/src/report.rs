//! Tables for a reader, and JSON for a program.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use crate::{
    goals::Goal,
    machine::Machine,
    measure::{Measured, Row, Spread},
};

/// The table of a group.
pub fn table(measured: &Measured) -> Table {
    let mut table = plain([
        "case",
        "ns a call",
        "adds",
        "against",
        "ratio",
        "quartiles",
        "ratio of adds",
        "allocations",
    ]);
    for row in &measured.rows {
        let ratio = measured.ratio(row);
        table.add_row([
            row.name.to_owned(),
            cell(row.ns(), 1),
            cell(measured.adds(row), 1),
            row.peer.unwrap_or_default().to_owned(),
            cell(ratio, 2),
            ratio
                .map_or_else(String::new, |ratio| format!("{:.2} to {:.2}", ratio.low, ratio.high)),
            cell(measured.ratio_of_adds(row), 2),
            allocations(row),
        ]);
    }
    for column in [1, 2, 4, 5, 6, 7] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The table of the goals.
pub fn goals(goals: &[Goal]) -> Table {
    let mut table = plain(["goal", "found", "met"]);
    for goal in goals {
        let met = match goal.met {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "not measured",
        };
        table.add_row([&goal.text, &goal.found, met]);
    }
    table
}

/// All of it, for a program.
pub fn json(machine: &Machine, measured: &[Measured], goals: &[Goal]) -> Value {
    let groups: Vec<_> = measured
        .iter()
        .map(|group| {
            let cases: Vec<_> = group.rows.iter().map(|row| case(group, row)).collect();
            json!({ "name": group.name, "about": group.about, "cases": cases })
        })
        .collect();
    let goals: Vec<_> = goals
        .iter()
        .map(|goal| json!({ "goal": goal.text, "found": goal.found, "met": goal.met }))
        .collect();
    json!({
        "rustc": machine.rustc,
        "cores": machine.cores,
        "load": machine.load,
        "groups": groups,
        "goals": goals,
    })
}

fn case(group: &Measured, row: &Row) -> Value {
    json!({
        "name": row.name,
        "ns": spread(row.ns()),
        "adds": spread(group.adds(row)),
        "peer": row.peer,
        "ratio": spread(group.ratio(row)),
        "ratio_of_adds": spread(group.ratio_of_adds(row)),
        "allocations": row.allocations,
        "calls_a_round": row.calls,
        "rounds": row.rounds.len(),
    })
}

fn spread(spread: Option<Spread>) -> Value {
    match spread {
        Some(Spread { low, median, high }) => json!({ "q1": low, "median": median, "q3": high }),
        None => Value::Null,
    }
}

fn plain<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header);
    table
}

fn cell(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or_else(String::new, |spread| format!("{:.digits$}", spread.median))
}

fn allocations(row: &Row) -> String {
    if row.allocations.fract() == 0.0 {
        format!("{:.0}", row.allocations)
    } else {
        format!("{:.4}", row.allocations)
    }
}
