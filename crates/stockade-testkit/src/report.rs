//! The results of the suite.

use std::fmt;

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The layer does what the check asks for.
    Passed,
    /// It does not, for this reason.
    Failed(String),
    /// It was not made, because what it needs is not declared: this.
    NotMade(String),
    /// It was left out by [`Contract::except`](crate::Contract::except), for this reason.
    DoesNotApply(String),
}

/// The results of all checks. `Display` prints a line for each.
#[derive(Clone, Debug, Default)]
pub struct Report {
    outcomes: Vec<(&'static str, Outcome)>,
}

// === impl Outcome ===

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Failed(why) => write!(f, "FAILED: {why}"),
            Self::NotMade(why) => write!(f, "not made: {why}"),
            Self::DoesNotApply(why) => write!(f, "does not apply: {why}"),
        }
    }
}

// === impl Report ===

impl Report {
    pub(crate) fn add(&mut self, check: &'static str, outcome: Outcome) {
        self.outcomes.push((check, outcome));
    }

    /// Every check with its result, in the order in which they were made.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Outcome)> {
        self.outcomes.iter().map(|(check, outcome)| (*check, outcome))
    }

    /// The checks that failed.
    pub fn failed(&self) -> Vec<&'static str> {
        self.those(|outcome| matches!(outcome, Outcome::Failed(_)))
    }

    /// The checks that passed.
    pub fn passed(&self) -> Vec<&'static str> {
        self.those(|outcome| *outcome == Outcome::Passed)
    }

    fn those(&self, which: impl Fn(&Outcome) -> bool) -> Vec<&'static str> {
        self.iter().filter(|(_, outcome)| which(outcome)).map(|(check, _)| check).collect()
    }

    /// The result of a check.
    ///
    /// # Panics
    ///
    /// If there is no such check; the message lists all checks.
    #[track_caller]
    pub fn outcome(&self, check: &str) -> &Outcome {
        known(check);
        let found = self.iter().find(|(name, _)| *name == check);
        found.expect("every known check is made").1
    }

    /// Panics if a check failed.
    ///
    /// # Panics
    ///
    /// If a check failed, with the whole report.
    #[track_caller]
    pub fn assert(&self) {
        let failed = self.failed().len();
        assert!(failed == 0, "{failed} of {} checks failed\n{self}", self.outcomes.len());
    }
}

/// Finds a check by its name.
#[track_caller]
pub(crate) fn known(check: &str) -> &'static str {
    let names = crate::checks::NAMES;
    let Some(name) = names.iter().find(|name| **name == check) else {
        panic!("there is no check `{check}`, the checks are: {}", names.join(", "));
    };
    name
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (check, outcome) in self.iter() {
            writeln!(f, "{check}: {outcome}")?;
        }
        Ok(())
    }
}
