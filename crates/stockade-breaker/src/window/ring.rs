//! The outcomes of the last so many calls: a ring of bits with running counts, O(1) per call.

use super::{Outcome, Tally};

/// The outcomes of the last `capacity` calls.
#[derive(Debug)]
pub(crate) struct Ring {
    capacity: u32,
    /// Where the next outcome goes: once the ring is full, where the oldest one is.
    next: u32,
    /// How many outcomes are in.
    calls: u32,
    failures: Plane,
    slow: Plane,
}

/// One bit for each outcome, and how many of them are set.
#[derive(Debug)]
struct Plane {
    bits: Box<[u64]>,
    count: u32,
}

// === impl Ring ===

impl Ring {
    pub(crate) fn new(capacity: u32) -> Self {
        let plane = || Plane { bits: vec![0; capacity.div_ceil(64) as usize].into(), count: 0 };
        Self { capacity, next: 0, calls: 0, failures: plane(), slow: plane() }
    }

    /// Adds an outcome. Once the ring is full, the oldest one leaves.
    pub(crate) fn push(&mut self, outcome: Outcome) {
        let evicts = self.is_full();
        self.failures.replace(self.next, outcome.failed, evicts);
        self.slow.replace(self.next, outcome.slow, evicts);
        self.calls += u32::from(!evicts);
        self.next = if self.next + 1 == self.capacity { 0 } else { self.next + 1 };
    }

    /// Forgets all outcomes. The bits stay, as they are written before they are read again.
    pub(crate) fn clear(&mut self) {
        (self.next, self.calls, self.failures.count, self.slow.count) = (0, 0, 0, 0);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.calls == self.capacity
    }

    pub(crate) fn tally(&self) -> Tally {
        Tally { calls: self.calls, failures: self.failures.count, slow: self.slow.count }
    }
}

// === impl Plane ===

impl Plane {
    fn replace(&mut self, index: u32, new: bool, evicts: bool) {
        let word = &mut self.bits[index as usize / 64];
        let bit = 1 << (index % 64);
        self.count -= u32::from(evicts && *word & bit != 0);
        self.count += u32::from(new);
        *word = *word & !bit | if new { bit } else { 0 };
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
