//! The timer under a model checker: a thread that registers, one that its calls go to, and the runtime.
//!
//! The runtime and its clock are tokio's own, paused. Only the locks of the timer are the checker's, so its threads
//! take turns wherever one of them takes a lock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use shuttle::{
    rand::{Rng, thread_rng},
    sync::Mutex,
    thread,
};
use stockade_testkit::schedules;
use tokio::{
    runtime::{Builder, Runtime},
    time::{Instant, sleep},
};

use crate::internal::Timer;

const CALLS: usize = 4;

const MS: Duration = Duration::from_millis(1);

/// A call that waits, and the task that polled it last.
struct Call {
    timer: Timer,
    at: Instant,
    task: Arc<Task>,
}

/// Whether a task has been woken.
#[derive(Default)]
struct Task(AtomicBool);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

impl Call {
    fn register() -> Self {
        let task = Arc::<Task>::default();
        let at = Instant::now() + MS * random(1..6);
        let waker = Waker::from(Arc::clone(&task));
        let timer = Timer::register(at, &mut Context::from_waker(&waker));
        Self { timer, at, task }
    }

    /// Polls the call in another task. Whether it is due.
    fn poll(&mut self) -> bool {
        self.task = Arc::default();
        let waker = Waker::from(Arc::clone(&self.task));
        let due = self.timer.poll(&mut Context::from_waker(&waker)).is_ready();
        assert!(!due || Instant::now() >= self.at, "it fired early");
        due
    }

    fn is_woken(&self) -> bool {
        self.task.0.load(SeqCst)
    }

    /// Ends the call; its waker is kept nowhere.
    fn end(self) {
        let Self { timer, task, at } = self;
        drop(timer);
        // A driver may be about to wake it.
        let is_kept = Arc::strong_count(&task) > 1 && Instant::now() < at;
        assert!(!is_kept, "a waker is left");
    }
}

fn random(range: std::ops::Range<u32>) -> u32 {
    thread_rng().gen_range(range)
}

fn paused() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Registers calls. Some end at once, some go to the other thread, the others are returned.
fn owner(sent: &Mutex<Vec<Call>>) -> Vec<Call> {
    let mut kept = Vec::new();
    for _ in 0..CALLS {
        let mut call = Call::register();
        match random(0..4) {
            0 => call.end(),
            1 => sent.lock().unwrap().push(call),
            2 if call.poll() => call.end(),
            _ => kept.push(call),
        }
    }
    kept
}

/// Polls the calls that come from the owner in tasks of its own, and ends some.
fn other(sent: &Mutex<Vec<Call>>) -> Vec<Call> {
    let mut kept = Vec::new();
    for _ in 0..CALLS {
        let Some(mut call) = sent.lock().unwrap().pop() else {
            thread::yield_now();
            continue;
        };
        if call.poll() || random(0..2) == 0 {
            call.end();
        } else {
            kept.push(call);
        }
    }
    kept
}

#[test]
fn every_deadline_is_kept_none_fires_early_and_no_waker_is_left() {
    schedules(|| {
        let runtime = Arc::new(paused());
        let inside = runtime.enter();
        let sent = Arc::new(Mutex::new(Vec::new()));
        let callers = [owner, other].map(|calls| {
            let sent = Arc::clone(&sent);
            thread::spawn(move || calls(&sent))
        });
        let driver = {
            let runtime = Arc::clone(&runtime);
            thread::spawn(move || {
                for _ in 0..CALLS {
                    runtime.block_on(sleep(MS * random(0..3)));
                    thread::yield_now();
                }
            })
        };
        let mut calls: Vec<_> =
            callers.into_iter().flat_map(|calls| calls.join().unwrap()).collect();
        driver.join().unwrap();
        calls.append(&mut sent.lock().unwrap());
        drop(inside);

        runtime.block_on(async {
            for _ in 0..10 {
                sleep(MS).await;
                let late =
                    calls.iter().find(|call| !call.is_woken() && Instant::now() > call.at + MS);
                assert!(late.is_none(), "a call was not woken in time");
            }
            for mut call in calls {
                assert!(call.is_woken() && call.poll());
                call.end();
            }
        });
    });
}

#[test]
fn a_runtime_that_shuts_down_wakes_everyone_while_calls_end() {
    schedules(|| {
        let runtime = paused();
        let mut calls: Vec<_> = {
            let _inside = runtime.enter();
            (0..CALLS).map(|_| Call::register()).collect()
        };
        let end = calls.split_off(CALLS / 2);
        let ends = thread::spawn(move || drop(end));
        let shuts_down = thread::spawn(move || drop(runtime));
        ends.join().unwrap();
        shuts_down.join().unwrap();
        assert!(calls.iter().all(Call::is_woken));
    });
}
