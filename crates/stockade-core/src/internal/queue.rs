//! A FIFO queue from whose middle one can leave.
//!
//! A doubly linked list whose nodes live in a slab: entering, leaving from anywhere and taking the
//! head are all O(1), and in a steady state nothing is allocated. A [`Key`] carries the generation of
//! its slot, so a key whose value has left finds nothing, even when the slot is used again: for a
//! waiter, "my key finds nothing" *is* the news that it has been served.

use std::fmt;

/// A FIFO queue from whose middle one can leave.
pub struct Queue<T> {
    slots: Vec<Slot<T>>,
    head: u32,
    tail: u32,
    /// The first slot of the free list, which is linked through `next`.
    free: u32,
    len: usize,
}

/// A place in a [`Queue`]. Its order means nothing; it is there so that ordered collections can hold keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    index: u32,
    generation: u32,
}

struct Slot<T> {
    value: Option<T>,
    generation: u32,
    prev: u32,
    next: u32,
}

const NONE: u32 = u32::MAX;

// === impl Queue ===

impl<T> Queue<T> {
    /// An empty queue, which allocates nothing yet.
    pub const fn new() -> Self {
        Self { slots: Vec::new(), head: NONE, tail: NONE, free: NONE, len: 0 }
    }

    /// The number of values in the queue.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing in the queue.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Enters at the end.
    ///
    /// # Panics
    ///
    /// Beyond `u32::MAX - 1` values.
    pub fn push_back(&mut self, value: T) -> Key {
        self.link_after(self.tail, value)
    }

    /// Enters in order: behind the last value that is not greater by `key`, if at most `steps` values have to be
    /// passed for it. Values that arrive in order, as the deadlines of one duration do, pass none.
    ///
    /// # Errors
    ///
    /// The value, if it would have to pass more.
    ///
    /// # Panics
    ///
    /// Beyond `u32::MAX - 1` values.
    #[inline]
    pub fn push_by_key<K: Ord>(
        &mut self,
        value: T,
        key: impl Fn(&T) -> K,
        steps: usize,
    ) -> Result<Key, T> {
        let new = key(&value);
        let mut after = self.tail;
        for _ in 0..=steps {
            match self.slots.get(after as usize).and_then(|slot| Some((slot, slot.value.as_ref()?)))
            {
                Some((slot, old)) if key(old) > new => after = slot.prev,
                _ => return Ok(self.link_after(after, value)),
            }
        }
        Err(value)
    }

    /// The values, from the head on.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let slot = |index: u32| self.slots.get(index as usize);
        std::iter::successors(slot(self.head), move |at| slot(at.next))
            .filter_map(|slot| slot.value.as_ref())
    }

    /// The value at the head.
    pub fn front(&self) -> Option<&T> {
        self.slots.get(self.head as usize)?.value.as_ref()
    }

    /// The key of the head.
    pub fn front_key(&self) -> Option<Key> {
        let slot = self.slots.get(self.head as usize)?;
        Some(Key { index: self.head, generation: slot.generation })
    }

    /// Takes the value at the head.
    pub fn pop_front(&mut self) -> Option<T> {
        (self.head != NONE).then(|| self.unlink(self.head)).flatten()
    }

    /// Takes the value at the end.
    pub fn pop_back(&mut self) -> Option<T> {
        (self.tail != NONE).then(|| self.unlink(self.tail)).flatten()
    }

    /// Takes the values that `matches` picks, from the head on.
    pub fn extract(&mut self, mut matches: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        let mut at = self.head;
        while let Some(slot) = self.slots.get(at as usize) {
            let next = slot.next;
            if slot.value.as_ref().is_some_and(&mut matches) {
                taken.extend(self.unlink(at));
            }
            at = next;
        }
        taken
    }

    /// The value at `key`, unless it has left.
    pub fn get(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.index as usize)?;
        if slot.generation == key.generation { slot.value.as_ref() } else { None }
    }

    /// The value at `key`, unless it has left, to be changed.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation { slot.value.as_mut() } else { None }
    }

    /// Takes the value at `key`, unless it has left.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        self.get_mut(key)?;
        self.unlink(key.index)
    }

    fn link_after(&mut self, prev: u32, value: T) -> Key {
        let next = match self.slots.get(prev as usize) {
            Some(slot) => slot.next,
            None => self.head,
        };
        let index = self.occupy(value, prev, next);
        match self.slots.get_mut(prev as usize) {
            Some(slot) => slot.next = index,
            None => self.head = index,
        }
        match self.slots.get_mut(next as usize) {
            Some(slot) => slot.prev = index,
            None => self.tail = index,
        }
        self.len += 1;
        Key { index, generation: self.slots[index as usize].generation }
    }

    fn occupy(&mut self, value: T, prev: u32, next: u32) -> u32 {
        if let Some(slot) = self.slots.get_mut(self.free as usize) {
            let index = self.free;
            self.free = slot.next;
            slot.value = Some(value);
            (slot.prev, slot.next) = (prev, next);
            return index;
        }
        let index = u32::try_from(self.slots.len()).ok().filter(|&index| index != NONE);
        let index = index.expect("a queue holds fewer than u32::MAX values");
        self.slots.push(Slot { value: Some(value), generation: 0, prev, next });
        index
    }

    fn unlink(&mut self, index: u32) -> Option<T> {
        let slot = &mut self.slots[index as usize];
        let value = slot.value.take()?;
        let (prev, next) = (slot.prev, slot.next);
        slot.generation = slot.generation.wrapping_add(1);
        slot.next = self.free;
        self.free = index;
        match self.slots.get_mut(prev as usize) {
            Some(slot) => slot.next = next,
            None => self.head = next,
        }
        match self.slots.get_mut(next as usize) {
            Some(slot) => slot.prev = prev,
            None => self.tail = prev,
        }
        self.len -= 1;
        Some(value)
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
    fn a_key_whose_value_has_left_finds_nothing_although_the_slot_is_used_again() {
        let mut queue = Queue::new();
        let first = queue.push_back(1);
        assert_eq!(queue.pop_front(), Some(1));
        let second = queue.push_back(2);
        assert_eq!(first.index, second.index);
        assert_eq!(queue.remove(first), None);
        assert_eq!(queue.get_mut(second), Some(&mut 2));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u8),
        PushSorted(u8),
        Pop,
        PopBack,
        ExtractEven,
        Remove(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            any::<u8>().prop_map(Step::Push),
            any::<u8>().prop_map(Step::PushSorted),
            Just(Step::Pop),
            Just(Step::PopBack),
            Just(Step::ExtractEven),
            (0..12usize).prop_map(Step::Remove),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn behaves_like_a_vector(steps in steps()) {
            let mut queue = Queue::new();
            let mut model: Vec<(Key, u8)> = Vec::new();
            for step in steps {
                match step {
                    Step::Push(value) => model.push((queue.push_back(value), value)),
                    Step::PushSorted(value) => {
                        let at = model.iter().rposition(|(_, old)| *old <= value).map_or(0, |i| i + 1);
                        match queue.push_by_key(value, |v| *v, 5) {
                            Ok(key) => model.insert(at, (key, value)),
                            Err(left) => prop_assert!(left == value && model.len() - at > 5),
                        }
                    }
                    Step::Pop => {
                        let expected = (!model.is_empty()).then(|| model.remove(0).1);
                        prop_assert_eq!(queue.pop_front(), expected);
                    }
                    Step::PopBack => {
                        let expected = model.pop().map(|(_, value)| value);
                        prop_assert_eq!(queue.pop_back(), expected);
                    }
                    Step::ExtractEven => {
                        let (even, odd): (Vec<_>, Vec<_>) =
                            model.into_iter().partition(|(_, value)| value % 2 == 0);
                        let even: Vec<u8> = even.into_iter().map(|(_, value)| value).collect();
                        prop_assert_eq!(queue.extract(|value| value % 2 == 0), even);
                        model = odd;
                    }
                    Step::Remove(at) if at < model.len() => {
                        let (key, value) = model.remove(at);
                        prop_assert_eq!(queue.remove(key), Some(value));
                        prop_assert_eq!(queue.remove(key), None);
                    }
                    Step::Remove(_) => {}
                }
                prop_assert_eq!(queue.len(), model.len());
                prop_assert_eq!(queue.front(), model.first().map(|(_, value)| value));
                prop_assert_eq!(queue.front_key(), model.first().map(|(key, _)| *key));
                prop_assert!(queue.iter().eq(model.iter().map(|(_, value)| value)));
            }
            for (_, value) in model {
                prop_assert_eq!(queue.pop_front(), Some(value));
            }
            prop_assert!(queue.is_empty());
        }
    }
}
