//! The gate under a model checker: four threads, thousands of schedules.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, AtomicU64, Ordering::SeqCst},
    },
    task::{Poll, Wake, Waker},
};

use shuttle::{
    future::block_on,
    rand::{Rng, thread_rng},
    thread,
};
use stockade_core::{Class, Error, internal::Key};
use stockade_testkit::schedules;

use crate::{
    Adaptive, Policy, Sample,
    adaptive::Bounds,
    gate::{Gate, Turn},
    permit::Place,
    state::{Settings, Shown, State},
};

/// Four, so that one can come while one is inside, one waits, and one changes the maximum.
const THREADS: usize = 4;
const STEPS: usize = 3;
const MOST: u32 = 2;

/// A gate, and what the threads know of it. Only the gate is made of what the checker controls, so the rest
/// stands still between two of its steps.
struct World {
    gate: Gate,
    capacity: u32,
    inside: AtomicU32,
    /// Uneven while somebody changes the maximum.
    changes: AtomicU64,
    /// Who waits, and since when.
    line: Mutex<Vec<(Key, u64)>>,
    clock: AtomicU64,
}

/// Counts the wakes of one waiter.
struct Counted {
    wakes: AtomicU32,
    waker: Waker,
}

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.wakes.fetch_add(1, SeqCst);
        self.waker.wake_by_ref();
    }
}

impl World {
    fn line(&self) -> MutexGuard<'_, Vec<(Key, u64)>> {
        self.line.lock().expect("nobody panics under it")
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, SeqCst)
    }

    /// Goes in and out, or gives up somewhere on the way.
    fn visit(&self) {
        let patience = thread_rng().gen_range(0..4);
        let changes = self.changes.load(SeqCst);
        let began = self.tick();
        if !self.gate.try_enter() {
            match self.gate.enter_or_queue(self.capacity) {
                Turn::Entered => {}
                Turn::Full => return,
                Turn::Waits(key) => {
                    let joined = self.tick();
                    self.line().push((key, joined));
                    let served = patience > 0 && self.wait(key, patience > 1);
                    self.line().retain(|&(other, _)| other != key);
                    if !served {
                        self.gate.give_up(key);
                        return;
                    }
                }
            }
        }
        self.nobody_was_passed_over(began);
        let inside = self.inside.fetch_add(1, SeqCst) + 1;
        assert!(inside <= MOST, "{inside} are inside");
        let max = self.gate.max();
        if changes % 2 == 0 && self.changes.load(SeqCst) == changes {
            assert!(inside <= max, "{inside} are inside, {max} were allowed all the time");
        }
        thread::yield_now();
        self.inside.fetch_sub(1, SeqCst);
        self.gate.leave();
    }

    /// Waits for the turn, to its end if `patient` and otherwise for two looks. A wake that is lost is a
    /// deadlock, which the checker reports.
    fn wait(&self, key: Key, patient: bool) -> bool {
        let (mut looks, mut counted) = (0, None);
        let served = block_on(poll_fn(|cx| {
            let counted = counted.get_or_insert_with(|| {
                let waker = cx.waker().clone();
                Arc::new(Counted { wakes: AtomicU32::new(0), waker })
            });
            looks += 1;
            let waker = Waker::from(Arc::clone(counted));
            match self.gate.poll_turn(key, &waker) {
                Poll::Ready(()) => Poll::Ready(true),
                Poll::Pending if patient => Poll::Pending,
                Poll::Pending if looks == 2 => Poll::Ready(false),
                Poll::Pending => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
            }
        }));
        if patient {
            let wakes = counted.map_or(0, |counted| counted.wakes.load(SeqCst));
            assert_eq!(wakes, u32::from(looks > 1), "after {looks} looks");
        }
        served
    }

    fn nobody_was_passed_over(&self, began: u64) {
        let line = self.line().clone();
        for (key, _) in line.into_iter().filter(|&(_, joined)| joined < began) {
            assert!(!self.gate.waits(key), "who came later was served first");
        }
    }

    fn set_max(&self) {
        let max = thread_rng().gen_range(1..=MOST);
        // One at a time, so that it is known which maximum holds.
        if self.changes.load(SeqCst) % 2 == 1 {
            return;
        }
        self.changes.fetch_add(1, SeqCst);
        self.gate.set_max(max).wake();
        assert_eq!(self.gate.max(), max);
        self.changes.fetch_add(1, SeqCst);
    }

    fn nothing_is_left(&self) {
        assert_eq!((self.gate.in_flight(), self.gate.waiting()), (0, 0));
        for _ in 0..self.gate.max() {
            assert!(self.gate.try_enter());
        }
        assert!(!self.gate.try_enter());
    }
}

fn run(max: u32, capacity: u32) {
    let world = Arc::new(World {
        gate: Gate::new(max),
        capacity,
        inside: AtomicU32::new(0),
        changes: AtomicU64::new(0),
        line: Mutex::default(),
        clock: AtomicU64::new(0),
    });
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                for _ in 0..STEPS {
                    if thread_rng().gen_ratio(1, 4) { world.set_max() } else { world.visit() }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no assertion failed"));
    world.nothing_is_left();
}

/// Doubles, and goes back to one after a loss.
#[derive(Clone)]
struct Jumpy;

impl Policy for Jumpy {
    fn update(&mut self, sample: &Sample) -> f64 {
        if sample.dropped { 1.0 } else { sample.limit * 2.0 }
    }
}

/// Calls whose results move the limit, while somebody else sets it.
fn follow() {
    type Answer = Result<(), Error<()>>;
    let judge = |result: Result<&(), &Error<()>>| match result {
        Ok(()) => Class::Success,
        Err(_) => Class::OVERLOAD,
    };
    let bounds = Bounds { min: 1, max: MOST };
    let settings = Settings { max: 1, queue: 10, max_wait: None, name: None };
    let state = State::new(settings, &Adaptive::new(Jumpy, judge, bounds, 1));
    let inside = Arc::new(AtomicU32::new(0));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (state, inside) = (Arc::clone(&state), Arc::clone(&inside));
            thread::spawn(move || {
                for _ in 0..STEPS {
                    if thread_rng().gen_ratio(1, 4) {
                        state.set_max(thread_rng().gen_range(1..=MOST));
                        continue;
                    }
                    let Ok(mut place) = Place::join(Arc::clone(&state), 10) else { continue };
                    let in_time = block_on(poll_fn(|cx| place.poll(cx)));
                    assert!(in_time.is_ok());
                    let mut permit = place.entered().expect("it has entered");
                    permit.begin();
                    let now = inside.fetch_add(1, SeqCst) + 1;
                    assert!(now <= MOST, "{now} are inside");
                    thread::yield_now();
                    let lost = thread_rng().gen_ratio(1, 2);
                    let answer: Answer = if lost { Err(Error::Service(())) } else { Ok(()) };
                    inside.fetch_sub(1, SeqCst);
                    permit.end(answer.as_ref());
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no assertion failed"));
    assert_eq!((state.gate.in_flight(), state.gate.waiting()), (0, 0));
    assert_eq!(state.gate.max(), state.meter.limit(), "the policy and the gate agree");
    for _ in 0..state.gate.max() {
        assert!(state.gate.try_enter());
    }
    assert!(!state.gate.try_enter());
}

#[test]
fn an_adaptive_limit_under_every_schedule_agrees_with_its_gate() {
    schedules(follow);
}

#[test]
fn a_gate_under_every_schedule_keeps_its_maximum_its_order_and_its_wakes() {
    schedules(|| run(MOST, 10));
}

#[test]
fn a_gate_for_one_with_one_place_to_wait_leaves_nothing_behind() {
    schedules(|| run(1, 1));
}
