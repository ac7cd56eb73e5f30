//! Who may be in flight: a counter of the places that are free, and a FIFO queue for those who wait.
//!
//! One word holds both numbers: how many places are free, and how many calls wait. While nobody waits, a call
//! enters with one compare-and-swap on that word, and leaves with one addition. As soon as somebody waits, all who
//! come go through the lock of the queue, and whoever leaves hands a free place over to the first who waits, under
//! that lock. So nobody who comes later can slip in between.
//!
//! It is the free places that are counted, and not those taken, so that a change of the maximum is a change
//! of the same word: whoever has looked at it before has to look again. After the maximum was lowered fewer
//! than none may be free.

use std::task::{Poll, Waker};

use stockade_core::internal::{
    Key, Queue, StaticPool,
    sync::{
        Mutex,
        atomic::{AtomicI64, AtomicU32, Ordering::*},
        lock,
    },
};

#[derive(Debug)]
pub(crate) struct Gate {
    /// The free places, less [`WAITING`] for each who waits: above zero if there is a free place and nobody
    /// waits for it. Who waits is counted under the lock of the queue, so under that lock "nobody waits"
    /// and "somebody waits" hold still.
    word: AtomicI64,
    /// Changes under the lock of the queue, together with the word; otherwise only to be shown.
    max: AtomicU32,
    waiters: Mutex<Queue<Option<Waker>>>,
}

/// As many as free places cannot be.
const WAITING: i64 = 1 << 32;

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

/// Whether there is a free place, and nobody waits for it.
fn is_open(word: i64) -> bool {
    word > 0
}

fn free(word: i64) -> i32 {
    word as i32
}

fn waiting(word: i64) -> u32 {
    ((i64::from(free(word)) - word) / WAITING) as u32
}

static GATES: StaticPool<Gate> = StaticPool::new();

// === impl Gate ===

impl Gate {
    pub(crate) fn new(max: u32) -> Self {
        Self {
            word: AtomicI64::new(i64::from(max)),
            max: AtomicU32::new(max),
            waiters: Mutex::new(Queue::new()),
        }
    }

    /// A gate for sole use. Those who were in flight through one in its former life have left.
    pub(crate) fn take(max: u32) -> &'static Self {
        let gate = GATES.take_if(Self::is_idle, || Self::new(max));
        gate.max.store(max, Relaxed);
        gate.word.store(i64::from(max), Relaxed);
        gate
    }

    pub(crate) fn give_back(&'static self) {
        GATES.give_back(self);
    }

    fn is_idle(&self) -> bool {
        // Acquire pairs with the Release of the last who left.
        self.word.load(Acquire) == i64::from(self.max())
    }

    pub(crate) fn max(&self) -> u32 {
        self.max.load(Relaxed)
    }

    /// How many are in flight. It may be off by the difference while the maximum changes.
    pub(crate) fn in_flight(&self) -> u32 {
        let taken = i64::from(self.max()) - i64::from(free(self.word.load(Relaxed)));
        u32::try_from(taken).unwrap_or(0)
    }

    pub(crate) fn waiting(&self) -> u32 {
        waiting(self.word.load(Relaxed))
    }

    /// Enters, if there is room and nobody waits. Whoever enters owes a [`leave`](Self::leave).
    #[inline]
    pub(crate) fn try_enter(&self) -> bool {
        let word = self.word.load(Relaxed);
        // Acquire pairs with the Release of `leave`: what the call before did is seen.
        is_open(word)
            && (self.word.compare_exchange_weak(word, word - 1, Acquire, Relaxed).is_ok()
                || self.try_again())
    }

    /// Apart, so that most calls come past without a loop.
    #[cold]
    #[inline(never)]
    fn try_again(&self) -> bool {
        let enter = |word| is_open(word).then(|| word - 1);
        self.word.fetch_update(Acquire, Relaxed, enter).is_ok()
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
            if self.word.compare_exchange(word, word - WAITING, Relaxed, Relaxed).is_ok() {
                return Turn::Waits(waiters.push_back(None));
            }
        }
    }

    /// Leaves: the place is free, and goes to the first who waits.
    #[inline]
    pub(crate) fn leave(&self) {
        // Below zero somebody waits, or the maximum was lowered.
        if self.word.fetch_add(1, Release) < 0 {
            self.hand_over();
        }
    }

    /// Each who leaves hands over one place, so in the end as many as are free, although it need not be its own.
    #[cold]
    #[inline(never)]
    fn hand_over(&self) {
        let mut waiters = lock(&self.waiters);
        let next = self.let_in(&mut waiters);
        drop(waiters);
        if let Some(Some(waker)) = next {
            waker.wake();
        }
    }

    /// Lets in the first who waits, if there is room.
    fn let_in(&self, waiters: &mut Queue<Option<Waker>>) -> Option<Option<Waker>> {
        // While somebody waits nobody else takes a free place. Acquire is for the one who is let in.
        let next = if free(self.word.load(Acquire)) > 0 { waiters.pop_front() } else { None };
        if next.is_some() {
            self.word.fetch_add(WAITING - 1, Relaxed);
        }
        next
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
            self.word.fetch_add(WAITING, Relaxed);
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
        self.word.fetch_add(i64::from(max) - i64::from(old), Relaxed);
        let mut entered = Vec::new();
        while let Some(next) = self.let_in(&mut waiters) {
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
