//! Where values are kept, so that a key finds its value at once and a stale key finds nothing.
//!
//! The slots lie in blocks. A value is written and read where it lies, field by field, because to move a whole one costs
//! more than the lock. A steady state allocates nothing, because free slots are used again; and after a peak the memory
//! comes back, because a block in which no slot is used is given back unless few slots are free.

/// Values with keys. A free slot has a value too, which means nothing.
pub(crate) struct Slab<V> {
    /// A block that was given back has no slots.
    blocks: Vec<Block<V>>,
    /// The blocks with a free slot, each once; the last is the next to be used.
    open: Vec<u32>,
    /// How many blocks have slots, and how many of these slots are free.
    filled: usize,
    vacant: usize,
    /// How many free slots are kept although nothing is in their block.
    keep: usize,
    serial: u64,
}

struct Block<V> {
    slots: Vec<Slot<V>>,
    /// The first free slot; the free ones are linked through `next`.
    free: u32,
    used: u32,
}

struct Slot<V> {
    /// 0 while it is free.
    serial: u64,
    /// The neighbours in the list that the slot is in.
    prev: u32,
    next: u32,
    value: V,
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

const BLOCK: u32 = 64;

/// The most free slots that are kept for a queue that could hold so many.
const KEEP: usize = 2_048;

const NONE: u32 = u32::MAX;

// === impl Key ===

impl Key {
    /// How many keys had been given when this one was, with itself.
    pub(super) const fn serial(self) -> u64 {
        self.serial
    }
}

// === impl Slab ===

impl<V: Default> Slab<V> {
    /// A slab that usually has up to `usual` values.
    pub(crate) fn new(usual: usize) -> Self {
        let keep = usual.min(KEEP) + BLOCK as usize;
        Self { blocks: Vec::new(), open: Vec::new(), filled: 0, vacant: 0, keep, serial: 0 }
    }

    /// Uses a free slot. What is in it is to be overwritten.
    #[inline(always)]
    pub(crate) fn claim(&mut self) -> (Key, &mut V) {
        if self.open.last().is_none_or(|at| self.blocks[*at as usize].slots.is_empty()) {
            self.open_block();
        }
        let at = *self.open.last().expect("a block with a free slot was made");
        self.serial += 1;
        self.vacant -= 1;
        let block = &mut self.blocks[at as usize];
        let index = at * BLOCK + block.free;
        let slot = &mut block.slots[block.free as usize];
        slot.serial = self.serial;
        block.free = slot.next;
        block.used += 1;
        if block.free == NONE {
            self.open.pop();
        }
        (Key { serial: self.serial, index }, &mut slot.value)
    }

    #[inline]
    pub(crate) fn get(&self, key: Key) -> Option<&V> {
        let block = self.blocks.get((key.index / BLOCK) as usize)?;
        let slot = block.slots.get((key.index % BLOCK) as usize)?;
        if slot.serial == key.serial { Some(&slot.value) } else { None }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut V> {
        let block = self.blocks.get_mut((key.index / BLOCK) as usize)?;
        let slot = block.slots.get_mut((key.index % BLOCK) as usize)?;
        if slot.serial == key.serial { Some(&mut slot.value) } else { None }
    }

    /// Lets a slot go whose value has been emptied, and which is in no list.
    #[inline(always)]
    pub(crate) fn release(&mut self, key: Key) {
        self.release_with(key, |_| ());
    }

    /// The same, where `take` empties it. That is done last, so that what it takes is moved once.
    #[inline(always)]
    pub(crate) fn release_with<R>(&mut self, key: Key, take: impl FnOnce(&mut V) -> R) -> R {
        let at = key.index / BLOCK;
        let block = &mut self.blocks[at as usize];
        let slot = &mut block.slots[(key.index % BLOCK) as usize];
        (slot.serial, slot.next) = (0, block.free);
        if block.free == NONE {
            self.open.push(at);
        }
        block.free = key.index % BLOCK;
        block.used -= 1;
        self.vacant += 1;
        if block.used == 0 && (self.vacant > self.keep || self.is_end_of_sparse(at)) {
            let taken = take(&mut self.at_mut(key.index).value);
            self.give_back(at);
            return taken;
        }
        take(&mut self.at_mut(key.index).value)
    }

    /// Takes a value out. It is in no list.
    pub(crate) fn remove(&mut self, key: Key) -> Option<V> {
        self.get(key)?;
        Some(self.release_with(key, std::mem::take))
    }

    /// All values with their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &V)> {
        let blocks = self.blocks.iter().zip(0..);
        let slots = blocks.flat_map(|(block, at)| block.slots.iter().zip(at * BLOCK..));
        slots
            .filter(|(slot, _)| slot.serial != 0)
            .map(|(slot, index)| (Key { serial: slot.serial, index }, &slot.value))
    }

    /// Makes a block with free slots the next to be used.
    #[cold]
    fn open_block(&mut self) {
        let has_slots = |at: &u32| !self.blocks[*at as usize].slots.is_empty();
        let last = self.open.len().saturating_sub(1);
        match self.open.iter().rposition(has_slots) {
            Some(other) => self.open.swap(other, last),
            None => self.fill_block(),
        }
    }

    /// Makes free slots in a block that has none.
    fn fill_block(&mut self) {
        let len = self.blocks.len();
        let at = self.open.last().copied().unwrap_or(len as u32);
        if at as usize == len {
            assert!(len < (NONE / BLOCK) as usize, "a pool holds fewer than four billion jobs");
            self.blocks.push(Block::empty());
            self.open.push(at);
        }
        let next = |n| if n + 1 == BLOCK { NONE } else { n + 1 };
        let slot = |n| Slot { serial: 0, prev: NONE, next: next(n), value: V::default() };
        let block = &mut self.blocks[at as usize];
        (block.slots, block.free) = ((0..BLOCK).map(slot).collect(), 0);
        self.filled += 1;
        self.vacant += BLOCK as usize;
    }

    /// Whether this is the last block, and most of those before it have no slots.
    fn is_end_of_sparse(&self, at: u32) -> bool {
        at as usize + 1 == self.blocks.len() && self.blocks.len() > 4 * self.filled
    }

    /// Gives back a block without values: the last one if it can be, so that the list of blocks gets shorter.
    #[cold]
    fn give_back(&mut self, at: u32) {
        let last = self.blocks.len() - 1;
        let is_unused = |block: &Block<V>| block.used == 0 && !block.slots.is_empty();
        let at = if is_unused(&self.blocks[last]) { last } else { at as usize };
        self.blocks[at] = Block::empty();
        self.filled -= 1;
        self.vacant -= BLOCK as usize;
        let is_empty = |block: &mut Block<V>| block.slots.is_empty();
        if self.blocks.len() > 4 * self.filled && self.blocks.pop_if(is_empty).is_some() {
            while self.blocks.pop_if(is_empty).is_some() {}
            let len = self.blocks.len();
            self.open.retain(|at| (*at as usize) < len);
            self.blocks.shrink_to(2 * len);
            self.open.shrink_to(2 * len);
        }
    }

    #[inline]
    fn at(&self, index: u32) -> &Slot<V> {
        &self.blocks[(index / BLOCK) as usize].slots[(index % BLOCK) as usize]
    }

    #[inline]
    fn at_mut(&mut self, index: u32) -> &mut Slot<V> {
        &mut self.blocks[(index / BLOCK) as usize].slots[(index % BLOCK) as usize]
    }
}

// === impl Block ===

impl<V> Block<V> {
    const fn empty() -> Self {
        Self { slots: Vec::new(), free: NONE, used: 0 }
    }
}

// === impl List ===

impl List {
    pub(crate) const fn new() -> Self {
        Self { head: NONE, tail: NONE, len: 0 }
    }

    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Adds a value, which is in no list, as the last.
    #[inline]
    pub(crate) fn push_back<V: Default>(&mut self, slab: &mut Slab<V>, key: Key) {
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
    #[inline(always)]
    pub(crate) fn remove<V: Default>(&mut self, slab: &mut Slab<V>, key: Key) {
        let Slot { prev, next, .. } = *slab.at(key.index);
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

    #[inline]
    pub(crate) fn front<V: Default>(&self, slab: &Slab<V>) -> Option<Key> {
        let index = self.head;
        if index == NONE { None } else { Some(Key { serial: slab.at(index).serial, index }) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn insert(slab: &mut Slab<usize>, value: usize) -> Key {
        let (key, slot) = slab.claim();
        *slot = value;
        key
    }

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
                    let key = insert(&mut slab, n);
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
            let mut keys: Vec<Key> = (0..100_000).map(|n| insert(&mut slab, n)).collect();
            if reversed {
                keys.reverse();
            }
            let kept = keys.pop().unwrap();
            keys.into_iter().for_each(|key| assert!(slab.remove(key).is_some()));
            let slots: usize = slab.blocks.iter().map(|block| block.slots.len()).sum();
            assert!(slots <= 4 * BLOCK as usize, "{slots}");
            assert!(slab.get(kept).is_some());
            slab.remove(kept);
            assert!(slab.blocks.len() <= 4, "{}", slab.blocks.len());
        }
    }
}
