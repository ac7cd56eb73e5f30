//! A bucket under thousands of schedules of three callers and a timer, with a time of its own.
//!
//! Each caller makes calls: some pass, some wait, some of those leave before or after they are served. One thread is the
//! timer: it moves the time on to when the alarm is set, and lets it go off. Now and then a caller changes the rate or
//! imposes a penalty. A lost wake is a deadlock, which shuttle finds.

use std::{
    num::NonZeroU32,
    sync::Arc,
    task::{Poll, Wake, Waker},
    time::Duration,
};

use governor::nanos::Nanos;
use shuttle::{
    rand::{Rng, thread_rng},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread::{self, Thread},
};
use stockade_core::internal::Key;
use stockade_testkit::schedules;
use tokio::runtime::{Builder, Handle};

use crate::{Config, limiter::Common, shared::Shared};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

struct World {
    shared: Arc<Shared>,
    runtime: Handle,
    now: AtomicU64,
    step: AtomicU64,
    /// How many callers are at work.
    callers: AtomicU64,
    /// The tokens that calls got and kept.
    tokens: AtomicU64,
    /// The calls that entered the queue, with the step at which they were in it.
    entered: Mutex<Vec<(Key, u64)>>,
}

const PERIOD: u64 = 100;
const BURST: u64 = 3;
const CALLERS: u64 = 3;
const CALLS: u32 = 3;

impl World {
    fn now(&self) -> Nanos {
        self.now.load(SeqCst).into()
    }

    fn step(&self) -> u64 {
        self.step.fetch_add(1, SeqCst)
    }

    fn call(&self) {
        let cost = NonZeroU32::new(thread_rng().gen_range(1..=2)).unwrap();
        let came = self.step();
        if self.shared.pass(self.now(), cost) {
            return self.served(cost, came);
        }
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let from = || (Some(self.runtime.clone()), waker.clone());
        let mut place = None;
        match self.shared.enter(self.now(), cost, true, from(), &mut place) {
            Poll::Ready(Ok(())) => return self.served(cost, came),
            Poll::Ready(Err(rejected)) => panic!("nobody is refused here: {rejected}"),
            Poll::Pending => {}
        }
        let key = place.expect("it waits");
        self.entered.lock().unwrap().push((key, self.step()));
        let patience = thread_rng().gen_range(0..6);
        for asked in 0.. {
            if asked == patience {
                // As if its future were dropped, perhaps with its tokens.
                return self.shared.leave(self.now(), key, cost);
            }
            match self.shared.turn(self.now(), key, from()) {
                Poll::Ready(Ok(())) => return self.served(cost, came),
                Poll::Ready(Err(rejected)) => panic!("nobody is refused here: {rejected}"),
                Poll::Pending => thread::park(),
            }
        }
    }

    /// A call that came at this step has got its tokens. Calls that were in the queue before it have theirs, or have left.
    fn served(&self, cost: NonZeroU32, came: u64) {
        self.tokens.fetch_add(cost.get().into(), SeqCst);
        let entered = self.entered.lock().unwrap().clone();
        for (key, step) in entered {
            assert!(step > came || !self.shared.is_waiting(key), "a call that waits was overtaken");
        }
    }

    fn caller(&self, turns: bool) {
        let set_rate = |period| {
            let rate = self.shared.set_rate(self.now(), 1, Duration::from_nanos(period));
            rate.expect("a rate that is allowed");
        };
        for _ in 0..CALLS {
            match thread_rng().gen_range(0..8) {
                0 if turns => set_rate(PERIOD * 2),
                1 if turns => set_rate(PERIOD),
                2 if turns => self.shared.penalize(self.now(), Duration::from_nanos(PERIOD * 5)),
                _ => {}
            }
            self.call();
        }
        self.callers.fetch_sub(1, SeqCst);
    }

    fn timer(&self) {
        while self.callers.load(SeqCst) > 0 {
            if let Some(due) = self.shared.with_alarms(|alarms| alarms.due()) {
                self.now.fetch_max(due.into(), SeqCst);
                self.shared.went_off(self.now(), self.runtime.id());
            }
            thread::yield_now();
        }
    }

    fn check(&self) {
        let tokens = self.tokens.load(SeqCst);
        let promised = BURST + self.now().as_u64() / PERIOD + 1;
        assert!(tokens <= promised, "{tokens} tokens were given of {promised}");
        assert_eq!(self.shared.waiting(), 0, "somebody is left");
        assert!(self.shared.is_unowed(), "a cost is left");
        assert_eq!(self.shared.with_alarms(|alarms| alarms.due()), None, "an alarm is left");
    }
}

fn explore(turns: bool) {
    let runtime = Builder::new_current_thread().build().unwrap();
    let handle = runtime.handle().clone();
    schedules(move || {
        let burst = u32::try_from(BURST).unwrap();
        let config = Config {
            burst: Some(burst),
            queue: 10,
            ..Config::new(1, Duration::from_nanos(PERIOD))
        };
        let world = Arc::new(World {
            shared: Arc::new(Shared::new(Arc::new(Common::new(config)))),
            runtime: handle.clone(),
            now: AtomicU64::new(0),
            step: AtomicU64::new(0),
            callers: AtomicU64::new(CALLERS),
            tokens: AtomicU64::new(0),
            entered: Mutex::default(),
        });
        let callers = (0..CALLERS).map(|_| {
            let world = Arc::clone(&world);
            thread::spawn(move || world.caller(turns))
        });
        let mut threads: Vec<_> = callers.collect();
        let timer = Arc::clone(&world);
        threads.push(thread::spawn(move || timer.timer()));
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
