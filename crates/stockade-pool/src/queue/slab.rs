//! Where values are kept, so that a key finds its value at once and a stale key finds nothing.
//!
//! The slots lie in blocks. A steady state allocates nothing, because free slots are used again; and after a peak
//! the memory comes back, because a block in which no slot is used is given back unless few slots are free.

/// Values with keys.
pub(crate) struct Slab<V> {
    /// A block that was given back has no slots.
    blocks: Vec<Block<V>>,
    /// The first free slot; the free ones are linked through `prev` and `next`.
    free: u32,
    /// How many slots are free.
    vacant: usize,
    /// How many free slots are kept although nothing is in their block.
    keep: usize,
    serial: u64,
}

struct Block<V> {
    slots: Vec<Slot<V>>,
    used: usize,
}

pub(crate) struct Slot<V> {
    serial: u64,
    /// The neighbours in the list that the slot is in.
    prev: u32,
    next: u32,
    value: Option<V>,
}

/// Names a value. Keys are never given twice, and compare in the order in which they were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    serial: u64,
    index: u32,
}

/// A list of some of the values, first in, first out, from whose middle one can leave.
#[derive(Debug)]
pub(crate) struct List {
    head: u32,
    tail: u32,
    len: usize,
}

const BLOCK: usize = 64;

/// The most free slots that are kept for a queue that could hold so many.
const KEEP: usize = 2_048;

const NONE: u32 = u32::MAX;

// === impl Slab ===

impl<V> Slab<V> {
    /// A slab that usually has up to `usual` values.
    pub(crate) fn new(usual: usize) -> Self {
        let keep = usual.min(KEEP) + BLOCK;
        Self { blocks: Vec::new(), free: NONE, vacant: 0, keep, serial: 0 }
    }

    pub(crate) fn insert(&mut self, value: V) -> Key {
        if self.free == NONE {
            self.grow();
        }
        self.serial += 1;
        let (index, serial) = (self.free, self.serial);
        let slot = self.at_mut(index);
        slot.value = Some(value);
        slot.serial = serial;
        let next = slot.next;
        self.free = next;
        if next != NONE {
            self.at_mut(next).prev = NONE;
        }
        self.vacant -= 1;
        self.blocks[index as usize / BLOCK].used += 1;
        Key { serial, index }
    }

    pub(crate) fn get(&self, key: Key) -> Option<&V> {
        let slot =
            self.blocks.get(key.index as usize / BLOCK)?.slots.get(key.index as usize % BLOCK)?;
        if slot.serial == key.serial { slot.value.as_ref() } else { None }
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut V> {
        let block = self.blocks.get_mut(key.index as usize / BLOCK)?;
        let slot = block.slots.get_mut(key.index as usize % BLOCK)?;
        if slot.serial == key.serial { slot.value.as_mut() } else { None }
    }

    /// Takes the value out. It is in no list.
    pub(crate) fn remove(&mut self, key: Key) -> Option<V> {
        self.get(key)?;
        let (index, free) = (key.index, self.free);
        let slot = self.at_mut(index);
        let value = slot.value.take();
        (slot.prev, slot.next) = (NONE, free);
        if free != NONE {
            self.at_mut(free).prev = index;
        }
        self.free = index;
        self.vacant += 1;
        let block = &mut self.blocks[index as usize / BLOCK];
        block.used -= 1;
        if block.used == 0 {
            self.shrink(index as usize / BLOCK);
        }
        value
    }

    /// All values with their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &V)> {
        let slots = self.blocks.iter().enumerate().flat_map(|(at, block)| {
            block.slots.iter().enumerate().map(move |(n, slot)| (at * BLOCK + n, slot))
        });
        slots.filter_map(|(index, slot)| {
            let key = Key { serial: slot.serial, index: index as u32 };
            slot.value.as_ref().map(|value| (key, value))
        })
    }

    #[cold]
    fn grow(&mut self) {
        let gap = self.blocks.iter().position(|block| block.slots.is_empty());
        let at = gap.unwrap_or(self.blocks.len());
        let first = u32::try_from(at * BLOCK).ok().filter(|first| *first < NONE - BLOCK as u32);
        let first = first.expect("a pool holds fewer than four billion jobs");
        let slot = |n| Slot {
            serial: 0,
            prev: if n == 0 { NONE } else { first + n - 1 },
            next: if n + 1 == BLOCK as u32 { NONE } else { first + n + 1 },
            value: None,
        };
        let block = Block { slots: (0..BLOCK as u32).map(slot).collect(), used: 0 };
        match gap {
            Some(gap) => self.blocks[gap] = block,
            None => self.blocks.push(block),
        }
        self.free = first;
        self.vacant += BLOCK;
    }

    /// Gives a block without values back: if many slots are free, or if it is beyond a gap.
    fn shrink(&mut self, at: usize) {
        let is_last = at + 1 == self.blocks.len();
        let after_gap =
            at.checked_sub(1).is_some_and(|before| self.blocks[before].slots.is_empty());
        if self.vacant > self.keep || (is_last && after_gap) {
            // The last one, if it can be, so that no gaps have to be kept.
            let last = self.blocks.len() - 1;
            self.give_back(if self.blocks[last].used == 0 { last } else { at });
        }
    }

    #[cold]
    fn give_back(&mut self, at: usize) {
        for index in at * BLOCK..(at + 1) * BLOCK {
            let Slot { prev, next, .. } = *self.at_mut(index as u32);
            match prev {
                NONE => self.free = next,
                prev => self.at_mut(prev).next = next,
            }
            if next != NONE {
                self.at_mut(next).prev = prev;
            }
        }
        self.vacant -= BLOCK;
        self.blocks[at].slots = Vec::new();
        while self.blocks.pop_if(|block| block.slots.is_empty()).is_some() {}
        if self.blocks.len() < self.blocks.capacity() / 4 {
            self.blocks.shrink_to(2 * self.blocks.len());
        }
    }

    fn at(&self, index: u32) -> &Slot<V> {
        &self.blocks[index as usize / BLOCK].slots[index as usize % BLOCK]
    }

    fn at_mut(&mut self, index: u32) -> &mut Slot<V> {
        &mut self.blocks[index as usize / BLOCK].slots[index as usize % BLOCK]
    }
}

// === impl List ===

impl List {
    pub(crate) const fn new() -> Self {
        Self { head: NONE, tail: NONE, len: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Adds a value, which is in no list, as the last.
    pub(crate) fn push_back<V>(&mut self, slab: &mut Slab<V>, key: Key) {
        let slot = slab.at_mut(key.index);
        (slot.prev, slot.next) = (self.tail, NONE);
        match self.tail {
            NONE => self.head = key.index,
            tail => slab.at_mut(tail).next = key.index,
        }
        self.tail = key.index;
        self.len += 1;
    }

    /// Takes a value, which is in this list, out of it.
    pub(crate) fn remove<V>(&mut self, slab: &mut Slab<V>, key: Key) {
        let Slot { prev, next, .. } = *slab.at_mut(key.index);
        match prev {
            NONE => self.head = next,
            prev => slab.at_mut(prev).next = next,
        }
        match next {
            NONE => self.tail = prev,
            next => slab.at_mut(next).prev = prev,
        }
        self.len -= 1;
    }

    pub(crate) fn front<V>(&self, slab: &Slab<V>) -> Option<Key> {
        let index = self.head;
        (index != NONE).then(|| Key { serial: slab.at(index).serial, index })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_vector_from_whose_middle_one_can_leave(
            steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..600),
        ) {
            let (mut slab, mut list) = (Slab::new(0), List::new());
            let (mut model, mut gone) = (Vec::new(), Vec::new());
            for (n, (leaves, at)) in steps.into_iter().enumerate() {
                if leaves && !model.is_empty() {
                    let (key, value) = model.remove(at.index(model.len()));
                    list.remove(&mut slab, key);
                    prop_assert_eq!(slab.remove(key), Some(value));
                    gone.push(key);
                } else {
                    let key = slab.insert(n);
                    list.push_back(&mut slab, key);
                    model.push((key, n));
                }
                prop_assert_eq!(list.len(), model.len());
                prop_assert_eq!(list.front(&slab), model.first().map(|(key, _)| *key));
                prop_assert_eq!(slab.iter().count(), model.len());
            }
            for (key, value) in model {
                prop_assert_eq!(slab.get(key), Some(&value));
            }
            prop_assert!(gone.iter().all(|key| slab.get(*key).is_none()));
        }
    }

    #[test]
    fn after_a_peak_the_memory_comes_back_whatever_the_order_in_which_values_leave() {
        for reversed in [false, true] {
            let mut slab = Slab::new(100);
            let mut keys: Vec<Key> = (0..100_000).map(|n| slab.insert(n)).collect();
            if reversed {
                keys.reverse();
            }
            let kept = keys.pop().unwrap();
            keys.into_iter().for_each(|key| assert!(slab.remove(key).is_some()));
            let slots: usize = slab.blocks.iter().map(|block| block.slots.len()).sum();
            assert!(slots <= 4 * BLOCK, "{slots}");
            assert!(slab.get(kept).is_some());
            slab.remove(kept);
            assert!(slab.blocks.len() <= 4, "{}", slab.blocks.len());
        }
    }
}
