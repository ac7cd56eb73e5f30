//! A berth under a model checker: the thread that owns it, one that its calls go to, and two drivers.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    task::{Wake, Waker},
    time::Duration,
};

use shuttle::{
    rand::{Rng, thread_rng},
    thread,
};
use stockade_testkit::schedules;
use tokio::{runtime::Handle, time::Instant};

use super::{
    berth::{Berth, nanos},
    list::{List, Task},
};

const CALLS: usize = 4;

/// The tasks that make calls; the last one is on the second runtime, the others are on the first.
const TASKS: usize = 3;

/// A thread's berth, and the lists of the two runtimes it belongs to. Only they are made of what the checker controls, so
/// the rest stands still between two of its steps.
struct World {
    start: Instant,
    berth: &'static Berth,
    runtimes: [Arc<Runtime>; 2],
    tasks: [Arc<Flag>; TASKS],
    /// A call on its way to the other thread.
    sent: Mutex<Option<Call>>,
}

struct Runtime {
    list: &'static List,
    /// In milliseconds, as all times here.
    now: AtomicU64,
    /// When the driver wakes.
    wakes: AtomicU64,
}

/// A call that has the berth.
#[derive(Clone, Copy, Debug)]
struct Call {
    task: usize,
    due: u64,
}

/// Whether a task has been woken.
#[derive(Default)]
struct Flag(AtomicBool);

/// There is no driver.
const NEVER: u64 = u64::MAX;

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

impl Wake for Runtime {
    fn wake(self: Arc<Self>) {
        self.wakes.store(0, SeqCst);
    }
}

impl World {
    fn new() -> Self {
        let runtime = || {
            Arc::new(Runtime {
                list: Box::leak(Box::new(List::new(Handle::current().id()))),
                now: AtomicU64::new(0),
                wakes: AtomicU64::new(NEVER),
            })
        };
        Self {
            start: Instant::now(),
            berth: Box::leak(Box::new(Berth::new())),
            runtimes: [runtime(), runtime()],
            tasks: Default::default(),
            sent: Mutex::default(),
        }
    }

    fn at(&self, millis: u64) -> Instant {
        self.start + Duration::from_millis(millis)
    }

    fn millis(&self, at: Instant) -> u64 {
        at.duration_since(self.start).as_millis() as u64
    }

    fn runtime(&self, task: usize) -> &Arc<Runtime> {
        &self.runtimes[usize::from(task == TASKS - 1)]
    }

    fn tend(&self, runtime: &Runtime, task: Task) {
        match task {
            Task::Nothing => {}
            Task::Wake(driver) => driver.wake(),
            // It looks at the list before it sleeps.
            Task::Start(..) => runtime.wakes.store(0, SeqCst),
        }
    }

    /// The calls of the thread that the berth belongs to. Returns the last one, if it has not ended.
    fn owner(&self) -> Option<Call> {
        let mut last = None;
        for _ in 0..CALLS {
            // Most tasks make one call after the other.
            let another = thread_rng().gen_range(0..TASKS);
            let task = last.filter(|_| thread_rng().gen_range(0..2) == 0).unwrap_or(another);
            let waker = Waker::from(Arc::clone(&self.tasks[task]));
            // A thread asks whether it can take its berth again, and if not, whether it can take it at all.
            let again = last == Some(task) && self.berth.is_free_for(&waker);
            if !again && !self.berth.standby.is_free() {
                thread::yield_now();
                continue;
            }
            let runtime = self.runtime(task);
            let due = runtime.now.load(SeqCst) + thread_rng().gen_range(1..5) * 2;
            let at = self.at(due);
            let same = last.replace(task) == Some(task) && (again || self.berth.is_for(&waker));
            let current = || (runtime.list, runtime.list.lock());
            let todo = self.berth.take((at, nanos(at).unwrap()), same, &waker, current);
            self.tend(runtime, todo);
            let call = Call { task, due };
            match thread_rng().gen_range(0..4) {
                0 => self.berth.free(),
                1 => *self.sent.lock().unwrap() = Some(call),
                2 => return Some(call),
                _ => {
                    self.poll(call, call.task);
                    self.berth.free();
                }
            }
        }
        None
    }

    /// Ends the calls that come from the other thread, in another task perhaps. Returns one that has not ended.
    fn other(&self) -> Option<Call> {
        for _ in 0..CALLS {
            let Some(mut call) = self.sent.lock().unwrap().take() else {
                thread::yield_now();
                continue;
            };
            if call.task < TASKS - 1 {
                call.task = thread_rng().gen_range(0..TASKS - 1);
            }
            if !self.poll(call, call.task) && thread_rng().gen_range(0..2) == 0 {
                return Some(call);
            }
            self.berth.free();
        }
        None
    }

    /// Whether the call is due.
    fn poll(&self, call: Call, task: usize) -> bool {
        let runtime = self.runtime(task);
        let waker = Waker::from(Arc::clone(&self.tasks[task]));
        match self.berth.renew(&waker) {
            Some(task) => {
                self.tend(runtime, task);
                false
            }
            None => {
                assert!(runtime.now.load(SeqCst) >= call.due, "it fired early");
                true
            }
        }
    }

    fn drive(&self, runtime: &Arc<Runtime>) {
        for _ in 0..CALLS {
            let passed = thread_rng().gen_range(0..4);
            let now = runtime.now.fetch_add(passed, SeqCst) + passed;
            if thread_rng().gen_range(0..8) == 0 && runtime.wakes.swap(NEVER, SeqCst) != NEVER {
                runtime.list.driver_lost();
            } else if runtime.wakes.load(SeqCst) <= now {
                self.fire(runtime, now);
            } else {
                thread::yield_now();
            }
        }
    }

    fn fire(&self, runtime: &Arc<Runtime>, now: u64) {
        runtime.wakes.store(NEVER, SeqCst);
        let mut due = Vec::new();
        let next = runtime.list.fire(self.at(now), &Waker::from(Arc::clone(runtime)), &mut due);
        if let Some(next) = next {
            runtime.wakes.fetch_min(self.millis(next), SeqCst);
        }
        due.into_iter().for_each(Waker::wake);
    }

    /// Waits for a call to be due, and polls it only when its task is woken.
    fn wait(&self, call: Call) {
        let runtime = self.runtime(call.task);
        loop {
            if self.tasks[call.task].0.swap(false, SeqCst) && self.poll(call, call.task) {
                return;
            }
            let next = runtime.wakes.load(SeqCst);
            // A millisecond late is what it may be.
            assert!(next <= call.due + 1, "{call:?} is missed: the driver wakes at {next}");
            let now = runtime.now.fetch_max(next, SeqCst).max(next);
            self.fire(runtime, now);
        }
    }
}

#[test]
fn every_deadline_is_kept_none_fires_early_and_no_waker_is_left() {
    schedules(|| {
        let world = Arc::new(World::new());
        let [owner, other] = [World::owner, World::other].map(|calls| {
            let world = Arc::clone(&world);
            thread::spawn(move || calls(&world))
        });
        let drivers = [0, 1].map(|runtime| {
            let world = Arc::clone(&world);
            thread::spawn(move || world.drive(&world.runtimes[runtime]))
        });
        let calls = [owner.join().unwrap(), other.join().unwrap()];
        drivers.into_iter().for_each(|driver| driver.join().unwrap());

        let sent = world.sent.lock().unwrap().take();
        for call in calls.into_iter().chain([sent]).flatten() {
            world.wait(call);
            world.berth.free();
        }
        for runtime in &world.runtimes {
            while runtime.wakes.load(SeqCst) != NEVER {
                let now = runtime.now.fetch_add(1, SeqCst) + 1;
                if runtime.wakes.load(SeqCst) <= now {
                    world.fire(runtime, now);
                }
            }
            // One that was freed just when the driver was lost is taken out when the list is used again.
            let gone = runtime.list.lock().lose_berths();
            drop(gone);
            assert!(runtime.list.lock().is_empty(), "a berth is left");
        }
        assert!(world.tasks.iter().all(|task| Arc::strong_count(task) == 1), "a waker is left");
    });
}
