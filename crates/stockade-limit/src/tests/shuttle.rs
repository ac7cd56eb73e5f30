//! The semaphore under a model checker: four threads, thousands of schedules.

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
use stockade_core::{
    Share,
    internal::{Key, Waiter as _},
    priority::Priority,
};
use stockade_testkit::schedules;

use crate::{
    Adaptive, Config, LimitHandle, Maximum, Policy, Sample, adaptive::End, discipline::Discipline,
    semaphore::Semaphore, shared::Shared,
};

/// Four, so that one can come while one is inside, one waits, and one changes the maximum.
const THREADS: usize = 4;
const STEPS: usize = 3;
const MOST: u32 = 2;

/// A semaphore, and what the threads know of it. Only the semaphore is made of what the checker controls, so the rest
/// stands still between two of its steps.
struct World {
    semaphore: Semaphore,
    discipline: Discipline,
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

    /// That of a call of some class, or of somebody.
    fn share(&self) -> Share {
        let n = thread_rng().gen_range(0..Priority::ALL.len());
        match self.discipline {
            Discipline::Fifo => Share::NOBODY,
            _ => Share::of_class(Priority::ALL[n]),
        }
    }

    fn try_enter(&self, share: Share) -> bool {
        match self.discipline {
            Discipline::Capped => self.semaphore.try_enter_as(share.flow()),
            _ => self.semaphore.try_enter(),
        }
    }

    /// Goes in and out, or gives up somewhere on the way.
    fn visit(&self) {
        let patience = thread_rng().gen_range(0..4);
        let changes = self.changes.load(SeqCst);
        let began = self.tick();
        let share = self.share();
        if !self.try_enter(share) {
            match self.semaphore.enter_or_queue(self.capacity, share) {
                Ok(None) => {}
                Err(_) => return,
                Ok(Some(key)) => {
                    let joined = self.tick();
                    self.line().push((key, joined));
                    let served = patience > 0 && self.wait(key, patience > 1);
                    self.line().retain(|&(other, _)| other != key);
                    if !served {
                        self.semaphore.give_up(key);
                        return;
                    }
                }
            }
        }
        if self.discipline == Discipline::Fifo {
            self.nobody_was_passed_over(began);
        }
        let inside = self.inside.fetch_add(1, SeqCst) + 1;
        assert!(inside <= MOST, "{inside} are inside");
        let max = self.semaphore.max();
        if changes % 2 == 0 && self.changes.load(SeqCst) == changes {
            assert!(inside <= max, "{inside} are inside, {max} were allowed all the time");
        }
        thread::yield_now();
        self.inside.fetch_sub(1, SeqCst);
        self.semaphore.leave();
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
            match self.semaphore.poll_turn(key, &waker) {
                Poll::Ready(turn) => Poll::Ready(turn.is_ok()),
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
            assert!(!self.semaphore.waits(key), "who came later was served first");
        }
    }

    fn set_max(&self) {
        let max = thread_rng().gen_range(1..=MOST);
        // One at a time, so that it is known which maximum holds.
        if self.changes.load(SeqCst) % 2 == 1 {
            return;
        }
        self.changes.fetch_add(1, SeqCst);
        self.semaphore.set_max(max);
        assert_eq!(self.semaphore.max(), max);
        self.changes.fetch_add(1, SeqCst);
    }

    fn nothing_is_left(&self) {
        assert_eq!((self.semaphore.in_flight(), self.semaphore.waiting()), (0, 0));
        for _ in 0..self.semaphore.max() {
            assert!(self.semaphore.try_enter());
        }
        assert!(!self.semaphore.try_enter());
    }
}

fn run(discipline: Discipline, max: u32, capacity: u32) {
    let world = Arc::new(World {
        semaphore: Semaphore::new(max, discipline),
        discipline,
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
    let adaptive = Adaptive::new(Jumpy, ()).between(1, MOST as usize);
    let shared = Shared::new(&Config::new(1), 1, Discipline::Fifo);
    let controller = adaptive.controller(&shared);
    let inside = Arc::new(AtomicU32::new(0));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (shared, controller) = (Arc::clone(&shared), Arc::clone(&controller));
            let inside = Arc::clone(&inside);
            thread::spawn(move || {
                for _ in 0..STEPS {
                    if thread_rng().gen_ratio(1, 4) {
                        shared.semaphore.set_max(thread_rng().gen_range(1..=MOST));
                        continue;
                    }
                    let Ok(waiter) = shared.enter(10, None, None) else { continue };
                    let mut waiter = Box::pin(waiter);
                    let permit = block_on(poll_fn(|cx| waiter.as_mut().poll_admit(cx)));
                    let permit = permit.expect("nobody closes it");
                    let call = controller.begin(None);
                    let now = inside.fetch_add(1, SeqCst) + 1;
                    assert!(now <= MOST, "{now} are inside");
                    thread::yield_now();
                    let lost = thread_rng().gen_ratio(1, 2);
                    inside.fetch_sub(1, SeqCst);
                    controller.end(&call, if lost { End::Lost } else { End::Answered });
                    drop(permit);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no assertion failed"));
    let semaphore = shared.semaphore;
    assert_eq!((semaphore.in_flight(), semaphore.waiting()), (0, 0));
    let limit = controller.limit();
    assert_eq!(semaphore.max(), limit, "the policy and the semaphore agree");
    for _ in 0..semaphore.max() {
        assert!(semaphore.try_enter());
    }
    assert!(!semaphore.try_enter());
}

/// Calls come, wait and go while the limit is closed, and two wait until it is drained.
fn close() {
    let handle = LimitHandle(Shared::new(&Config::new(1), 1, Discipline::Fifo));
    let inside = Arc::new(AtomicU32::new(0));
    let calls = (0..2).map(|_| {
        let (handle, inside) = (handle.clone(), Arc::clone(&inside));
        thread::spawn(move || {
            while let Ok(permit) = block_on(handle.acquire()) {
                assert_eq!(inside.fetch_add(1, SeqCst), 0, "one at a time");
                thread::yield_now();
                inside.fetch_sub(1, SeqCst);
                drop(permit);
            }
        })
    });
    let drains = (0..2).map(|n| {
        let (handle, inside) = (handle.clone(), Arc::clone(&inside));
        thread::spawn(move || {
            if n == 0 {
                handle.close();
            }
            block_on(handle.drained());
            assert!(handle.is_closed());
            assert_eq!((inside.load(SeqCst), handle.in_flight()), (0, 0));
            assert!(handle.try_acquire().is_none());
        })
    });
    let threads: Vec<_> = calls.chain(drains).collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no assertion failed"));
    assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));
}

#[test]
fn an_adaptive_limit_under_every_schedule_agrees_with_its_semaphore() {
    schedules(follow);
}

#[test]
fn a_closed_limit_under_every_schedule_refuses_all_who_wait_and_is_drained() {
    schedules(close);
}

#[test]
fn a_semaphore_under_every_schedule_keeps_its_maximum_its_order_and_its_wakes() {
    schedules(|| run(Discipline::Fifo, MOST, 10));
}

#[test]
fn a_semaphore_for_one_with_one_place_to_wait_leaves_nothing_behind() {
    schedules(|| run(Discipline::Fifo, 1, 1));
}

#[test]
fn a_semaphore_by_class_under_every_schedule_keeps_its_maximum_and_its_wakes() {
    schedules(|| run(Discipline::ByClass, MOST, 2));
}

#[test]
fn a_semaphore_that_keeps_places_from_lower_classes_under_every_schedule_wakes_them_all() {
    schedules(|| run(Discipline::Capped, MOST, 2));
}

#[test]
fn a_fair_semaphore_under_every_schedule_keeps_its_maximum_and_its_wakes() {
    schedules(|| run(Discipline::ByShare, MOST, 1));
}
