//! The gates of a node, one for each key that has calls under way.
//!
//! What is known of a key is in Redis, and expires there when its bucket is full. Here is only what calls need that
//! wait, and what is left of a lease: so a gate that is idle can go at any time, and when there are as many as may be,
//! the oldest ones that are idle do. Where none of those that are looked at is, a new key shares one gate, and one bucket,
//! with all such: whoever invents keys gets one bucket's rate for them.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    hash::Hash,
    sync::Arc,
};

use stockade_core::internal::{lock, sync::Mutex};

use super::gate::{Gate, Office};

pub(crate) struct Table<K> {
    office: Arc<Office>,
    prefix: String,
    max_keys: usize,
    overflow: Arc<Gate>,
    known: Mutex<Known<K>>,
}

struct Known<K> {
    gates: HashMap<K, Arc<Gate>>,
    /// Each key of `gates` once, the one that was looked at last behind.
    turns: VecDeque<K>,
}

/// How many gates are looked at for one that is idle.
const LOOKS: usize = 8;

// === impl Table ===

impl<K> Table<K> {
    pub(crate) fn new(office: Arc<Office>, prefix: String, max_keys: usize) -> Self {
        let overflow = Arc::new(Gate::new(Arc::clone(&office), prefix.clone()));
        let known = Mutex::new(Known { gates: HashMap::new(), turns: VecDeque::new() });
        Self { office, prefix, max_keys, overflow, known }
    }
}

impl<K: Hash + Eq + Clone + fmt::Display> Table<K> {
    pub(crate) fn gate(&self, key: K) -> Arc<Gate> {
        let mut known = lock(&self.known);
        if let Some(gate) = known.gates.get(&key) {
            return Arc::clone(gate);
        }
        if known.gates.len() >= self.max_keys && !known.make_room() {
            return Arc::clone(&self.overflow);
        }
        let name = format!("{}:{key}", self.prefix);
        let gate = Arc::new(Gate::new(Arc::clone(&self.office), name));
        known.gates.insert(key.clone(), Arc::clone(&gate));
        known.turns.push_back(key);
        gate
    }
}

// === impl Known ===

impl<K: Hash + Eq> Known<K> {
    fn make_room(&mut self) -> bool {
        for _ in 0..LOOKS.min(self.turns.len()) {
            let Some(key) = self.turns.pop_front() else { return false };
            // A call that has found its gate and does not wait yet holds it, too.
            let is_idle = |gate: &Arc<Gate>| Arc::strong_count(gate) == 1 && gate.is_idle();
            if self.gates.get(&key).is_none_or(is_idle) {
                self.gates.remove(&key);
                return true;
            }
            self.turns.push_back(key);
        }
        false
    }
}
