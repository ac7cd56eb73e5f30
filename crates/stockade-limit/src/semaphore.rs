//! Who may be in flight: a counter of free places, and a queue of those who wait for one.
//!
//! One word holds two numbers: how many places are free, and how many calls wait. While nobody waits, a call
//! enters with one compare-and-swap on that word and leaves with one addition. As soon as somebody waits, every
//! newcomer goes through the lock of the queue, and a call that leaves hands a free place to the first in the
//! queue under that lock. So no newcomer slips in between.
//!
//! The word counts free places, not taken ones, so that a change of the maximum is a change of the same
//! word. After the maximum was lowered the number is below zero until enough calls have left. Closing
//! and switching off are such changes too: to no places, and to as many as can be.
//!
//! Who of those who wait is next says the [queue](crate::waiters): the first that came, unless it has another order. Then
//! the lower classes may have to wait while places are free: a call that leaves or comes looks for one that may enter.
//!
//! Wakers are foreign code: none is cloned, dropped or woken under the lock.

use std::{
    cell::Cell,
    mem,
    task::{Poll, Waker},
};

use stockade_core::{
    Reason, Share,
    internal::{
        Key, StaticPool, lock,
        sync::{
            Mutex,
            atomic::{AtomicI64, AtomicU32, Ordering::*},
        },
        wake,
    },
};

use crate::{
    discipline::{Discipline, Room},
    waiters::Waiters,
};

#[derive(Debug)]
pub(crate) struct Semaphore {
    /// The free places, less [`WAITING`] for each call that waits. It is above zero if there is a free place
    /// and nobody waits for it. Changes of the number of waiting calls are made under the lock.
    word: AtomicI64,
    /// How many places there are, free or taken. Changes under the lock, together with the word.
    places: AtomicU32,
    /// Counts the changes of the maximum; changes under the lock.
    epoch: AtomicU32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    max: u32,
    enabled: bool,
    closed: bool,
    waiting: Waiters,
    /// Those who wait until nothing is in flight.
    draining: Waiters,
}

/// More than there can be free places.
const WAITING: i64 = 1 << 32;

/// The highest maximum: as many places can be missing after the maximum was lowered.
pub(crate) const MAX: usize = i32::MAX as usize;

fn free(word: i64) -> i32 {
    word as i32
}

fn waiting(word: i64) -> u32 {
    ((i64::from(free(word)) - word) / WAITING) as u32
}

static POOL: StaticPool<Semaphore> = StaticPool::new();

// === impl State ===

impl State {
    fn new(max: u32, discipline: Discipline) -> Self {
        let (waiting, draining) = (Waiters::new(discipline), Waiters::new(Discipline::Fifo));
        Self { max, enabled: true, closed: false, waiting, draining }
    }
}

// === impl Semaphore ===

impl Semaphore {
    pub(crate) fn new(max: u32, discipline: Discipline) -> Self {
        Self {
            word: AtomicI64::new(i64::from(max)),
            places: AtomicU32::new(max),
            epoch: AtomicU32::new(0),
            state: Mutex::new(State::new(max, discipline)),
        }
    }

    /// A semaphore for sole use, from the process-wide pool.
    pub(crate) fn take(max: u32, discipline: Discipline) -> &'static Self {
        let semaphore = POOL.take_if(Self::is_idle, || Self::new(max, discipline));
        semaphore.change(|state| *state = State::new(max, discipline));
        semaphore
    }

    /// Back to the pool. It is taken again once all that are in flight have left.
    pub(crate) fn give_back(&'static self) {
        POOL.give_back(self);
    }

    fn is_idle(&self) -> bool {
        // Acquire pairs with the Release of the last one that left.
        self.word.load(Acquire) == i64::from(self.places.load(Relaxed))
    }

    pub(crate) fn max(&self) -> u32 {
        lock(&self.state).max
    }

    /// Exact under the lock; without it, it may be off by a change of the maximum that is under way.
    pub(crate) fn in_flight(&self) -> u32 {
        u32::try_from(self.room(self.word.load(Relaxed)).taken).unwrap_or(0)
    }

    pub(crate) fn waiting(&self) -> u32 {
        waiting(self.word.load(Relaxed))
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.load(Relaxed)
    }

    pub(crate) fn is_enabled(&self) -> bool {
        lock(&self.state).enabled
    }

    /// Only a closed semaphore has no places.
    pub(crate) fn is_closed(&self) -> bool {
        self.places.load(Relaxed) == 0
    }

    /// Enters, if there is room and nobody waits. A call that has entered owes a [`leave`](Self::leave).
    #[inline]
    pub(crate) fn try_enter(&self) -> bool {
        let word = self.word.load(Relaxed);
        // Acquire pairs with the Release of `leave`: what the call before did is seen.
        word > 0
            && (self.word.compare_exchange_weak(word, word - 1, Acquire, Relaxed).is_ok()
                || self.try_again())
    }

    /// Apart, so that most calls run through no loop.
    #[cold]
    fn try_again(&self) -> bool {
        let enter = |word| (word > 0).then(|| word - 1);
        self.word.fetch_update(Acquire, Relaxed, enter).is_ok()
    }

    /// The same, if a call of this class may start.
    pub(crate) fn try_enter_as(&self, class: u64) -> bool {
        let may = |word| word > 0 && Discipline::Capped.may_enter(class, self.room(word));
        let enter = |word| may(word).then(|| word - 1);
        self.word.fetch_update(Acquire, Relaxed, enter).is_ok()
    }

    /// How many of the places are taken while this is the word.
    fn room(&self, word: i64) -> Room {
        let places = self.places.load(Relaxed);
        Room { taken: i64::from(places) - i64::from(free(word)), places }
    }

    /// Enters, or joins the queue, if fewer than `capacity` wait or one of them gives way: then it waits at the key.
    pub(crate) fn enter_or_queue(
        &self,
        capacity: u32,
        share: Share,
    ) -> Result<Option<Key>, Reason> {
        let mut state = lock(&self.state);
        let mut shed = None;
        let entered = loop {
            let word = self.word.load(Relaxed);
            let room = self.room(word);
            if state.closed {
                break Err(Reason::PoolClosed);
            }
            if free(word) > 0 && state.waiting.lets_in(share, room) {
                // Acquire pairs with the Release of `leave`.
                if self.word.compare_exchange(word, word - 1, Acquire, Relaxed).is_ok() {
                    break Ok(None);
                }
                continue;
            }
            if waiting(word) >= capacity {
                shed = state.waiting.give_way(share, room);
                // One waits in the place of the other, so the word stays as it is.
                if shed.is_none() {
                    break Err(Reason::QueueFull);
                }
            } else if self.word.compare_exchange(word, word - WAITING, Relaxed, Relaxed).is_err() {
                // If the last call left since the word was read, it found nobody to hand its place to.
                continue;
            }
            break Ok(Some(state.waiting.push(share)));
        };
        drop(state);
        wake_up(shed);
        entered
    }

    /// Leaves: the place is free, and goes to the first that waits.
    #[inline]
    pub(crate) fn leave(&self) {
        // Below zero somebody waits, or the maximum was lowered, or the semaphore is closed.
        if self.word.fetch_add(1, Release) < 0 {
            self.hand_over();
        }
    }

    /// Hands free places to those who wait for them.
    #[cold]
    #[inline(never)]
    pub(crate) fn hand_over(&self) {
        while self.hand_over_one() {}
    }

    /// Whether there may be more to hand over.
    fn hand_over_one(&self) -> bool {
        let mut state = lock(&self.state);
        // While somebody waits nobody else takes a free place. Acquire is for the one that gets it.
        let word = self.word.load(Acquire);
        let free = free(word);
        let (next, more) = if state.closed {
            // There are no places, and if none is missing nothing is in flight.
            let drained = if free == 0 { state.draining.pop(self.room(word)) } else { None };
            (drained, !state.draining.is_empty())
        } else {
            let next = if free > 0 { state.waiting.pop(self.room(word)) } else { None };
            if next.is_some() {
                self.word.fetch_add(WAITING - 1, Relaxed);
            }
            (next, free > 1 && !state.waiting.is_empty())
        };
        drop(state);
        let served = next.is_some();
        wake_up(next);
        served && more
    }

    /// Whether the one at `key` has entered: then it owes a `leave`. An error if the semaphore was closed
    /// first, or it gave way to another: then it owes a [`give_up`](Self::give_up).
    pub(crate) fn poll_turn(&self, key: Key, waker: &Waker) -> Poll<Result<(), Reason>> {
        let turn = self.keep(waker, key, |state| &mut state.waiting);
        // Looked at after the waker was put where `close` finds it.
        if turn.is_pending() && self.is_closed() {
            return Poll::Ready(Err(Reason::PoolClosed));
        }
        turn
    }

    /// Gives up the place at `key`, or the turn, if it has come.
    pub(crate) fn give_up(&self, key: Key) {
        let mut state = lock(&self.state);
        let waited = state.waiting.remove(key);
        if waited.is_some() {
            self.word.fetch_add(WAITING, Relaxed);
        }
        let has_turn = waited.is_none() && !state.waiting.forget_shed(key);
        drop(state);
        if has_turn {
            self.leave();
        }
    }

    /// Keeps `waker` at `key`, unless `key` has left the queue: it was served, or gave way to another.
    fn keep(
        &self,
        waker: &Waker,
        key: Key,
        queue: fn(&mut State) -> &mut Waiters,
    ) -> Poll<Result<(), Reason>> {
        let mut new = None;
        loop {
            let mut state = lock(&self.state);
            let waiters = queue(&mut state);
            let Some(slot) = waiters.waker(key) else {
                let shed = waiters.is_shed(key);
                return Poll::Ready(if shed { Err(Reason::Shed) } else { Ok(()) });
            };
            if slot.as_ref().is_some_and(|old| old.will_wake(waker)) {
                return Poll::Pending;
            }
            if new.is_some() {
                mem::swap(slot, &mut new);
                return Poll::Pending;
            }
            drop(state);
            new = Some(waker.clone());
        }
    }

    /// Ready once it is closed and nothing is in flight. `key` is the place among those who wait for that, to be
    /// [given back](Self::stop_draining).
    pub(crate) fn poll_drained(&self, key: &mut Option<Key>, waker: &Waker) -> Poll<()> {
        let mut state = lock(&self.state);
        if state.closed && self.in_flight() == 0 {
            return Poll::Ready(());
        }
        let key = *key.get_or_insert_with(|| state.draining.push(Share::NOBODY));
        drop(state);
        // Those who drain have no order, and give way to nobody.
        self.keep(waker, key, |state| &mut state.draining).map(drop)
    }

    pub(crate) fn stop_draining(&self, key: Key) {
        let waited = lock(&self.state).draining.remove(key);
        drop(waited);
    }

    /// Those who wait enter as far as there is room now.
    pub(crate) fn set_max(&self, max: u32) {
        self.change(|state| state.max = max);
        self.hand_over();
    }

    /// The same without handing over, unless there was a change since `epoch`: then it returns false.
    pub(crate) fn set_max_since(&self, epoch: u32, max: u32) -> bool {
        self.change(|state| {
            let unchanged = self.epoch() == epoch;
            if unchanged {
                state.max = max;
            }
            unchanged
        })
    }

    /// Switched off, it lets everybody in.
    pub(crate) fn set_enabled(&self, enabled: bool) {
        self.change(|state| state.enabled = enabled);
        self.hand_over();
    }

    /// For good: nobody enters any more.
    pub(crate) fn close(&self) {
        let wakers = self.change(|state| {
            state.closed = true;
            state.waiting.wakers()
        });
        wakers.into_iter().for_each(wake);
        self.hand_over();
    }

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = lock(&self.state);
        let result = change(&mut state);
        let places = match *state {
            State { closed: true, .. } => 0,
            State { enabled: false, .. } => MAX as u32,
            State { max, .. } => max,
        };
        let old = self.places.swap(places, Relaxed);
        self.word.fetch_add(i64::from(places) - i64::from(old), Relaxed);
        self.epoch.fetch_add(1, Relaxed);
        result
    }
}

/// Wakes the one that has left a queue, if it was polled there.
fn wake_up(waiter: Option<Cell<Option<Waker>>>) {
    if let Some(waker) = waiter.and_then(Cell::into_inner) {
        wake(waker);
    }
}

#[cfg(all(test, shuttle))]
impl Semaphore {
    /// Whether the turn of the one at `key` is still to come.
    pub(crate) fn waits(&self, key: Key) -> bool {
        lock(&self.state).waiting.waker(key).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(entered: Result<Option<Key>, Reason>) -> Key {
        entered.expect("it is not refused").expect("it waits")
    }

    fn has_turn(semaphore: &Semaphore, key: Key) -> bool {
        semaphore.poll_turn(key, Waker::noop()).is_ready()
    }

    #[test]
    fn a_place_is_handed_over_and_nobody_slips_in() {
        let semaphore = Semaphore::new(1, Discipline::Fifo);
        assert!(semaphore.try_enter());
        let (first, second) = (
            key(semaphore.enter_or_queue(1_000, Share::NOBODY)),
            key(semaphore.enter_or_queue(1_000, Share::NOBODY)),
        );
        semaphore.leave();
        assert!(!semaphore.try_enter());
        assert!(has_turn(&semaphore, first) && !has_turn(&semaphore, second));
        semaphore.leave();
        assert!(has_turn(&semaphore, second));
        semaphore.leave();
        assert_eq!((semaphore.in_flight(), semaphore.waiting()), (0, 0));
        assert!(semaphore.try_enter());
    }

    #[test]
    fn the_queue_is_a_hard_bound() {
        let semaphore = Semaphore::new(1, Discipline::Fifo);
        assert!(semaphore.try_enter());
        let first = key(semaphore.enter_or_queue(1, Share::NOBODY));
        assert_eq!(semaphore.enter_or_queue(1, Share::NOBODY), Err(Reason::QueueFull));
        semaphore.give_up(first);
        key(semaphore.enter_or_queue(1, Share::NOBODY));
    }

    #[test]
    fn a_turn_that_is_given_up_passes_on() {
        let semaphore = Semaphore::new(1, Discipline::Fifo);
        assert!(semaphore.try_enter());
        let (first, second) = (
            key(semaphore.enter_or_queue(1_000, Share::NOBODY)),
            key(semaphore.enter_or_queue(1_000, Share::NOBODY)),
        );
        semaphore.leave();
        semaphore.give_up(first);
        assert!(has_turn(&semaphore, second));
        assert_eq!((semaphore.in_flight(), semaphore.waiting()), (1, 0));
    }

    #[test]
    fn a_lowered_maximum_lets_nobody_in_until_enough_have_left() {
        let semaphore = Semaphore::new(3, Discipline::Fifo);
        assert!(semaphore.try_enter() && semaphore.try_enter() && semaphore.try_enter());
        let first = key(semaphore.enter_or_queue(1_000, Share::NOBODY));
        semaphore.set_max(1);
        semaphore.leave();
        semaphore.leave();
        assert!(!has_turn(&semaphore, first));
        semaphore.leave();
        assert!(has_turn(&semaphore, first));
        assert_eq!((semaphore.in_flight(), semaphore.waiting()), (1, 0));
    }

    #[test]
    fn a_raised_maximum_lets_in_those_who_wait() {
        let semaphore = Semaphore::new(1, Discipline::Fifo);
        assert!(semaphore.try_enter());
        let waiting: Vec<Key> =
            (0..3).map(|_| key(semaphore.enter_or_queue(1_000, Share::NOBODY))).collect();
        semaphore.set_max(3);
        let turns: Vec<bool> = waiting.iter().map(|&key| has_turn(&semaphore, key)).collect();
        assert_eq!(turns, [true, true, false]);
        assert_eq!((semaphore.in_flight(), semaphore.waiting()), (3, 1));
    }

    #[test]
    fn a_semaphore_is_used_again_once_all_have_left() {
        let first = Semaphore::take(3, Discipline::Fifo);
        assert!(first.try_enter() && first.try_enter());
        first.give_back();
        let second = Semaphore::take(1, Discipline::Fifo);
        assert!(!std::ptr::eq(first, second), "two are still in flight");
        first.leave();
        first.leave();
        second.give_back();
        let (third, fourth) =
            (Semaphore::take(5, Discipline::Fifo), Semaphore::take(7, Discipline::Fifo));
        assert_eq!(
            (third.max(), third.in_flight(), fourth.max(), fourth.in_flight()),
            (5, 0, 7, 0)
        );
    }

    #[test]
    fn threads_never_exceed_the_maximum_and_leave_nothing_behind() {
        let semaphore = Semaphore::new(2, Discipline::Fifo);
        let (inside, peak) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..20_000 {
                        if !semaphore.try_enter() {
                            match semaphore.enter_or_queue(1_000, Share::NOBODY) {
                                Ok(None) => {}
                                Ok(Some(key)) if round % 5 == 0 => {
                                    semaphore.give_up(key);
                                    continue;
                                }
                                Ok(Some(key)) => {
                                    while !has_turn(&semaphore, key) {
                                        std::thread::yield_now();
                                    }
                                }
                                Err(_) => continue,
                            }
                        }
                        peak.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                        inside.fetch_sub(1, SeqCst);
                        semaphore.leave();
                    }
                });
            }
        });
        assert!(peak.into_inner() <= 2);
        assert_eq!((semaphore.in_flight(), semaphore.waiting()), (0, 0));
    }
}
