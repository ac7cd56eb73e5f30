//! A value for each thread that runs at once.

use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread::available_parallelism,
};

/// Values that threads write to without getting in each other's way: two threads have the same one only where there are
/// more threads than processors.
///
/// Each value has cache lines of its own, two of them, because processors fetch them in pairs. There are at most 64.
///
/// # Example
///
/// ```
/// use std::sync::Mutex;
/// use stockade_core::internal::Shards;
///
/// let counts = Shards::new(|| Mutex::new(0));
/// *counts.own().lock().unwrap() += 1;
/// assert_eq!(counts.iter().map(|count| *count.lock().unwrap()).sum::<i32>(), 1);
/// ```
pub struct Shards<T>(Box<[Shard<T>]>);

#[repr(align(128))]
struct Shard<T>(T);

const MOST: usize = 64;

// === impl Shards ===

impl<T> Shards<T> {
    /// As many values as there are processors, rounded up to a power of two.
    pub fn new(make: impl Fn() -> T) -> Self {
        let threads = available_parallelism().map_or(1, usize::from);
        let shards = threads.next_power_of_two().min(MOST);
        Self((0..shards).map(|_| Shard(make())).collect())
    }

    /// That of this thread.
    #[inline]
    pub fn own(&self) -> &T {
        // The number of shards is a power of two.
        &self.0[this_thread() & (self.0.len() - 1)].0
    }

    /// Those of all threads.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|Shard(value)| value)
    }
}

impl<T: fmt::Debug> fmt::Debug for Shards<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A number of this thread. Threads that are started one after the other have numbers that follow each other.
#[inline]
fn this_thread() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    std::thread_local!(static NUMBER: usize = THREADS.fetch_add(1, Relaxed));
    // While a thread ends it has no number.
    NUMBER.try_with(|number| *number).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;

    #[test]
    fn a_thread_finds_its_value_again_and_two_values_share_no_line() {
        let shards = Shards::new(|| 0_u8);
        assert!(ptr::eq(shards.own(), shards.own()));
        let places: Vec<_> = shards.iter().map(|value| ptr::from_ref(value).addr()).collect();
        assert!(places.iter().all(|place| place % 128 == 0), "{places:?}");
        assert_eq!(places.len().count_ones(), 1);
    }
}
