//! Who may be in flight: a counter of the places that are free, and a FIFO queue for those who wait.
//!
//! One word holds both numbers: how many places are free, and how many calls wait. While nobody waits, a call
//! enters and leaves with one compare-and-swap on that word. As soon as somebody waits, everybody goes
//! through the lock of the queue: a call that leaves hands its place to the first who waits, without the
//! place ever being free, so nobody who comes later can slip in between.
//!
//! It is the free places that are counted, and not those taken, so that a change of the maximum is a change
//! of the same word: whoever has looked at it before has to look again. After the maximum was lowered fewer
//! than none may be free.

use std::task::{Poll, Waker};

use stockade_core::{
    Key, Queue, Recycler,
    sync::{
        Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering::*},
        lock,
    },
};

#[derive(Debug)]
pub(crate) struct Gate {
    /// The free places in the low half, from [`NONE_FREE`] on, so that no carry leaves it; waiting in the high
    /// half. The waiting half changes only under the lock of the queue, so under that lock "nobody waits"
    /// and "somebody waits" hold still.
    word: AtomicU64,
    /// Changes under the lock of the queue, together with the word; otherwise only to be shown.
    max: AtomicU32,
    waiters: Mutex<Queue<Option<Waker>>>,
}

const FREE: u64 = 1;
/// With it "nobody waits and there is a free place" is one question: whether the word's bit 31 is the highest.
const NONE_FREE: u32 = (1 << 31) - 1;
const WAITING: u64 = 1 << 32;

/// The most that a gate can let in: as many can be missing after the maximum was lowered.
pub(crate) const MAX: usize = i32::MAX as usize;

/// What a call gets that could not enter at once.
pub(crate) enum Turn {
    /// There was room after all.
    Entered,
    /// It waits at this place of the queue.
    Waits(Key),
    /// The queue is full.
    Full,
}

/// Those who have come in, and do not know yet.
#[must_use]
pub(crate) struct Entered(Vec<Option<Waker>>);

fn has_free(word: u64) -> bool {
    word as u32 > NONE_FREE
}

/// Whether there is a free place, and nobody waits for it.
fn is_open(word: u64) -> bool {
    word >> 31 == 1
}

fn waiting(word: u64) -> u32 {
    (word >> 32) as u32
}

static GATES: Recycler<Gate> = Recycler::new();

// === impl Gate ===

impl Gate {
    pub(crate) fn new(max: u32) -> Self {
        Self {
            word: AtomicU64::new(u64::from(NONE_FREE + max)),
            max: AtomicU32::new(max),
            waiters: Mutex::new(Queue::new()),
        }
    }

    /// A gate for sole use. Those who were in flight through one in its former life have left.
    pub(crate) fn take(max: u32) -> &'static Self {
        let gate = GATES.take_if(Self::is_idle, || Self::new(max));
        gate.max.store(max, Relaxed);
        gate.word.store(u64::from(NONE_FREE + max), Relaxed);
        gate
    }

    pub(crate) fn give_back(&'static self) {
        GATES.give_back(self);
    }

    fn is_idle(&self) -> bool {
        // Acquire pairs with the Release of the last who left.
        self.word.load(Acquire) == u64::from(NONE_FREE + self.max())
    }

    pub(crate) fn max(&self) -> u32 {
        self.max.load(Relaxed)
    }

    /// How many are in flight. It may be off by the difference while the maximum changes.
    pub(crate) fn in_flight(&self) -> u32 {
        (NONE_FREE + self.max()).saturating_sub(self.word.load(Relaxed) as u32)
    }

    pub(crate) fn waiting(&self) -> u32 {
        waiting(self.word.load(Relaxed))
    }

    /// Enters, if there is room and nobody waits. Whoever enters owes a [`leave`](Self::leave).
    #[inline]
    pub(crate) fn try_enter(&self) -> bool {
        let mut word = self.word.load(Relaxed);
        while is_open(word) {
            // Acquire pairs with the Release of `leave`: what the call before did is seen.
            match self.word.compare_exchange_weak(word, word - FREE, Acquire, Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Enters, or joins the queue, if fewer than `capacity` wait.
    pub(crate) fn enter_or_queue(&self, capacity: u32) -> Turn {
        let mut waiters = lock(&self.waiters);
        loop {
            // Between a look at the counter and joining the queue the last call may leave, and find nobody
            // to hand its place to: the compare-and-swap notices.
            if self.try_enter() {
                return Turn::Entered;
            }
            let word = self.word.load(Relaxed);
            if is_open(word) {
                continue;
            }
            if waiting(word) >= capacity {
                return Turn::Full;
            }
            if self.word.compare_exchange(word, word + WAITING, Relaxed, Relaxed).is_ok() {
                return Turn::Waits(waiters.push_back(None));
            }
        }
    }

    /// Leaves: the place goes to the first who waits, or is free.
    #[inline]
    pub(crate) fn leave(&self) {
        let mut word = self.word.load(Relaxed);
        while waiting(word) == 0 {
            match self.word.compare_exchange_weak(word, word + FREE, Release, Relaxed) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
        self.hand_over();
    }

    #[cold]
    fn hand_over(&self) {
        let mut waiters = lock(&self.waiters);
        // Above the maximum, after it was lowered, the place is given up and not handed over.
        let missing = (self.word.load(Relaxed) as u32) < NONE_FREE;
        let next = if missing { None } else { waiters.pop_front() };
        match next {
            Some(_) => self.word.fetch_sub(WAITING, AcqRel),
            None => self.word.fetch_add(FREE, AcqRel),
        };
        drop(waiters);
        wake(next);
    }

    /// Whether the turn of the one at `key` has come; if so it is in, and owes a `leave`.
    pub(crate) fn poll_turn(&self, key: Key, waker: &Waker) -> Poll<()> {
        let mut waiters = lock(&self.waiters);
        match waiters.get_mut(key) {
            None => Poll::Ready(()),
            Some(Some(old)) => {
                old.clone_from(waker);
                Poll::Pending
            }
            Some(none) => {
                *none = Some(waker.clone());
                Poll::Pending
            }
        }
    }

    /// Gives up the place at `key`, or the turn, if it has come meanwhile.
    pub(crate) fn give_up(&self, key: Key) {
        let mut waiters = lock(&self.waiters);
        let waited = waiters.remove(key);
        if waited.is_some() {
            self.word.fetch_sub(WAITING, Relaxed);
        }
        drop(waiters);
        if waited.is_none() {
            self.leave();
        }
    }

    /// Changes the maximum: lets in whom there is room for now, or lets nobody in until enough have left.
    /// The caller wakes them, when it holds no lock of its own any more.
    pub(crate) fn set_max(&self, max: u32) -> Entered {
        let mut waiters = lock(&self.waiters);
        let old = self.max.swap(max, Relaxed);
        let more = i64::from(max) - i64::from(old);
        let mut word = self.word.fetch_add(more as u64, AcqRel).wrapping_add(more as u64);
        let mut entered = Vec::new();
        while has_free(word)
            && let Some(next) = waiters.pop_front()
        {
            // While somebody waits nobody else moves the word, and the last one is counted in here.
            word = self.word.fetch_sub(FREE + WAITING, AcqRel) - FREE - WAITING;
            entered.push(next);
        }
        Entered(entered)
    }
}

// === impl Entered ===

impl Entered {
    pub(crate) fn wake(self) {
        self.0.into_iter().flatten().for_each(Waker::wake);
    }
}

#[cfg(all(test, shuttle))]
impl Gate {
    /// Whether the turn of the one at `key` is still to come.
    pub(crate) fn waits(&self, key: Key) -> bool {
        lock(&self.waiters).get_mut(key).is_some()
    }
}

fn wake(next: Option<Option<Waker>>) {
    if let Some(Some(waker)) = next {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(turn: Turn) -> Key {
        match turn {
            Turn::Waits(key) => key,
            Turn::Entered => panic!("entered"),
            Turn::Full => panic!("full"),
        }
    }

    fn has_turn(gate: &Gate, key: Key) -> bool {
        gate.poll_turn(key, Waker::noop()).is_ready()
    }

    #[test]
    fn a_place_is_handed_over_and_nobody_slips_in() {
        let gate = Gate::new(1);
        assert!(gate.try_enter());
        let (first, second) = (key(gate.enter_or_queue(1_000)), key(gate.enter_or_queue(1_000)));
        gate.leave();
        assert!(!gate.try_enter());
        assert!(has_turn(&gate, first) && !has_turn(&gate, second));
        gate.leave();
        assert!(has_turn(&gate, second));
        gate.leave();
        assert_eq!((gate.in_flight(), gate.waiting()), (0, 0));
        assert!(gate.try_enter());
    }

    #[test]
    fn the_queue_is_a_hard_bound() {
        let gate = Gate::new(1);
        assert!(gate.try_enter());
        let first = key(gate.enter_or_queue(1));
        assert!(matches!(gate.enter_or_queue(1), Turn::Full));
        gate.give_up(first);
        key(gate.enter_or_queue(1));
    }

    #[test]
    fn a_turn_that_is_given_up_passes_on() {
        let gate = Gate::new(1);
        assert!(gate.try_enter());
        let (first, second) = (key(gate.enter_or_queue(1_000)), key(gate.enter_or_queue(1_000)));
        gate.leave();
        gate.give_up(first);
        assert!(has_turn(&gate, second));
        assert_eq!((gate.in_flight(), gate.waiting()), (1, 0));
    }

    #[test]
    fn a_lowered_maximum_lets_nobody_in_until_enough_have_left() {
        let gate = Gate::new(3);
        assert!(gate.try_enter() && gate.try_enter() && gate.try_enter());
        let first = key(gate.enter_or_queue(1_000));
        gate.set_max(1).wake();
        gate.leave();
        gate.leave();
        assert!(!has_turn(&gate, first));
        gate.leave();
        assert!(has_turn(&gate, first));
        assert_eq!((gate.in_flight(), gate.waiting()), (1, 0));
    }

    #[test]
    fn a_raised_maximum_lets_in_those_who_wait() {
        let gate = Gate::new(1);
        assert!(gate.try_enter());
        let waiting: Vec<Key> = (0..3).map(|_| key(gate.enter_or_queue(1_000))).collect();
        gate.set_max(3).wake();
        let turns: Vec<bool> = waiting.iter().map(|&key| has_turn(&gate, key)).collect();
        assert_eq!(turns, [true, true, false]);
        assert_eq!((gate.in_flight(), gate.waiting()), (3, 1));
    }

    #[test]
    fn a_gate_is_used_again_once_all_have_left() {
        let first = Gate::take(3);
        assert!(first.try_enter() && first.try_enter());
        first.give_back();
        let second = Gate::take(1);
        assert!(!std::ptr::eq(first, second), "two are still in flight");
        first.leave();
        first.leave();
        second.give_back();
        let (third, fourth) = (Gate::take(5), Gate::take(7));
        assert_eq!(
            (third.max(), third.in_flight(), fourth.max(), fourth.in_flight()),
            (5, 0, 7, 0)
        );
    }

    #[test]
    fn threads_never_exceed_the_maximum_and_leave_nothing_behind() {
        let gate = Gate::new(2);
        let (inside, peak) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..20_000 {
                        if !gate.try_enter() {
                            match gate.enter_or_queue(1_000) {
                                Turn::Entered => {}
                                Turn::Waits(key) if round % 5 == 0 => {
                                    gate.give_up(key);
                                    continue;
                                }
                                Turn::Waits(key) => {
                                    while !has_turn(&gate, key) {
                                        std::thread::yield_now();
                                    }
                                }
                                Turn::Full => continue,
                            }
                        }
                        peak.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                        inside.fetch_sub(1, SeqCst);
                        gate.leave();
                    }
                });
            }
        });
        assert!(peak.into_inner() <= 2);
        assert_eq!((gate.in_flight(), gate.waiting()), (0, 0));
    }
}
