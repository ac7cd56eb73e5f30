//! The books: four statements that have to hold exactly, whatever happened.

use std::{fmt, time::Duration};

/// What was counted. Each number comes from a part of the program that does not know the others.
#[derive(Debug)]
pub(crate) struct Books {
    /// By the pool: the requests that it accepted.
    pub(crate) accepted: u64,
    /// By the callers: the requests that have an outcome.
    pub(crate) outcomes: u64,
    /// By the drain: the requests that it returned.
    pub(crate) handed_back: u64,
    /// By the callers: the answers to store.
    pub(crate) successes: u64,
    /// By the database: its rows.
    pub(crate) rows: u64,
    /// By the server: the most calls that were in flight at once.
    pub(crate) peak: usize,
    pub(crate) limit: usize,
    /// By the server: for each call when it asked the rate limit and when it arrived, in the order in which
    /// they asked.
    pub(crate) arrivals: Vec<(Duration, Duration)>,
    /// Calls a second.
    pub(crate) rate: u32,
    pub(crate) burst: u32,
}

/// A statement, with its numbers.
#[derive(Debug)]
struct Statement {
    text: String,
    /// By how much it is wrong; 0 if it holds.
    off: i128,
}

const SECOND: Duration = Duration::from_secs(1);

// === impl Books ===

impl Books {
    /// The statements with their numbers.
    ///
    /// # Errors
    ///
    /// The statements that do not hold.
    pub(crate) fn check(&self) -> Result<String, String> {
        let statements = self.statements();
        let off: Vec<_> =
            statements.iter().filter(|s| s.off != 0).map(Statement::to_string).collect();
        if off.is_empty() {
            let all: Vec<_> = statements.iter().map(Statement::to_string).collect();
            Ok(format!("books balance: {}", all.join("; ")))
        } else {
            Err(format!("books do not balance: {}", off.join("; ")))
        }
    }

    fn statements(&self) -> [Statement; 4] {
        let Self { accepted, outcomes, handed_back, successes, rows, peak, limit, .. } = self;
        let whole = self.arrivals.iter().map(|(_, arrived)| *arrived).max().unwrap_or_default();
        let calls = [
            (self.arrivals.len(), self.tokens(whole)),
            (self.busiest(SECOND), self.tokens(SECOND)),
            (self.busiest(SECOND / 10), self.tokens(SECOND / 10)),
        ];
        let [all, second, tenth] = calls.map(|(n, tokens)| format!("{n} <= {tokens}"));
        let excess = calls.map(|(n, tokens)| (n as u64).saturating_sub(tokens));
        [
            Statement {
                text: format!(
                    "{accepted} accepted = {outcomes} outcomes + {handed_back} handed back"
                ),
                off: i128::from(*accepted) - i128::from(outcomes + handed_back),
            },
            Statement {
                text: format!("{rows} rows = {successes} successes"),
                off: i128::from(*rows) - i128::from(*successes),
            },
            Statement {
                text: format!("{peak} at once <= limit {limit}"),
                off: peak.saturating_sub(*limit) as i128,
            },
            Statement {
                text: format!("calls {all} tokens, {second} in a second, {tenth} in a tenth"),
                off: excess.into_iter().max().unwrap_or_default().into(),
            },
        ]
    }

    /// The most calls that the bucket may let through in this time: a full bucket, what flows in during that
    /// time, and one more that a waiter may take late.
    fn tokens(&self, time: Duration) -> u64 {
        let running_in = time.as_nanos() * u128::from(self.rate) / SECOND.as_nanos();
        u64::from(self.burst) + running_in as u64 + 1
    }

    /// The most calls that both asked and arrived within a window of this length, so that their tokens were taken
    /// in it.
    pub(crate) fn busiest(&self, window: Duration) -> usize {
        let within = |(from, (start, _)): (usize, &(Duration, Duration))| {
            let end = *start + window;
            let asked = self.arrivals[from..].iter().take_while(|(asked, _)| *asked <= end);
            asked.filter(|(_, arrived)| *arrived <= end).count()
        };
        self.arrivals.iter().enumerate().map(within).max().unwrap_or_default()
    }
}

// === impl Statement ===

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if self.off == 0 { Ok(()) } else { write!(f, " is off by {}", self.off) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balanced() -> Books {
        Books {
            accepted: 10,
            outcomes: 8,
            handed_back: 2,
            successes: 7,
            rows: 7,
            peak: 4,
            limit: 4,
            arrivals: Vec::new(),
            rate: 10,
            burst: 2,
        }
    }

    fn arrivals(millis: &[(u64, u64)]) -> Vec<(Duration, Duration)> {
        let at = Duration::from_millis;
        millis.iter().map(|&(asked, arrived)| (at(asked), at(arrived))).collect()
    }

    #[test]
    fn books_that_balance_say_so_with_their_numbers() {
        let said = balanced().check().unwrap();
        assert!(
            said.starts_with("books balance: 10 accepted = 8 outcomes + 2 handed back; "),
            "{said}"
        );
    }

    #[test]
    fn each_statement_that_does_not_hold_is_named_with_the_difference() {
        let off = |books: Books| books.check().unwrap_err();
        assert_eq!(
            off(Books { handed_back: 1, ..balanced() }),
            "books do not balance: 10 accepted = 8 outcomes + 1 handed back is off by 1"
        );
        assert_eq!(
            off(Books { rows: 5, ..balanced() }),
            "books do not balance: 5 rows = 7 successes is off by -2"
        );
        assert_eq!(
            off(Books { peak: 5, ..balanced() }),
            "books do not balance: 5 at once <= limit 4 is off by 1"
        );
    }

    #[test]
    fn more_calls_than_tokens_are_found_in_all_and_in_a_second() {
        let at_once = arrivals(&[(0, 1); 4]);
        let said = Books { arrivals: at_once, ..balanced() }.check().unwrap_err();
        assert!(said.contains("calls 4 <= 3 tokens, 4 <= 13 in a second, "), "{said}");
        assert!(said.ends_with(" is off by 1"), "{said}");

        // 14 in the second from 10 s on, and few before.
        let crowd = (0..14).map(|n| (10_000 + n * 70, 10_010 + n * 70));
        let late = arrivals(&[(0, 5)].into_iter().chain(crowd).collect::<Vec<_>>());
        let said = Books { arrivals: late, ..balanced() }.check().unwrap_err();
        assert!(said.ends_with("14 <= 13 in a second, 2 <= 4 in a tenth is off by 1"), "{said}");
    }

    #[test]
    fn a_call_that_was_long_on_its_way_counts_in_no_window_that_it_exceeds() {
        let books =
            Books { arrivals: arrivals(&[(0, 1_200), (900, 1_200), (1_000, 1_900)]), ..balanced() };
        assert_eq!(books.busiest(SECOND), 2);
        assert_eq!(books.busiest(SECOND * 2), 3);
    }
}
