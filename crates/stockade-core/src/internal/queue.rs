//! A FIFO queue that one can leave from the middle.
//!
//! Values stand in a ring buffer, in the order of their keys, which count up and are never used again: a key
//! whose value has left finds nothing. For a waiter, "my key finds nothing" *is* the news that it was served.
//!
//! Leaving from the middle leaves a gap. Gaps at the ends go at once; the others are closed when there are more
//! gaps than values. So joining, leaving and taking the head are O(1) on average. A key is found by its distance
//! from the head or from the end, or by binary search where gaps have been closed on both sides. The buffer
//! shrinks after a peak: its size is bounded by the number of values that are in the queue.

use std::{collections::VecDeque, fmt, num::NonZeroU64};

/// A FIFO queue that one can leave from the middle.
pub struct Queue<T> {
    slots: VecDeque<Slot<T>>,
    /// The number of slots that hold a value. The first and the last slot always do.
    len: usize,
    next_key: NonZeroU64,
}

/// Identifies a value in a [`Queue`]. Keys are never used again, and later values have greater ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(NonZeroU64);

struct Slot<T> {
    key: Key,
    value: Option<T>,
}

/// Fewer slots than this are not worth the work of closing gaps, or of shrinking.
const FEW: usize = 32;

// === impl Queue ===

impl<T> Queue<T> {
    /// An empty queue, which allocates nothing yet.
    pub const fn new() -> Self {
        Self { slots: VecDeque::new(), len: 0, next_key: NonZeroU64::MIN }
    }

    /// The number of values in the queue.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing in the queue.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Joins at the end.
    #[inline]
    pub fn push_back(&mut self, value: T) -> Key {
        let key = Key(self.next_key);
        // 2^64 values take longer than any process lives.
        self.next_key = self.next_key.saturating_add(1);
        self.slots.push_back(Slot { key, value: Some(value) });
        self.len += 1;
        key
    }

    /// The values, from the head on.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.value.as_ref())
    }

    /// The value at the head.
    #[inline]
    pub fn front(&self) -> Option<&T> {
        self.slots.front()?.value.as_ref()
    }

    /// The value at the end.
    #[inline]
    pub fn back(&self) -> Option<&T> {
        self.slots.back()?.value.as_ref()
    }

    /// The key of the head.
    pub fn front_key(&self) -> Option<Key> {
        Some(self.slots.front()?.key)
    }

    /// Takes the value at the head.
    #[inline]
    pub fn pop_front(&mut self) -> Option<T> {
        let head = self.slots.pop_front()?;
        self.len -= 1;
        while self.slots.front().is_some_and(|slot| slot.value.is_none()) {
            self.slots.pop_front();
        }
        self.tidy();
        head.value
    }

    /// The value at `key`, unless it has left.
    pub fn get(&self, key: Key) -> Option<&T> {
        self.slots.get(self.find(key)?)?.value.as_ref()
    }

    /// The value at `key`, unless it has left, to be changed.
    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let index = self.find(key)?;
        self.slots.get_mut(index)?.value.as_mut()
    }

    /// Takes the value at `key`, unless it has left.
    #[inline]
    pub fn remove(&mut self, key: Key) -> Option<T> {
        match self.find(key)? {
            0 => self.pop_front(),
            index => self.take(index),
        }
    }

    /// The index of the slot of `key`, if it is still there.
    #[inline]
    fn find(&self, key: Key) -> Option<usize> {
        let distance = key.0.get().checked_sub(self.slots.front()?.key.0.get())?;
        let index = usize::try_from(distance).ok()?;
        // Exact unless gaps before it have been closed.
        let is_there = self.slots.get(index).is_some_and(|slot| slot.key == key);
        if is_there { Some(index) } else { self.find_behind_closed_gaps(key) }
    }

    #[cold]
    fn find_behind_closed_gaps(&self, key: Key) -> Option<usize> {
        let distance = self.slots.back()?.key.0.get().checked_sub(key.0.get())?;
        let index = (self.slots.len() - 1).checked_sub(usize::try_from(distance).ok()?);
        // Exact unless gaps after it have been closed.
        index
            .filter(|index| self.slots.get(*index).is_some_and(|slot| slot.key == key))
            .or_else(|| self.slots.binary_search_by_key(&key, |slot| slot.key).ok())
    }

    /// Takes the value at `index`, which is not the head.
    fn take(&mut self, index: usize) -> Option<T> {
        let value = self.slots.get_mut(index)?.value.take()?;
        self.len -= 1;
        while self.slots.back().is_some_and(|slot| slot.value.is_none()) {
            self.slots.pop_back();
        }
        self.tidy();
        Some(value)
    }

    /// Closes the gaps when there are more of them than values, and gives back what a peak has left.
    #[inline]
    fn tidy(&mut self) {
        if self.slots.capacity() <= FEW {
            return;
        }
        if self.slots.len() > 2 * self.len + FEW {
            self.slots.retain(|slot| slot.value.is_some());
        }
        if self.slots.len() < self.slots.capacity() / 4 {
            self.slots.shrink_to(self.slots.len() * 2);
        }
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_whose_value_has_left_finds_nothing_although_others_have_come() {
        let mut queue = Queue::new();
        let first = queue.push_back(1);
        assert_eq!(queue.pop_front(), Some(1));
        let second = queue.push_back(2);
        assert_eq!(queue.remove(first), None);
        assert_eq!(queue.get_mut(second), Some(&mut 2));
    }

    #[test]
    fn the_buffer_is_bounded_by_what_is_in_the_queue_and_not_by_what_was() {
        let mut queue = Queue::new();
        let bound = |queue: &Queue<u32>| assert!(queue.slots.capacity() <= 8 * queue.len() + 256);
        // The head and every thousandth value stay.
        let mut keys: Vec<_> = (0..200_000).map(|n| queue.push_back(n)).collect();
        let stay: Vec<_> = keys.iter().step_by(1_000).copied().collect();
        fastrand::Rng::with_seed(7).shuffle(&mut keys);
        for key in keys.into_iter().filter(|key| stay.binary_search(key).is_err()) {
            assert!(queue.remove(key).is_some());
            bound(&queue);
        }
        for (at, key) in stay.iter().enumerate() {
            assert_eq!(queue.get(*key), Some(&(at as u32 * 1_000)));
        }
        // One that stays at the head for ever, and many that pass behind it.
        for n in 0..200_000 {
            let key = queue.push_back(n);
            assert_eq!(queue.remove(key), Some(n));
        }
        bound(&queue);
        while queue.pop_front().is_some() {}
        bound(&queue);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u8),
        Pop,
        Remove(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            16 => any::<u8>().prop_map(Step::Push),
            1 => Just(Step::Pop),
            8 => (0..200_usize).prop_map(Step::Remove),
        ];
        prop::collection::vec(step, 0..600)
    }

    proptest! {
        #[test]
        fn behaves_like_a_vector(steps in steps()) {
            let mut queue = Queue::new();
            let mut model: Vec<(Key, u8)> = Vec::new();
            for step in steps {
                match step {
                    Step::Push(value) => model.push((queue.push_back(value), value)),
                    Step::Pop => {
                        let expected = (!model.is_empty()).then(|| model.remove(0).1);
                        prop_assert_eq!(queue.pop_front(), expected);
                    }
                    Step::Remove(at) if at < model.len() => {
                        let (key, value) = model.remove(at);
                        prop_assert_eq!(queue.remove(key), Some(value));
                        prop_assert_eq!(queue.remove(key), None);
                    }
                    Step::Remove(_) => {}
                }
                prop_assert_eq!(queue.len(), model.len());
                prop_assert_eq!(queue.back(), model.last().map(|(_, value)| value));
                prop_assert_eq!(queue.front(), model.first().map(|(_, value)| value));
                prop_assert_eq!(queue.front_key(), model.first().map(|(key, _)| *key));
                for (key, value) in &model {
                    prop_assert_eq!(queue.get(*key), Some(value));
                }
                prop_assert!(queue.iter().eq(model.iter().map(|(_, value)| value)));
            }
            for (_, value) in model {
                prop_assert_eq!(queue.pop_front(), Some(value));
            }
            prop_assert!(queue.is_empty());
        }
    }
}
