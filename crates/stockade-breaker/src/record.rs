//! What a breaker remembers of the calls that have ended.
//!
//! Beside the window it counts *answers*, to tell a caller that gave up on a service which answers others from
//! one that gave up on a service which answers nobody. An admitted call carries the number of answers at that
//! time; if the number is the same when the call is dropped, nobody was answered in between.
//!
//! While the window is full of successes, more successes change nothing, and to keep them cheap they are not
//! reported here, so they are not numbered either. The first call that is dropped then starts a *doubt*: it
//! counts for nothing yet, and from then on answers are reported again. An answer ends the doubt. If instead
//! a call is dropped that was admitted after the doubt began, the service answers nobody, and the doubtful
//! calls have failed too.

use tokio::time::Instant;

use crate::{
    Config, Trip, Window,
    window::{Outcome, Outcomes, Tally},
};

/// The window, the failures in a row, and the answers.
#[derive(Debug)]
pub(crate) struct Record {
    outcomes: Outcomes,
    consecutive: u32,
    answers: u32,
    doubt: Option<Doubt>,
}

/// Calls were dropped, and it is not known whether others were answered before that.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    /// How many calls count as soon as it is known.
    calls: u32,
    /// It is known: the service answers nobody.
    confirmed: bool,
}

/// Answers are counted modulo this: a power of two, as they share a word with other things.
pub(crate) const ANSWERS: u32 = 1 << 30;

// === impl Record ===

impl Record {
    pub(crate) fn new(window: Window) -> Self {
        Self { outcomes: window.outcomes(), consecutive: 0, answers: 0, doubt: None }
    }

    /// The number of answers so far, as far as they were reported.
    pub(crate) const fn answers(&self) -> u32 {
        self.answers
    }

    pub(crate) fn tally(&self) -> Tally {
        self.outcomes.tally()
    }

    pub(crate) const fn consecutive(&self) -> u32 {
        self.consecutive
    }

    /// Whether one more success would change nothing, as the window is full of them.
    pub(crate) fn is_clean(&self) -> bool {
        self.doubt.is_none() && self.outcomes.is_clean()
    }

    pub(crate) fn slide(&mut self, now: Instant) {
        self.outcomes.slide(now);
    }

    /// The service has answered a call, whatever it said.
    pub(crate) const fn answered(&mut self) {
        self.next_answer();
        self.doubt = None;
    }

    pub(crate) fn push(&mut self, outcome: Outcome, now: Option<Instant>) {
        self.outcomes.push(outcome, now);
        self.consecutive = if outcome.failed { self.consecutive.saturating_add(1) } else { 0 };
    }

    /// A call was dropped that was admitted after `seen` answers; `unreported` says whether answers have not been
    /// reported lately. Says how many calls have failed by that.
    pub(crate) fn dropped(&mut self, seen: u32, unreported: bool) -> u32 {
        if unreported && seen == self.answers {
            self.next_answer();
            self.doubt = Some(Doubt { calls: 1, confirmed: false });
            return 0;
        }
        let Some(doubt) = &mut self.doubt else { return u32::from(seen == self.answers) };
        if seen == self.answers {
            doubt.confirmed = true;
            return 1 + std::mem::take(&mut doubt.calls);
        }
        if (seen + 1) % ANSWERS != self.answers {
            return 0;
        }
        // It was admitted before the doubt began, after the last answer that was reported.
        doubt.calls += u32::from(!doubt.confirmed);
        u32::from(doubt.confirmed)
    }

    /// Why a breaker has to open that looks at these calls.
    pub(crate) fn trip(&self, config: &Config) -> Option<Trip> {
        let Config { failure_rate, slow, consecutive, .. } = *config;
        let tally = self.tally();
        let enough = tally.calls >= config.min_calls();
        if consecutive.is_some_and(|limit| self.consecutive >= limit) {
            Some(Trip::Consecutive)
        } else if enough && tally.reaches(tally.failures, failure_rate) {
            Some(Trip::FailureRate)
        } else if enough && slow.is_some_and(|slow| tally.reaches(tally.slow, slow.rate)) {
            Some(Trip::SlowRate)
        } else {
            None
        }
    }

    /// Forgets all calls, but not the number of answers.
    pub(crate) fn clear(&mut self) {
        self.outcomes.clear();
        self.consecutive = 0;
        self.doubt = None;
    }

    const fn next_answer(&mut self) {
        self.answers = (self.answers + 1) % ANSWERS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean() -> Record {
        let mut record = Record::new(Window::calls(4));
        for _ in 0..4 {
            record.answered();
            record.push(Outcome::SUCCESS, None);
        }
        assert!(record.is_clean());
        record
    }

    fn drop_after(record: &mut Record, seen: u32) -> u32 {
        let unreported = record.is_clean();
        record.dropped(seen, unreported)
    }

    #[test]
    fn a_dropped_call_has_failed_unless_another_was_answered_since_it_was_admitted() {
        let mut record = Record::new(Window::calls(4));
        let seen = record.answers();
        assert_eq!(drop_after(&mut record, seen), 1);
        record.answered();
        assert_eq!(drop_after(&mut record, seen), 0);
        assert_eq!(
            {
                let seen = record.answers();
                drop_after(&mut record, seen)
            },
            1
        );
    }

    #[test]
    fn calls_dropped_over_a_clean_window_count_once_it_is_known_that_nobody_is_answered() {
        let mut record = clean();
        let before = record.answers();
        assert_eq!([drop_after(&mut record, before), drop_after(&mut record, before)], [0, 0]);
        assert!(!record.is_clean(), "answers have to be reported");
        assert_eq!(
            {
                let seen = record.answers();
                drop_after(&mut record, seen)
            },
            3
        );
        assert_eq!(drop_after(&mut record, before), 1, "it is known by now");
        assert_eq!(
            {
                let seen = record.answers();
                drop_after(&mut record, seen)
            },
            1
        );
    }

    #[test]
    fn an_answer_ends_the_doubt() {
        let mut record = clean();
        let before = record.answers();
        assert_eq!(drop_after(&mut record, before), 0);
        record.answered();
        assert!(record.is_clean());
        assert_eq!(drop_after(&mut record, before), 0);
        assert_eq!(drop_after(&mut record, before), 0, "it was admitted before that answer");
        let mut record = clean();
        let early = record.answers();
        record.answered();
        assert_eq!(
            {
                let seen = record.answers();
                drop_after(&mut record, seen)
            },
            0,
            "a doubt"
        );
        assert_eq!(drop_after(&mut record, early), 0, "it was admitted before an answer");
        assert_eq!(
            {
                let seen = record.answers();
                drop_after(&mut record, seen)
            },
            2
        );
    }

    #[test]
    fn the_number_of_answers_wraps() {
        let mut record = clean();
        record.answers = ANSWERS - 1;
        assert_eq!(drop_after(&mut record, ANSWERS - 1), 0);
        assert_eq!(record.answers(), 0);
        assert_eq!(drop_after(&mut record, ANSWERS - 1), 0);
        assert_eq!(drop_after(&mut record, 0), 3);
    }
}
