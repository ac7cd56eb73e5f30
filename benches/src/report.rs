//! The report: one HTML file that needs nothing else, neither a network nor a server.

mod adaptive;
mod heatmap;
mod peers;
mod plots;
mod svg;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use self::plots::Series;
use crate::{
    combo::Combo,
    compare::Comparison,
    faults::SCENARIOS,
    record::{Clock, Run},
};

/// The stacks that are drawn before anybody has chosen.
fn chosen(run: &Run) -> Vec<&str> {
    let wanted = [
        "bare".to_owned(),
        "limit".to_owned(),
        "retry+timeout".to_owned(),
        "retry+breaker+rate+limit+timeout".to_owned(),
        Combo::FULL.to_string(),
    ];
    let stacks = run.plan.stacks.iter().map(String::as_str);
    let found: Vec<_> = stacks.clone().filter(|name| wanted.iter().any(|w| w == name)).collect();
    if found.len() > 1 { found } else { stacks.take(4).collect() }
}

/// Draws a run, and beside it the difference to an older one.
pub fn page(run: &Run, against: Option<&Run>) -> String {
    let chosen = chosen(run);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Stockade: what every combination costs" }
                link rel="icon" href="data:,";
                style { (PreEscaped(include_str!("report/style.css"))) }
            }
            body data-chosen=(chosen.join(" ")) {
                header {
                    p.kicker { "Stockade benchmark" }
                    h1 { "What every combination costs" }
                    p.lead {
                        (run.plan.extent()) ": every subset of timeout, limit, rate, "
                        "breaker and retry, with and without the pool in front."
                    }
                    (contents(run, against.is_some()))
                }
                main {
                    (summary(run))
                    (heatmap::section(run))
                    (curves(run))
                    (waterfall(run))
                    (offered(run))
                    (peers::section(run))
                    (faults(run))
                    (adaptive::section(run))
                    (difference(run, against))
                }
                footer { p { "Drawn by " code { "cargo xtask bench report" } "." } }
                script { (PreEscaped(include_str!("report/script.js"))) }
            }
        }
    }
    .into_string()
}

fn contents(run: &Run, difference: bool) -> Markup {
    let links = [
        ("summary", "Summary", true),
        ("heatmap", "All stacks", true),
        ("curves", "Percentiles", !run.load.is_empty()),
        ("waterfall", "Layer by layer", !run.overhead.is_empty()),
        ("offered", "Load", !run.load.is_empty()),
        ("peers", "Peers", !run.groups.is_empty()),
        ("faults", "Faults", !run.faults.is_empty()),
        ("adaptive", "Adaptive limits", !run.adaptive.is_empty()),
        ("difference", "Difference", difference),
    ];
    html! {
        nav aria-label="Contents" {
            @for (id, title, _) in links.into_iter().filter(|(.., there)| *there) {
                a href={ "#" (id) } { (title) }
            }
        }
    }
}

// === sections ===

fn summary(run: &Run) -> Markup {
    let env = &run.environment;
    let facts = [
        ("machine", format!("{}, {} cores", env.processor, env.cores)),
        ("system", env.system.clone()),
        ("compiler", env.compiler.clone()),
        ("commit", env.commit.clone()),
        (
            "measured",
            format!(
                "{}, in {:.0} s{}",
                run.began,
                run.took,
                if run.plan.quick { ", quick" } else { "" }
            ),
        ),
        ("seed", run.plan.seed.to_string()),
        ("load average", env.loads()),
    ];
    html! {
        section #summary {
            h2 { "Summary" }
            @if run.partial {
                p.warning { strong { "Partial." } " The run was interrupted; what is missing was not measured." }
            }
            @if env.busy {
                p.warning { strong { "Busy machine." } " Others used it at the same time: figures, and even ratios, may be off." }
            }
            (tiles(run))
            dl.facts {
                @for (name, value) in facts { div { dt { (name) } dd { (value) } } }
            }
            @if !run.notes.is_empty() {
                ul.notes { @for note in &run.notes { li { (note) } } }
            }
            p.small {
                "Only ratios carry over to another machine. Cases that compare take turns, A B A B; a figure is a median, and a "
                "range its 95 % bootstrap interval."
            }
        }
    }
}

/// The few figures that most people come for.
fn tiles(run: &Run) -> Markup {
    use crate::{numbers::nanoseconds, record::inner, summary::count};
    let five = Combo { pool: false, ..Combo::FULL }.to_string();
    let of = |stack: &str| run.overhead(stack, inner::READY, 1);
    let mut tiles = Vec::new();
    if let Some(row) = of(&five) {
        tiles.push((nanoseconds(row.adds.mid), "five layers add to a call"));
        tiles.push((count(row.allocations), "allocations a call through five layers"));
    }
    if let Some(row) = of("pool") {
        tiles.push((nanoseconds(row.ns.mid), "a round trip through the pool"));
    }
    if let Some(offered) = run.usual(Clock::Virtual)
        && let Some(latency) =
            run.load(&five, Clock::Virtual, offered).and_then(|l| l.latency.as_ref())
    {
        tiles.push((
            format!("{:.0} ms", latency.p99),
            "p99 through five layers under the usual load",
        ));
    }
    html! {
        div.tiles {
            @for (figure, about) in tiles {
                div.tile { span.figure { (figure) } span.about { (about) } }
            }
        }
    }
}

fn curves(run: &Run) -> Markup {
    let clocks = [(Clock::Virtual, "virtual time"), (Clock::Real, "real clock")];
    let all: Vec<_> = clocks
        .into_iter()
        .flat_map(|(clock, name)| {
            run.offered(clock).into_iter().map(move |load| (clock, name, load))
        })
        .collect();
    if all.is_empty() {
        return html! {};
    }
    let usual = run.usual(Clock::Virtual).or_else(|| run.usual(Clock::Real)).unwrap_or_default();
    let first = all.iter().position(|(.., load)| *load == usual).unwrap_or_default();
    html! {
        section #curves {
            h2 { "Percentiles" }
            p {
                "From the intended arrival to the answer, of calls with a good answer. In virtual time a service takes 50 ms on "
                "average, one call in a hundred ten times as long, and runs 32 calls at once; on the real clock it takes 10 ms. Timers "
                "are a millisecond coarse."
            }
            div.controls {
                label { "Load "
                    select #load {
                        @for (place, (_, clock, load)) in all.iter().enumerate() {
                            option value=(place) selected[place == first] { (load) ", " (clock) }
                        }
                    }
                }
                label { "Stack "
                    select #add {
                        option value="" { "add one …" }
                        @for stack in &run.plan.stacks { option { (stack) } }
                    }
                }
            }
            ul.chips #chips {}
            @for (place, (clock, _, load)) in all.iter().enumerate() {
                figure.plot data-load=(place) hidden[place != first] {
                    (plots::percentiles(run, *clock, load))
                }
            }
        }
    }
}

fn waterfall(run: &Run) -> Markup {
    use crate::record::inner;
    if run.overhead.is_empty() {
        return html! {};
    }
    html! {
        section #waterfall {
            h2 { "Layer by layer" }
            p { "One layer more at each step, innermost first: nanoseconds a call, one thread. Each bar begins where the one before ends." }
            div.grid {
                @for inner in inner::ALL {
                    figure { figcaption { "service " (inner) } (plots::waterfall(run, inner)) }
                }
            }
        }
    }
}

fn offered(run: &Run) -> Markup {
    let clock = if run.offered(Clock::Virtual).is_empty() { Clock::Real } else { Clock::Virtual };
    if run.offered(clock).is_empty() {
        return html! {};
    }
    html! {
        section #offered {
            h2 { "Latency against offered load" }
            p {
                "What is offered is a part of what the service can do. The stacks chosen above: with a bounded queue latency stays "
                "flat beyond the capacity, at the price of refusals."
            }
            div.grid {
                figure.plot {
                    figcaption { "p99, ms" }
                    (plots::against_load(run, clock, Series::P99))
                }
                figure.plot {
                    figcaption { "good answers a second" }
                    (plots::against_load(run, clock, Series::Goodput))
                }
            }
            (heatmap::refusals(run, clock))
        }
    }
}

fn faults(run: &Run) -> Markup {
    if run.faults.is_empty() {
        return html! {};
    }
    html! {
        section #faults {
            h2 { "Faults" }
            p { "The real layers, in virtual time, at half of the capacity." }
            ul {
                @for scenario in SCENARIOS { li { strong { (scenario.name) } ": " (scenario.about) } }
            }
            p {
                strong { "Amplification" } " is attempts that reach the service per request of that time: below 1 the stack spares it. "
                strong { "Recovery" } " is the time from when it gets better until 95 % of the calls are answered within 200 ms, and stay so."
            }
            (heatmap::faults(run))
        }
    }
}

fn difference(run: &Run, against: Option<&Run>) -> Markup {
    let Some(base) = against else { return html! {} };
    let comparison = Comparison::of(base, run);
    let mut rows: Vec<_> = comparison.rows.iter().collect();
    rows.sort_by(|a, b| b.by().total_cmp(&a.by()));
    html! {
        section #difference {
            h2 { "Difference to " q { (base.name) } }
            p {
                "Ratios to the bare service of the same run. "
                @if let Some(apart) = comparison.agreement() {
                    "The median stack lies " strong { (format!("{:.1} %", apart * 100.0)) } " apart."
                }
            }
            div.scroll {
                table.sortable {
                    thead { tr {
                        @for (title, numeric) in [("stack", false), ("service", false), ("before", true), ("now", true), ("change", true), ("allocations", true)] {
                            (heatmap::header(title, numeric))
                        }
                    } }
                    tbody {
                        @for row in rows {
                            tr {
                                th scope="row" { (row.stack) }
                                td { (row.setting) }
                                (heatmap::cell(row.base.mid, format!("{:.2}", row.base.mid), None))
                                (heatmap::cell(row.new.mid, format!("{:.2}", row.new.mid), None))
                                @let shade = (0.5 + row.by() * 2.0).clamp(0.0, 1.0);
                                (heatmap::cell(row.by(), format!("{:+.1} %", row.by() * 100.0), Some(shade)))
                                (heatmap::cell(row.allocations.1, format!("{}", row.allocations.1), None))
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
