//! Values that are due at an instant, the earliest first. Pure: `now` is passed in.
//!
//! Most values arrive in order, or nearly so: the deadlines of calls that share one duration do. They
//! stand in a line, where entering and leaving are O(1). A value that would have to pass more than a few
//! others goes beside the line instead, and a heap knows when it is due. To enter the heap is O(1) on
//! average, whatever the durations. What leaves before it is due leaves at once, but for a stale mark of
//! 32 bytes in the heap; when more than half of the marks are stale they are swept out together, so
//! leaving is O(1) too, spread over those that left.
//!
//! Of several that are due at one instant the line goes first, and then who came first. So what happens on a paused
//! clock depends on what was entered, and not on who used the same slots before.

use std::{cmp::Reverse, collections::BinaryHeap};

use tokio::time::Instant;

use super::{Key, Queue};

/// Values that are due at an instant, the earliest first.
#[derive(Debug)]
pub(crate) struct Agenda<T> {
    line: Queue<Entry<T>>,
    beside: Queue<Entry<T>>,
    /// When who is `beside` is due; of some that have left, too.
    marks: BinaryHeap<Reverse<Mark>>,
    /// How many have gone beside the line.
    came: u64,
}

/// When a value is due, how many came before it, and where it is. In this order.
type Mark = (Instant, u64, Key);

/// A place in an [`Agenda`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Line(Key),
    Beside(Key),
}

/// A value, and when it is due.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    pub(crate) at: Instant,
    pub(crate) value: T,
}

/// How many others a value passes to its place in the line.
const STEPS: usize = 4;

/// So many stale marks are not worth a sweep.
const STALE: usize = 64;

// === impl Agenda ===

impl<T> Agenda<T> {
    pub(crate) const fn new() -> Self {
        Self { line: Queue::new(), beside: Queue::new(), marks: BinaryHeap::new(), came: 0 }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.line.is_empty() && self.beside.is_empty()
    }

    /// All values, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.line.iter().chain(self.beside.iter()).map(|entry| &entry.value)
    }

    /// Enters a value that is due at `at`.
    #[inline]
    pub(crate) fn enter(&mut self, at: Instant, value: T) -> Place {
        match self.line.push_by_key(Entry { at, value }, |entry| entry.at, STEPS) {
            Ok(key) => Place::Line(key),
            Err(entry) => self.enter_beside(entry),
        }
    }

    #[cold]
    fn enter_beside(&mut self, entry: Entry<T>) -> Place {
        let at = entry.at;
        let key = self.beside.push_back(entry);
        self.marks.push(Reverse((at, self.came, key)));
        self.came += 1;
        Place::Beside(key)
    }

    /// The entry at `place`, unless it has left.
    #[inline]
    pub(crate) fn get_mut(&mut self, place: Place) -> Option<&mut Entry<T>> {
        match place {
            Place::Line(key) => self.line.get_mut(key),
            Place::Beside(key) => self.beside.get_mut(key),
        }
    }

    /// Takes the value at `place`, unless it has left.
    #[inline]
    pub(crate) fn remove(&mut self, place: Place) -> Option<T> {
        let entry = match place {
            Place::Line(key) => self.line.remove(key),
            Place::Beside(key) => self.remove_beside(key),
        };
        entry.map(|entry| entry.value)
    }

    #[cold]
    fn remove_beside(&mut self, key: Key) -> Option<Entry<T>> {
        let entry = self.beside.remove(key);
        if self.marks.len() > 2 * self.beside.len() + STALE {
            let beside = &self.beside;
            self.marks.retain(|Reverse((.., key))| beside.get(*key).is_some());
        }
        entry
    }

    /// When the next value is due.
    pub(crate) fn next(&mut self) -> Option<Instant> {
        let line = self.line.front().map(|entry| entry.at);
        match self.next_beside() {
            Some((at, ..)) if line.is_none_or(|line| at < line) => Some(at),
            _ => line,
        }
    }

    /// Takes the next value, if it is due by now.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<T> {
        let line = self.line.front().map(|entry| entry.at);
        let entry = match self.next_beside() {
            Some((at, _, key)) if line.is_none_or(|line| at < line) => {
                if at > now {
                    return None;
                }
                self.marks.pop();
                self.beside.remove(key)
            }
            _ if line? <= now => self.line.pop_front(),
            _ => None,
        };
        entry.map(|entry| entry.value)
    }

    /// The first one beside the line, behind the stale marks.
    fn next_beside(&mut self) -> Option<Mark> {
        loop {
            let Reverse(mark) = *self.marks.peek()?;
            if self.beside.get(mark.2).is_some() {
                return Some(mark);
            }
            self.marks.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn one_duration_stands_in_line_and_marks_nothing() {
        let (mut agenda, start) = (Agenda::new(), Instant::now());
        // Two threads that read the clock before they enter.
        for n in 0..1_000_u32 {
            assert!(matches!(agenda.enter(start + MS * (n ^ 1), n), Place::Line(_)));
        }
        assert!(agenda.marks.is_empty());
    }

    #[test]
    fn those_who_left_early_do_not_pile_up() {
        let (mut agenda, start) = (Agenda::new(), Instant::now());
        for n in 0..5 {
            agenda.enter(start + MS * 1_000_000, n);
        }
        for n in 0..100_000 {
            let place = agenda.enter(start + MS * (n % 1_000), n);
            assert_eq!(agenda.remove(place), Some(n));
            assert_eq!(agenda.remove(place), None);
            assert!(agenda.marks.len() <= STALE + 1);
        }
    }

    #[test]
    fn those_beside_the_line_that_are_due_at_once_come_in_their_order() {
        let (mut agenda, start) = (Agenda::new(), Instant::now());
        for n in 0..10 {
            agenda.enter(start + 9 * MS, n);
        }
        // The slots that they leave are taken again, the last one first.
        let places: Vec<_> = (10..20).map(|n| agenda.enter(start + MS, n)).collect();
        for place in places {
            assert!(matches!(place, Place::Beside(_)));
            agenda.remove(place);
        }
        for n in 20..30 {
            agenda.enter(start + MS, n);
        }

        let due: Vec<_> = std::iter::from_fn(|| agenda.pop_due(start + MS)).collect();
        assert_eq!(due, (20..30).collect::<Vec<_>>());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Enter(u64),
        Leave(usize),
        Pass(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (0..200_u64).prop_map(Step::Enter),
            2 => (0..64_usize).prop_map(Step::Leave),
            1 => (0..40_u64).prop_map(Step::Pass),
        ];
        prop::collection::vec(step, 0..400)
    }

    proptest! {
        #[test]
        fn behaves_like_a_sorted_list(steps in steps()) {
            let start = Instant::now();
            let at = |n: u64| start + Duration::from_nanos(n);
            let mut agenda = Agenda::new();
            let (mut model, mut now) = (Vec::<(u64, usize, Place)>::new(), 0);
            for (id, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Enter(after) => {
                        let place = agenda.enter(at(now + after), id);
                        model.push((now + after, id, place));
                        model.sort_by_key(|entry| entry.0);
                    }
                    Step::Leave(n) if n < model.len() => {
                        let (_, id, place) = model.remove(n);
                        prop_assert_eq!(agenda.get_mut(place).map(|entry| entry.value), Some(id));
                        prop_assert_eq!(agenda.remove(place), Some(id));
                        prop_assert!(agenda.get_mut(place).is_none());
                    }
                    Step::Leave(_) => {}
                    Step::Pass(time) => {
                        now += time;
                        let count = model.partition_point(|entry| entry.0 <= now);
                        let mut due: Vec<_> = model.drain(..count).map(|entry| entry.1).collect();
                        let mut popped: Vec<_> =
                            std::iter::from_fn(|| agenda.pop_due(at(now))).collect();
                        due.sort_unstable();
                        popped.sort_unstable();
                        prop_assert_eq!(popped, due);
                    }
                }
                prop_assert_eq!(agenda.next(), model.first().map(|entry| at(entry.0)));
                prop_assert_eq!(agenda.is_empty(), model.is_empty());
                prop_assert_eq!(agenda.iter().count(), model.len());
            }
        }
    }
}
