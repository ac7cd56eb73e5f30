//! Where a thread counts.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};
use std::time::Duration;

use stockade_core::{
    Reason,
    internal::{Refusals, Shards, lock, sync::Mutex},
};
use tokio::time::Instant;

use super::window::{Sum, Window};
use crate::family::Distribution;

/// What the clones of a layer, its services and its handle share: a shard for each thread that runs at once.
///
/// A call holds its shard, so the references to a shard beside the one here are its calls in flight.
#[derive(Debug)]
pub(crate) struct Shared {
    shards: Shards<Arc<Shard>>,
    enabled: AtomicBool,
}

/// What the calls of one thread came to. It has cache lines of its own, as its references in [`Shards`] have.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Shard {
    counted: Mutex<Counted>,
    refusals: Refusals,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Success,
    Permanent,
    Transient,
    Overload,
    NoEffect,
    Ignored,
    /// A layer inside refused it.
    Refused,
    /// Nobody waited for the answer, or there was a panic.
    Dropped,
}

/// What a shard has counted since it was made, and the durations of late.
#[derive(Debug)]
struct Counted {
    tally: Tally,
    window: Window,
}

/// Numbers of endings, and the durations of the calls that were answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) endings: [u64; 8],
    pub(crate) attempts: u64,
    /// By [`BOUNDS`], and one for what is longer.
    pub(crate) durations: [u64; BOUNDS.len() + 1],
    /// In nanoseconds.
    pub(crate) sum: u64,
}

/// In nanoseconds: the buckets that OpenTelemetry's conventions advise for `http.client.request.duration`.
const BOUNDS: [u64; 14] = {
    let in_millis = [5, 10, 25, 50, 75, 100, 250, 500, 750, 1_000, 2_500, 5_000, 7_500, 10_000];
    let mut bounds = in_millis;
    let mut place = 0;
    while place < bounds.len() {
        bounds[place] = in_millis[place] * 1_000_000;
        place += 1;
    }
    bounds
};

// === impl Shared ===

impl Shared {
    pub(crate) fn new() -> Self {
        let counted = || Counted { tally: Tally::default(), window: Window::new() };
        let shard = || Shard { counted: Mutex::new(counted()), refusals: Refusals::default() };
        Self { shards: Shards::new(|| Arc::new(shard())), enabled: AtomicBool::new(true) }
    }

    /// That of this thread.
    #[inline]
    pub(crate) fn shard(&self) -> &Arc<Shard> {
        self.shards.own()
    }

    #[inline]
    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled.load(Relaxed)
    }

    pub(crate) fn set_enabled(&self, enabled: bool) {
        self.enabled.store(enabled, Relaxed);
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.shards.iter().map(|shard| Arc::strong_count(shard) - 1).sum()
    }

    pub(crate) fn refused(&self, reason: Reason) -> u64 {
        self.shards.iter().map(|shard| shard.refusals.get(reason)).sum()
    }

    /// What all shards have counted, and the durations of late.
    pub(crate) fn read(&self) -> (Tally, Sum) {
        let (now, mut recent) = (Instant::now(), Sum::new());
        let mut all = Tally::default();
        for shard in self.shards.iter() {
            let mut counted = lock(&shard.counted);
            all.add(&counted.tally);
            counted.window.add_to(now, &mut recent);
        }
        (all, recent)
    }
}

/// More than 584 years become that.
#[inline]
fn nanos(duration: Duration) -> u64 {
    // Not `as_nanos`, which makes 128 bits.
    let seconds = duration.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(duration.subsec_nanos().into())
}

// === impl Shard ===

impl Shard {
    /// Counts a call that was answered.
    #[inline]
    pub(crate) fn answered(&self, ending: Ending, attempts: u32, since: Instant) {
        let now = Instant::now();
        let nanos = nanos(now.saturating_duration_since(since));
        let mut counted = lock(&self.counted);
        let Counted { tally, window } = &mut *counted;
        tally.ended(ending, attempts);
        tally.durations[BOUNDS.partition_point(|bound| *bound < nanos)] += 1;
        tally.sum = tally.sum.saturating_add(nanos);
        window.record(now, nanos);
    }

    /// Counts a call that was not.
    #[cold]
    #[inline(never)]
    pub(crate) fn dropped(&self, attempts: u32) {
        lock(&self.counted).tally.ended(Ending::Dropped, attempts);
    }

    /// Counts why a layer inside refused or ended a call.
    #[cold]
    pub(crate) fn refused(&self, reason: Reason) {
        self.refusals.count(reason);
    }
}

// === impl Tally ===

impl Tally {
    #[inline]
    fn ended(&mut self, ending: Ending, attempts: u32) {
        self.endings[ending as usize] += 1;
        self.attempts += u64::from(attempts);
    }

    fn add(&mut self, other: &Self) {
        let add =
            |to: &mut [u64], from: &[u64]| to.iter_mut().zip(from).for_each(|(to, n)| *to += n);
        add(&mut self.endings, &other.endings);
        add(&mut self.durations, &other.durations);
        self.attempts += other.attempts;
        self.sum = self.sum.saturating_add(other.sum);
    }

    pub(crate) fn of(&self, ending: Ending) -> u64 {
        self.endings[ending as usize]
    }

    pub(crate) fn distribution(&self) -> Distribution {
        let bounds = BOUNDS.map(|nanos| nanos as f64 / 1e9);
        let bounds = bounds.into_iter().chain([f64::INFINITY]);
        Distribution {
            buckets: bounds.zip(self.durations).collect(),
            sum: self.sum as f64 / 1e9,
            count: self.durations.iter().sum(),
        }
    }
}
