//! The gate under thousands of schedules of three threads, with a time of its own.
//!
//! Each thread makes calls: some pass, some wait, some of those leave before they are served, some give their token back, and a head
//! that sleeps moves the time on to when its tokens are due. Now and then one changes the rate or
//! imposes a penalty. A lost wake is a deadlock, which shuttle finds.

use std::{
    num::NonZeroU32,
    sync::Arc,
    task::{Wake, Waker},
    time::Duration,
};

use governor::{Quota, nanos::Nanos};
use shuttle::{
    rand::{Rng, thread_rng},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread::{self, Thread},
};
use stockade_testkit::schedules;

use crate::{
    bucket,
    clock::Clock,
    gate::{Gate, Rules, Turn, Verdict},
};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A call that got its tokens. The steps say in which order all this was seen.
struct Served {
    cost: u64,
    came: u64,
    /// When it was in the queue, if it waited there.
    entered: Option<u64>,
    last_asked: u64,
    left: u64,
}

struct World {
    gate: Gate,
    now: AtomicU64,
    step: AtomicU64,
    served: Mutex<Vec<Served>>,
}

const PERIOD: u64 = 100;
const BURST: u64 = 3;
const CALLS: u32 = 3;

fn quota(period: u64) -> Quota {
    let burst = NonZeroU32::new(u32::try_from(BURST).unwrap()).unwrap();
    bucket::quota(Duration::from_nanos(period), burst)
}

impl World {
    fn now(&self) -> Nanos {
        self.now.load(SeqCst).into()
    }

    fn step(&self) -> u64 {
        self.step.fetch_add(1, SeqCst)
    }

    fn call(&self) {
        let cost = NonZeroU32::new(thread_rng().gen_range(1..=2)).unwrap();
        let said = (cost.get() > 1).then_some(cost);
        let came = self.step();
        let served = |entered, last_asked| {
            if cost.get() == 1 && thread_rng().gen_range(0..6) == 0 {
                // As if an instance that was ready were dropped.
                return self.gate.give_back();
            }
            let (cost, left) = (cost.get().into(), self.step());
            self.served.lock().unwrap().push(Served { cost, came, entered, last_asked, left });
        };
        if self.gate.pass(self.now(), said) {
            return served(None, came);
        }
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let key = match self.gate.enter(self.now(), cost, &waker) {
            Verdict::Pass => return served(None, came),
            Verdict::Refuse(rejected) => panic!("nobody is refused here: {rejected}"),
            Verdict::Wait(key) => key,
        };
        let entered = Some(self.step());
        let patience = thread_rng().gen_range(0..6);
        for asked in 0.. {
            if asked == patience {
                // As if its future were dropped.
                return self.gate.remove(key);
            }
            let last_asked = self.step();
            match self.gate.turn(key, &waker, || self.now()) {
                Turn::Served => return served(entered, last_asked),
                Turn::Refused(rejected) => panic!("nobody is refused here: {rejected}"),
                Turn::Due(after, _) => {
                    let due = self.now().as_u64() + u64::try_from(after.as_nanos()).unwrap();
                    self.now.fetch_max(due, SeqCst);
                }
                Turn::Behind => thread::park(),
            }
        }
    }

    fn thread(&self, turns: bool) {
        for _ in 0..CALLS {
            match thread_rng().gen_range(0..8) {
                0 if turns => self.gate.set_quota(self.now(), quota(PERIOD * 2)),
                1 if turns => self.gate.set_quota(self.now(), quota(PERIOD)),
                2 if turns => self.gate.penalize(self.now() + Nanos::from(PERIOD * 5)),
                _ => {}
            }
            self.call();
        }
    }

    fn check(&self) {
        let served = self.served.lock().unwrap();
        let tokens: u64 = served.iter().map(|call| call.cost).sum();
        let promised = BURST + self.now().as_u64() / PERIOD + 1;
        assert!(tokens <= promised, "{tokens} tokens were given of {promised}");
        for (first, second) in served.iter().flat_map(|a| served.iter().map(move |b| (a, b))) {
            let ahead = first.entered.is_some_and(|entered| entered < second.came);
            assert!(!ahead || second.left > first.last_asked, "one who waited was overtaken");
        }
        assert_eq!(self.gate.waiting(), 0, "somebody is left");
        assert!(self.gate.is_unowed(), "a cost is left");
    }
}

fn explore(turns: bool) {
    let clock = Clock::new();
    schedules(move || {
        let rules = Rules { burst: None, queue: 10, max_wait: None, name: None };
        let world = Arc::new(World {
            gate: Gate::new(quota(PERIOD), rules, clock.clone()),
            now: AtomicU64::new(0),
            step: AtomicU64::new(0),
            served: Mutex::default(),
        });
        let threads = [(); 3].map(|()| {
            let world = Arc::clone(&world);
            thread::spawn(move || world.thread(turns))
        });
        for thread in threads {
            thread.join().unwrap();
        }
        world.check();
    });
}

#[test]
fn no_token_is_given_twice_nobody_overtakes_no_wake_is_lost_and_nothing_is_left() {
    explore(false);
}

#[test]
fn the_same_holds_while_the_rate_changes_and_penalties_are_imposed() {
    explore(true);
}
