//! Where values are kept, so that a key finds its value at once and a stale key finds nothing.
//!
//! The slots lie in blocks. A value is written and read where it lies, field by field, because to move a whole one costs
//! more than the lock. A steady state allocates nothing, because free slots are used again; and after a peak the memory
//! comes back: when most slots are free, the blocks without a value are given back.

/// Values with keys. A free slot has a value too, which means nothing.
pub(crate) struct Slab<V> {
    /// A block that was given back has no slots.
    blocks: Vec<Vec<Slot<V>>>,
    /// The blocks without slots.
    given_back: Vec<u32>,
    /// The first free slot; the free ones are linked through `next`.
    free: u32,
    /// How many slots there are, and how many have a value.
    slots: usize,
    used: usize,
    /// How many slots more than twice the used ones are kept.
    keep: usize,
    /// What is kept for a queue that usually has so many jobs.
    usual: usize,
    serial: u64,
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
    /// As the how many-eth it was given.
    pub(super) const fn serial(self) -> u64 {
        self.serial
    }
}

// === impl Slab ===

impl<V: Default> Slab<V> {
    /// A slab that usually has up to `usual` values.
    pub(crate) fn new(usual: usize) -> Self {
        let usual = usual.min(KEEP) + BLOCK as usize;
        Self {
            blocks: Vec::new(),
            given_back: Vec::new(),
            free: NONE,
            slots: 0,
            used: 0,
            keep: usual,
            usual,
            serial: 0,
        }
    }

    /// Uses a free slot. What is in it is to be overwritten.
    pub(crate) fn claim(&mut self) -> (Key, &mut V) {
        if self.free == NONE {
            self.add_block();
        }
        let index = self.free;
        let slot = &mut self.blocks[(index / BLOCK) as usize][(index % BLOCK) as usize];
        self.free = slot.next;
        self.used += 1;
        self.serial += 1;
        slot.serial = self.serial;
        (Key { serial: self.serial, index }, &mut slot.value)
    }

    pub(crate) fn get(&self, key: Key) -> Option<&V> {
        let block = self.blocks.get((key.index / BLOCK) as usize)?;
        let slot = block.get((key.index % BLOCK) as usize)?;
        if slot.serial == key.serial { Some(&slot.value) } else { None }
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut V> {
        let block = self.blocks.get_mut((key.index / BLOCK) as usize)?;
        let slot = block.get_mut((key.index % BLOCK) as usize)?;
        if slot.serial == key.serial { Some(&mut slot.value) } else { None }
    }

    /// Lets a slot go whose value has been emptied, and which is in no list.
    pub(crate) fn release(&mut self, key: Key) {
        self.release_with(key, |_| ());
    }

    /// The same, where `take` empties it. That is done last, so that what it takes is moved once.
    pub(crate) fn release_with<R>(&mut self, key: Key, take: impl FnOnce(&mut V) -> R) -> R {
        let free = std::mem::replace(&mut self.free, key.index);
        self.used -= 1;
        let is_sparse = self.used == 0 && !self.given_back.is_empty();
        let is_large = self.slots > 2 * self.used + self.keep || is_sparse;
        let slot = self.at_mut(key.index);
        (slot.serial, slot.next) = (0, free);
        if is_large {
            let taken = take(&mut slot.value);
            self.shrink();
            return taken;
        }
        take(&mut slot.value)
    }

    /// Takes a value out. It is in no list.
    pub(crate) fn remove(&mut self, key: Key) -> Option<V> {
        self.get(key)?;
        Some(self.release_with(key, std::mem::take))
    }

    /// All values with their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &V)> {
        let blocks = self.blocks.iter().zip(0..);
        let slots = blocks.flat_map(|(block, at)| block.iter().zip(at * BLOCK..));
        slots
            .filter(|(slot, _)| slot.serial != 0)
            .map(|(slot, index)| (Key { serial: slot.serial, index }, &slot.value))
    }

    #[cold]
    fn add_block(&mut self) {
        let at = self.given_back.pop().unwrap_or_else(|| {
            self.blocks.push(Vec::new());
            self.blocks.len() as u32 - 1
        });
        assert!(at < NONE / BLOCK, "a pool holds fewer than four billion jobs");
        let next = |index| if index % BLOCK == BLOCK - 1 { NONE } else { index + 1 };
        let slot = |index| Slot { serial: 0, prev: NONE, next: next(index), value: V::default() };
        self.free = at * BLOCK;
        self.blocks[at as usize] = (self.free..self.free + BLOCK).map(slot).collect();
        self.slots += BLOCK as usize;
    }

    /// Gives the blocks without a value back. What stays free in the others is kept beside the usual, so it is long until
    /// this is done again.
    #[cold]
    fn shrink(&mut self) {
        for block in &mut self.blocks {
            if block.iter().all(|slot| slot.serial == 0) {
                *block = Vec::new();
            }
        }
        while self.blocks.pop_if(|block| block.is_empty()).is_some() {}
        self.blocks.shrink_to_fit();
        self.given_back.clear();
        (self.free, self.slots) = (NONE, 0);
        for (block, at) in self.blocks.iter_mut().zip(0..) {
            if block.is_empty() {
                self.given_back.push(at);
            }
            self.slots += block.len();
            for (slot, index) in block.iter_mut().zip(at * BLOCK..) {
                if slot.serial == 0 {
                    slot.next = self.free;
                    self.free = index;
                }
            }
        }
        let vacant = self.slots - self.used;
        self.keep = self.usual + vacant;
    }

    fn at(&self, index: u32) -> &Slot<V> {
        &self.blocks[(index / BLOCK) as usize][(index % BLOCK) as usize]
    }

    fn at_mut(&mut self, index: u32) -> &mut Slot<V> {
        &mut self.blocks[(index / BLOCK) as usize][(index % BLOCK) as usize]
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
            let slots: usize = slab.blocks.iter().map(Vec::len).sum();
            assert!(slots <= 4 * BLOCK as usize, "{slots}");
            assert!(slab.get(kept).is_some());
            slab.remove(kept);
            assert!(slab.blocks.len() <= 4, "{}", slab.blocks.len());
        }
    }
}
