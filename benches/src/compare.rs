//! What changed from one run to another.
//!
//! Compared are ratios to the bare service of the same run, because nothing else carries over from one run to
//! another, and allocations, which are exact.

use comfy_table::{CellAlignment, Table, presets};

use crate::{
    combo,
    numbers::{Interval, Percent, median},
    record::Run,
    turns::on,
};

/// A run beside an older one.
#[derive(Debug)]
pub struct Comparison {
    base: String,
    new: String,
    /// What both have measured.
    pub rows: Vec<Change>,
    notes: Vec<String>,
}

/// What became of one figure.
#[derive(Clone, Debug)]
pub struct Change {
    /// The stack.
    pub stack: String,
    /// The service inside, and how many threads.
    pub setting: String,
    /// The ratio to the bare service, before.
    pub base: Interval,
    /// The same, now.
    pub new: Interval,
    /// Allocations a call, before and now.
    pub allocations: (f64, f64),
    /// On how many threads.
    pub threads: usize,
}

// === impl Change ===

impl Change {
    /// How much dearer it is now, as a part of what it was.
    pub fn by(&self) -> f64 {
        self.new.mid / self.base.mid - 1.0
    }

    /// Whether that is more than `most`, and more than the uncertainty of the two figures; or whether a call
    /// allocates more often. How much dearer it is counts on one thread alone: how often several threads meet in
    /// a stack is up to the scheduler, and differs from run to run by more than any change of the code.
    pub fn is_regression(&self, most: Percent) -> bool {
        let dearer = self.threads == 1 && self.by() > most.0 && !self.base.touches(self.new);
        let (base, new) = self.allocations;
        dearer || new > base + 0.01
    }
}

// === impl Comparison ===

impl Comparison {
    /// Puts a run beside an older one.
    pub fn of(base: &Run, new: &Run) -> Self {
        let mut rows = Vec::new();
        for row in new.overhead.iter().filter(|row| row.stack != combo::BARE) {
            let Some(old) = base.overhead(&row.stack, &row.inner, row.threads) else { continue };
            rows.push(Change {
                stack: row.stack.clone(),
                setting: format!("{}, {}", row.inner, on(row.threads)),
                base: old.ratio,
                new: row.ratio,
                allocations: (old.allocations, row.allocations),
                threads: row.threads,
            });
        }
        let measured =
            |run: &Run| run.overhead.iter().filter(|row| row.stack != combo::BARE).count();
        let mut notes = Vec::new();
        let (old, now) = (measured(base), measured(new));
        if rows.len() < old.max(now) {
            notes.push(format!(
                "{} figures are in both runs, of {old} in {:?} and {now} in {:?}",
                rows.len(),
                base.name,
                new.name
            ));
        }
        if base.environment.processor != new.environment.processor {
            notes.push("the runs are from different processors".to_owned());
        }
        for run in [base, new] {
            if run.environment.busy {
                notes.push(format!("the machine was busy when {:?} was measured", run.name));
            }
            if run.partial {
                notes.push(format!("{:?} was interrupted", run.name));
            }
        }
        Self { base: base.name.clone(), new: new.name.clone(), rows, notes }
    }

    /// The median, over all stacks, of how far the ratios lie apart; `None` if there is nothing to compare.
    pub fn agreement(&self) -> Option<f64> {
        median(self.rows.iter().map(|row| row.by().abs()))
    }

    /// The same for each setting.
    pub fn agreements(&self) -> Vec<(&str, f64)> {
        let mut settings: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !settings.contains(&row.setting.as_str()) {
                settings.push(&row.setting);
            }
        }
        let of = |setting: &str| {
            let rows = self.rows.iter().filter(|row| row.setting == setting);
            median(rows.map(|row| row.by().abs()))
        };
        settings.into_iter().filter_map(|setting| Some((setting, of(setting)?))).collect()
    }

    /// What costs so much more than it did.
    pub fn regressions(&self, most: Percent) -> impl Iterator<Item = &Change> {
        self.rows.iter().filter(move |row| row.is_regression(most))
    }

    /// All of it in words.
    pub fn show(&self, most: Option<Percent>) -> String {
        let mut text = format!("{} -> {}: ratios to the bare service\n", self.base, self.new);
        for note in &self.notes {
            text += &format!("note: {note}\n");
        }
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by(|a, b| b.by().abs().total_cmp(&a.by().abs()));
        text += "\nthe largest changes\n";
        text += &table(rows.into_iter().take(10)).to_string();
        text += "\n\nhow far the ratios lie apart, median over the stacks\n";
        for (setting, apart) in self.agreements() {
            text += &format!("{setting:28} {:5.1} %\n", apart * 100.0);
        }
        match self.agreement() {
            Some(apart) => text += &format!("{:28} {:5.1} %\n", "all", apart * 100.0),
            None => text += "nothing was measured in both runs\n",
        }
        if let Some(most) = most {
            let regressions: Vec<_> = self.regressions(most).collect();
            text += &if regressions.is_empty() {
                format!("\nno regression over {most} on one thread")
            } else {
                format!(
                    "\n{} regressions over {most} on one thread\n{}",
                    regressions.len(),
                    table(regressions.into_iter())
                )
            };
        }
        text
    }
}

fn table<'a>(rows: impl Iterator<Item = &'a Change>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["stack", "service inside", "before", "now", "change", "allocations"]);
    for row in rows {
        let (base, new) = row.allocations;
        table.add_row([
            row.stack.clone(),
            row.setting.clone(),
            format!("{:.2}", row.base.mid),
            format!("{:.2}", row.new.mid),
            format!("{:+.1} %", row.by() * 100.0),
            if base == new { format!("{new}") } else { format!("{base} -> {new}") },
        ]);
    }
    for column in 2..6 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(ratio: f64) -> Interval {
        Interval { low: ratio, mid: ratio, high: ratio }
    }

    fn change(base: Interval, new: Interval) -> Change {
        let (stack, setting) = ("limit".to_owned(), "ready, 1 thread".to_owned());
        Change { stack, setting, base, new, allocations: (0.0, 0.0), threads: 1 }
    }

    const FIVE: Percent = Percent(0.05);

    #[test]
    fn dearer_by_more_than_allowed_is_a_regression() {
        assert!(change(exact(10.0), exact(10.6)).is_regression(FIVE));
        assert!(!change(exact(10.0), exact(10.4)).is_regression(FIVE));
        assert!(!change(exact(10.0), exact(5.0)).is_regression(FIVE));
    }

    #[test]
    fn what_several_threads_take_fails_nothing() {
        let shared = Change { threads: 2, ..change(exact(10.0), exact(30.0)) };
        assert!(!shared.is_regression(FIVE));
    }

    #[test]
    fn what_may_be_chance_is_no_regression() {
        let wide = Interval { low: 8.0, mid: 12.0, high: 20.0 };
        assert!(!change(exact(10.0), wide).is_regression(FIVE));
    }

    #[test]
    fn a_further_allocation_is_a_regression_whatever_is_allowed() {
        let more = Change { allocations: (0.0, 1.0), ..change(exact(10.0), exact(10.0)) };
        assert!(more.is_regression(Percent(10.0)));
    }

    #[test]
    fn agreement_is_the_median_over_the_stacks() {
        let rows = [9.0, 10.0, 12.0].map(|new| change(exact(10.0), exact(new))).to_vec();
        let comparison =
            Comparison { base: "a".to_owned(), new: "b".to_owned(), rows, notes: Vec::new() };
        assert!((comparison.agreement().unwrap() - 0.1).abs() < 1e-9);
        assert_eq!(comparison.agreements().len(), 1);
        assert!(comparison.show(Some(FIVE)).contains("1 regressions over 5 %"));
    }
}
