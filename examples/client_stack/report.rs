//! The report: tables of what happened.

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use stockade::{
    breaker::{Snapshot, State},
    pool, retry,
};

use crate::{
    audit::Findings,
    plan::{Behaviour, Phase},
    stack::{QUEUE, WRITERS},
    tally::{Counts, Span},
    transitions::Transition,
};

/// What the report shows.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) counts: &'a Counts,
    pub(crate) findings: &'a Findings,
    pub(crate) http: pool::Stats,
    pub(crate) rows: pool::Stats,
    pub(crate) workers: usize,
    pub(crate) http_retries: retry::Stats,
    pub(crate) rows_retries: retry::Stats,
    pub(crate) breaker: Snapshot,
    pub(crate) transitions: &'a [Transition],
}

/// A line below the header, and no other.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::new('─', '─', '─', '─'));

/// Why the breaker has refused more than there are outcomes that say so.
const ATTEMPTS: &str = "An attempt that the breaker refuses ends its request. The outcome is `circuit open` if it was the \
    first one; otherwise it is the failure of the attempt before it.";

// === impl Report ===

impl Report<'_> {
    pub(crate) fn print(&self) {
        let tables = [
            self.phases(),
            self.outcomes(),
            self.server(),
            self.retries(),
            self.breaker(),
            self.pools(),
        ];
        for table in tables {
            println!("{}\n", table.trim_fmt());
        }
        println!("{ATTEMPTS}\n");
    }

    fn phases(&self) -> Table {
        let mut table = table([
            "phase", "requests", "seconds", "ok", "ok/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms",
        ]);
        for phase in Phase::ALL {
            let span = &self.counts.phases[phase as usize];
            table.add_row(phase_row(phase.as_str(), span));
        }
        table
    }

    fn outcomes(&self) -> Table {
        let mut table = by_phase("outcome");
        for (ended, phases) in &self.counts.ended {
            table.add_row(phase_counts(&ended.to_string(), phases));
        }
        table
    }

    fn server(&self) -> Table {
        let mut table = by_phase("the server did");
        for (name, phases) in Behaviour::NAMES.iter().zip(&self.findings.done) {
            table.add_row(phase_counts(name, phases));
        }
        table.add_row(phase_counts("the client hung up", &self.findings.hung_up));
        table
    }

    fn retries(&self) -> Table {
        let mut table =
            table(["retries", "repeated", "recovered", "exhausted", "over budget", "too late"]);
        for (name, stats) in [("http", self.http_retries), ("rows", self.rows_retries)] {
            let numbers = [
                stats.retried,
                stats.recovered,
                stats.exhausted,
                stats.over_budget,
                stats.too_late,
            ];
            table.add_row(row(name, numbers));
        }
        table
    }

    fn breaker(&self) -> Table {
        let title = format!("breaker, {} in the end", self.breaker.state);
        let mut table = table([&title, "times", "first at s", "last at s"]);
        let mut kinds: Vec<(State, State)> = Vec::new();
        for transition in self.transitions {
            let kind = (transition.from, transition.to);
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        for (from, to) in kinds {
            let of_kind = || self.transitions.iter().filter(|t| (t.from, t.to) == (from, to));
            let at = |transition: Option<&Transition>| {
                transition.map_or_else(String::new, |t| format!("{:.1}", t.at.as_secs_f64()))
            };
            let (first, last) = (of_kind().next(), of_kind().next_back());
            table.add_row([
                format!("{from} to {to}"),
                of_kind().count().to_string(),
                at(first),
                at(last),
            ]);
        }
        table.add_row(["attempts refused".to_owned(), self.breaker.refused.to_string()]);
        table
    }

    fn pools(&self) -> Table {
        let mut table = table([
            "pool",
            "accepted",
            "most queued",
            "room",
            "most running",
            "workers",
            "rebuilt",
        ]);
        for (name, stats, workers) in
            [("http", &self.http, self.workers), ("rows", &self.rows, WRITERS)]
        {
            let numbers = [
                stats.accepted,
                stats.peak_queued as u64,
                QUEUE as u64,
                stats.peak_running as u64,
                workers as u64,
                stats.rebuilt,
            ];
            table.add_row(row(name, numbers));
        }
        table
    }
}

fn phase_row(name: &str, span: &Span) -> Vec<String> {
    let seconds = span.duration().as_secs_f64();
    let ok = span.latency.len();
    let millis = |quantile| {
        if ok == 0 {
            return "-".to_owned();
        }
        format!("{:.1}", span.latency.value_at_quantile(quantile) as f64 / 1_000.0)
    };
    let per_second = if seconds > 0.0 { ok as f64 / seconds } else { 0.0 };
    let start = [
        name.to_owned(),
        span.offered.to_string(),
        format!("{seconds:.1}"),
        ok.to_string(),
        format!("{per_second:.0}"),
    ];
    start.into_iter().chain([0.5, 0.9, 0.99, 0.999].map(millis)).collect()
}

fn by_phase(title: &str) -> Table {
    let [calm, failing, recovering] = Phase::ALL.map(Phase::as_str);
    table([title, calm, failing, recovering, "total"])
}

fn phase_counts(name: &str, phases: &[u64; 3]) -> Vec<String> {
    row(name, phases.iter().copied().chain([phases.iter().sum()]))
}

fn row(name: &str, numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    let numbers = numbers.into_iter().map(|n| n.to_string());
    [name.to_owned()].into_iter().chain(numbers).collect()
}

/// A table with names in the first column and numbers in the others.
fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
