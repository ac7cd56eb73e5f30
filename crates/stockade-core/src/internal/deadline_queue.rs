//! Values that are due at an instant, the earliest first. Pure: the time is passed in.
//!
//! Deadlines mostly arrive in order, because most are "now, plus one of the few durations of this stack". So
//! there are a few lines, each of which is in order, and a value joins the first one whose last value is due no
//! later. One duration needs one line; a timeout for the call and one for each attempt need two. Joining and
//! leaving a line is O(1). What fits none of them goes into an ordered map beside the lines, in O(log n).
//!
//! What happens on a paused clock depends only on what was inserted and removed, and in which order.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::{Key, Queue};

/// Values that are due at an instant, the earliest first.
#[derive(Debug)]
pub(crate) struct DeadlineQueue<T> {
    lines: [Queue<(Instant, T)>; LINES],
    /// By when they are due, and then by how many came beside the lines before them.
    beside: BTreeMap<(Instant, u64), T>,
    came: u64,
}

/// Where a value was put. It is found by that and by when it is due.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// In one of the [`LINES`].
    Line(u8, Key),
    Beside(u64),
}

const LINES: usize = 4;

// === impl DeadlineQueue ===

impl<T> DeadlineQueue<T> {
    pub(crate) const fn new() -> Self {
        Self { lines: [const { Queue::new() }; LINES], beside: BTreeMap::new(), came: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines.iter().all(Queue::is_empty) && self.beside.is_empty()
    }

    /// Inserts a value that is due at `at`.
    #[inline]
    pub(crate) fn insert(&mut self, at: Instant, value: T) -> Place {
        let in_order = |line: &Queue<(Instant, T)>| line.back().is_none_or(|(last, _)| *last <= at);
        if let Some(line) = self.lines.iter().position(in_order) {
            return Place::Line(line as u8, self.lines[line].push_back((at, value)));
        }
        self.came += 1;
        self.beside.insert((at, self.came), value);
        Place::Beside(self.came)
    }

    /// The value that is due at `at`, unless it has left.
    #[inline]
    pub(crate) fn get_mut(&mut self, at: Instant, place: Place) -> Option<&mut T> {
        match place {
            Place::Line(line, key) => {
                self.lines[usize::from(line)].get_mut(key).map(|(_, value)| value)
            }
            Place::Beside(came) => self.beside.get_mut(&(at, came)),
        }
    }

    /// Takes the value that is due at `at`, unless it has left.
    #[inline]
    pub(crate) fn remove(&mut self, at: Instant, place: Place) -> Option<T> {
        match place {
            Place::Line(line, key) => {
                self.lines[usize::from(line)].remove(key).map(|(_, value)| value)
            }
            Place::Beside(came) => self.beside.remove(&(at, came)),
        }
    }

    /// When the first value is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.first().map(|(at, _)| at)
    }

    /// Takes the first value, if `is_due` says so.
    pub(crate) fn pop_if(&mut self, is_due: impl FnOnce(Instant) -> bool) -> Option<T> {
        match self.first().filter(|(at, _)| is_due(*at))?.1 {
            Some(line) => self.lines[line].pop_front().map(|(_, value)| value),
            None => self.beside.pop_first().map(|(_, value)| value),
        }
    }

    /// When the first value is due, and in which line it is; in none if it is beside them.
    fn first(&self) -> Option<(Instant, Option<usize>)> {
        let lines = self.lines.iter().enumerate();
        let lines = lines.filter_map(|(n, line)| Some((line.front()?.0, Some(n))));
        let beside = self.beside.first_key_value().map(|((at, _), _)| (*at, None));
        lines.chain(beside).min_by_key(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_few_durations_stand_in_lines_and_nothing_beside_them() {
        let (mut queue, start) = (DeadlineQueue::new(), Instant::now());
        let mut kept = std::collections::VecDeque::new();
        for n in 0..10_000_u32 {
            // Some are a bit out of order, as when the clock was read some time before.
            let at = start + MS * (n ^ 1) + MS * [500, 100, 60_000][n as usize % 3];
            kept.push_back((at, queue.insert(at, n)));
            if kept.len() > 50 {
                let (at, place) = kept.pop_front().unwrap();
                assert!(queue.remove(at, place).is_some());
            }
        }
        assert_eq!(queue.came, 0);
    }

    #[test]
    fn what_is_due_at_the_same_instant_beside_the_lines_comes_in_its_order() {
        let (mut queue, start) = (DeadlineQueue::new(), Instant::now());
        for n in 0..10 {
            queue.insert(start + MS * (100 - n), n);
        }
        let places: Vec<_> = (10..20).map(|n| queue.insert(start + MS, n)).collect();
        for place in places {
            assert!(matches!(place, Place::Beside(_)));
            queue.remove(start + MS, place);
        }
        for n in 20..30 {
            queue.insert(start + MS, n);
        }

        let due: Vec<_> = std::iter::from_fn(|| queue.pop_if(|at| at <= start + MS)).collect();
        assert_eq!(due, (20..30).collect::<Vec<_>>());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64),
        Remove(usize),
        Pass(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (0..200_u64).prop_map(Step::Insert),
            2 => (0..64_usize).prop_map(Step::Remove),
            1 => (0..40_u64).prop_map(Step::Pass),
        ];
        prop::collection::vec(step, 0..400)
    }

    proptest! {
        #[test]
        fn behaves_like_a_sorted_list(steps in steps()) {
            let start = Instant::now();
            let at = |n: u64| start + Duration::from_nanos(n);
            let mut queue = DeadlineQueue::new();
            let (mut model, mut now) = (Vec::<(u64, usize, Place)>::new(), 0);
            for (id, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(after) => {
                        let place = queue.insert(at(now + after), id);
                        model.push((now + after, id, place));
                        model.sort_by_key(|entry| entry.0);
                    }
                    Step::Remove(n) if n < model.len() => {
                        let (due, id, place) = model.remove(n);
                        prop_assert_eq!(queue.get_mut(at(due), place).copied(), Some(id));
                        prop_assert_eq!(queue.remove(at(due), place), Some(id));
                        prop_assert!(queue.get_mut(at(due), place).is_none());
                    }
                    Step::Remove(_) => {}
                    Step::Pass(time) => {
                        now += time;
                        let count = model.partition_point(|entry| entry.0 <= now);
                        let mut due: Vec<_> = model.drain(..count).map(|entry| entry.1).collect();
                        let pop = || queue.pop_if(|due| due <= at(now));
                        let mut popped: Vec<_> = std::iter::from_fn(pop).collect();
                        due.sort_unstable();
                        popped.sort_unstable();
                        prop_assert_eq!(popped, due);
                    }
                }
                prop_assert_eq!(queue.next(), model.first().map(|entry| at(entry.0)));
                prop_assert_eq!(queue.is_empty(), model.is_empty());
            }
        }
    }
}
