//! Tables whose cells are shaded by their values, and which sort by a click on a header.

use maud::{Markup, html};

use crate::{
    faults::SCENARIOS,
    numbers::nanoseconds,
    record::{Clock, Run, inner},
    summary::count,
};

/// A column: its title, and for each stack a value, if there is one, with its text.
struct Column {
    title: String,
    about: &'static str,
    cells: Vec<Option<(f64, String)>>,
}

/// The 64 stacks.
pub(super) fn section(run: &Run) -> Markup {
    let loads = match run.usual(Clock::Virtual) {
        Some(load) => {
            format!(" Latencies are in milliseconds, at a load of {load}, in virtual time.")
        }
        None => String::new(),
    };
    html! {
        section #heatmap {
            h2 { "All stacks" }
            p {
                "A click on a header sorts, a tick draws the stack below." (loads)
                " Overhead is what a call takes over the bare service." }
            (table("stacks", run, &columns(run), true))
        }
    }
}

fn columns(run: &Run) -> Vec<Column> {
    let mut columns = Vec::new();
    let mut push =
        |title: &str, about: &'static str, cell: &dyn Fn(&str) -> Option<(f64, String)>| {
            let cells: Vec<_> = run.plan.stacks.iter().map(|stack| cell(stack)).collect();
            if cells.iter().any(Option::is_some) {
                columns.push(Column { title: title.to_owned(), about, cells });
            }
        };
    if let Some(load) = run.usual(Clock::Virtual) {
        let latency = |stack: &str| run.load(stack, Clock::Virtual, load)?.latency.clone();
        push("p50", "half of the calls are faster, ms", &|stack| ms(latency(stack)?.p50));
        push("p99", "99 of 100 calls are faster, ms", &|stack| ms(latency(stack)?.p99));
        push("p99.9", "999 of 1,000 calls are faster, ms", &|stack| ms(latency(stack)?.p999));
    }
    let row = |stack: &str, inner: &str, threads| run.overhead(stack, inner, threads);
    push("overhead", "over the bare service, which is ready; one thread", &|stack| {
        row(stack, inner::READY, 1).map(|row| (row.adds.mid, nanoseconds(row.adds.mid.max(0.0))))
    });
    push("x bare", "ratio to the bare service, which is ready; one thread", &|stack| {
        row(stack, inner::READY, 1).map(|row| (row.ratio.mid, format!("{:.1}", row.ratio.mid)))
    });
    push("pending", "over the bare service, which is pending once; one thread", &|stack| {
        row(stack, inner::PENDING, 1).map(|row| (row.adds.mid, nanoseconds(row.adds.mid.max(0.0))))
    });
    push("1 KiB", "over the bare service, with requests of 1 KiB; one thread", &|stack| {
        row(stack, inner::LARGE, 1).map(|row| (row.adds.mid, nanoseconds(row.adds.mid.max(0.0))))
    });
    if run.plan.threads > 1 {
        let title = format!("{} threads", run.plan.threads);
        push(&title, "over the bare service, shared by threads", &|stack| {
            row(stack, inner::READY, run.plan.threads)
                .map(|row| (row.adds.mid, nanoseconds(row.adds.mid.max(0.0))))
        });
    }
    push("allocs", "allocations a call", &|stack| {
        row(stack, inner::READY, 1).map(|row| (row.allocations, count(row.allocations)))
    });
    push("bytes", "bytes allocated a call", &|stack| {
        row(stack, inner::READY, 1).map(|row| (row.bytes, format!("{:.0}", row.bytes.max(0.0))))
    });
    let real = run.usual(Clock::Real);
    push("CPU", "processor time a call on the real clock, the load generator included", &|stack| {
        let ns = run.load(stack, Clock::Real, real?)?.cpu_ns?;
        Some((ns, nanoseconds(ns)))
    });
    columns
}

#[expect(clippy::unnecessary_wraps, reason = "a cell may be missing")]
fn ms(value: f64) -> Option<(f64, String)> {
    Some((value, format!("{value:.1}")))
}

/// Refusals by reason, at the highest load.
pub(super) fn refusals(run: &Run, clock: Clock) -> Markup {
    let columns: Vec<_> = run
        .offered(clock)
        .into_iter()
        .map(|load| Column {
            title: load.to_owned(),
            about: "calls refused, and by which layer",
            cells: run
                .plan
                .stacks
                .iter()
                .map(|stack| {
                    let row = run.load(stack, clock, load)?;
                    let refused: u64 = row.refused.values().sum::<u64>() + row.failed;
                    let part = 100.0 * refused as f64 / row.sent.max(1) as f64;
                    let mut text = format!("{part:.1} %");
                    let mut by: Vec<_> = row.refused.iter().collect();
                    by.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
                    if let Some((most, _)) = by.first() {
                        text = format!("{text} {most}");
                    }
                    Some((part, text))
                })
                .collect(),
        })
        .collect();
    html! {
        details {
            summary { "Refusals of all stacks, by load: the part of the calls, and which layer refused most of them" }
            (table("refusals", run, &columns, false))
        }
    }
}

/// How the stacks fared.
pub(super) fn faults(run: &Run) -> Markup {
    let mut columns = Vec::new();
    for scenario in SCENARIOS {
        let row = |stack: &str| {
            run.faults.iter().find(|row| row.stack == stack && row.scenario == scenario.name)
        };
        let stacks = run.plan.stacks.iter();
        columns.push(Column {
            title: format!("{}: amplification", scenario.name),
            about: "attempts that reach the service per request",
            cells: stacks
                .clone()
                .map(|s| row(s).map(|r| (r.amplification, format!("{:.2}", r.amplification))))
                .collect(),
        });
        columns.push(Column {
            title: format!("{}: recovery", scenario.name),
            about: "seconds until calls are answered in time again",
            cells: stacks
                .clone()
                .map(|s| {
                    let recovery = row(s)?.recovery;
                    Some(
                        recovery.map_or((100.0, "> 10 s".to_owned()), |r| (r, format!("{r:.2} s"))),
                    )
                })
                .collect(),
        });
        columns.push(Column {
            title: format!("{}: answered", scenario.name),
            about: "good answers in percent of all requests of the run",
            cells: stacks
                .map(|s| row(s).map(|r| (r.answered, format!("{:.1} %", r.answered))))
                .collect(),
        });
    }
    table("faulted", run, &columns, false)
}

fn table(id: &str, run: &Run, columns: &[Column], choose: bool) -> Markup {
    let shades: Vec<_> = columns.iter().map(|column| shade(&column.cells)).collect();
    html! {
        div.scroll {
            table.sortable.heat id=(id) {
                thead { tr {
                    (header("stack", false))
                    @for column in columns {
                        th scope="col" title=(column.about) {
                            button type="button" data-numeric { (column.title) }
                        }
                    }
                } }
                tbody {
                    @for (place, stack) in run.plan.stacks.iter().enumerate() {
                        tr data-stack=(stack) {
                            th scope="row" data-value=(place) {
                                @if choose {
                                    label { input type="checkbox" value=(stack); span { (name(stack)) } }
                                } @else { (name(stack)) }
                            }
                            @for (column, shade) in columns.iter().zip(&shades) {
                                @match &column.cells[place] {
                                    Some((value, text)) => { (cell(*value, text.clone(), shade[place])) }
                                    None => { td.missing data-value="" { "not measured" } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A name that can break at its plus signs.
fn name(stack: &str) -> Markup {
    html! {
        @for (place, part) in stack.split('+').enumerate() {
            @if place > 0 { "+" wbr; }
            (part)
        }
    }
}

/// A header that sorts.
pub(super) fn header(title: &str, numeric: bool) -> Markup {
    html! {
        th scope="col" { button type="button" data-numeric[numeric] { (title) } }
    }
}

/// A cell that sorts by `value`, with the shade of its place between the least and the most.
pub(super) fn cell(value: f64, text: String, shade: Option<f64>) -> Markup {
    html! {
        td data-value=(value) style=[shade.map(|shade| format!("--h:{shade:.2}"))] { (text) }
    }
}

/// Where each value lies between the least and the most, by their logarithm. Those that are all but equal look it:
/// the whole range of shades is for a factor of at least two.
fn shade(cells: &[Option<(f64, String)>]) -> Vec<Option<f64>> {
    let log = |value: f64| (value.max(0.0) + 0.1).ln();
    let values = || cells.iter().flatten().map(|(value, _)| log(*value));
    let (least, most) = (values().fold(f64::MAX, f64::min), values().fold(f64::MIN, f64::max));
    cells
        .iter()
        .map(|cell| {
            let (value, _) = cell.as_ref()?;
            Some((log(*value) - least) / (most - least).max(2f64.ln()))
        })
        .collect()
}
