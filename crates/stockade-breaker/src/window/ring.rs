//! The outcomes of the last so many calls: a ring with running counts, O(1) per call.

use std::mem;

use super::{Outcome, Tally};

/// The outcomes of the last `capacity` calls.
#[derive(Debug)]
pub(crate) struct Ring {
    capacity: usize,
    outcomes: Vec<Outcome>,
    /// Once the ring is full, where the oldest outcome is.
    oldest: usize,
    tally: Tally,
}

// === impl Ring ===

impl Ring {
    /// All the room is there from the beginning, so that no call has to make any.
    pub(crate) fn new(capacity: u32) -> Self {
        let capacity = capacity as usize;
        let outcomes = Vec::with_capacity(capacity);
        Self { capacity, outcomes, oldest: 0, tally: Tally::default() }
    }

    /// Adds an outcome. Once the ring is full, the oldest one leaves.
    pub(crate) fn push(&mut self, outcome: Outcome) {
        if self.is_full() {
            let gone = mem::replace(&mut self.outcomes[self.oldest], outcome);
            self.tally.subtract(Tally::of(gone));
            self.oldest = if self.oldest + 1 == self.capacity { 0 } else { self.oldest + 1 };
        } else {
            self.outcomes.push(outcome);
        }
        self.tally.add(Tally::of(outcome));
    }

    /// Forgets all outcomes, and keeps the room for them.
    pub(crate) fn clear(&mut self) {
        self.outcomes.clear();
        (self.oldest, self.tally) = (0, Tally::default());
    }

    pub(crate) fn is_full(&self) -> bool {
        self.outcomes.len() == self.capacity
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// What the ring has to agree with: the outcomes themselves.
    fn count(list: &VecDeque<Outcome>) -> Tally {
        let number = |of: fn(&Outcome) -> bool| list.iter().filter(|&o| of(o)).count() as u32;
        Tally { calls: list.len() as u32, failures: number(|o| o.failed), slow: number(|o| o.slow) }
    }

    proptest! {
        #[test]
        fn counts_what_a_plain_list_of_the_last_outcomes_holds(
            capacity in 1..200_u32,
            steps in prop::collection::vec((any::<bool>(), any::<bool>(), 0..100_u32), 0..1_000),
        ) {
            let (mut ring, mut list) = (Ring::new(capacity), VecDeque::new());
            for (failed, slow, chance) in steps {
                if chance == 0 {
                    ring.clear();
                    list.clear();
                }
                ring.push(Outcome { failed, slow });
                list.push_back(Outcome { failed, slow });
                if list.len() > capacity as usize {
                    list.pop_front();
                }
                prop_assert_eq!(ring.tally(), count(&list));
                prop_assert_eq!(ring.is_full(), list.len() == capacity as usize);
            }
        }
    }
}
