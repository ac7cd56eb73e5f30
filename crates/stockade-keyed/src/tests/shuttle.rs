//! Look-up, use and eviction under a model checker: three threads, thousands of schedules.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Waker},
    time::Duration,
};

use shuttle::{
    rand::{Rng, thread_rng},
    thread,
};
use stockade_testkit::schedules;
use tower_layer::Layer;

use crate::{
    WhenFull,
    config::Config,
    in_use::InUse,
    shared::{Look, Shared},
    stacks::{Stack, Stacks},
    usage::{Idle, Usage},
};

const THREADS: usize = 3;
const STEPS: usize = 3;
const KEYS: u64 = 3;
const MAX_KEYS: usize = 2;
const IDLE: Duration = Duration::from_nanos(10);

/// What the threads know of the keys that are in use: which layers, and by how many calls. It is not made of what the
/// checker controls, so it stands still between two of its steps.
#[derive(Default)]
struct Books {
    in_use: Mutex<HashMap<u64, (usize, u32)>>,
    made: AtomicUsize,
    living: AtomicUsize,
}

/// The layers of a key. Their stacks are themselves.
struct Layers {
    key: u64,
    id: usize,
    books: Arc<Books>,
}

#[derive(Clone)]
struct Made(Arc<Layers>);

type InStack = InUse<Stack<u64, (), Made, Made>>;

impl Books {
    fn in_use(&self) -> MutexGuard<'_, HashMap<u64, (usize, u32)>> {
        self.in_use.lock().expect("nobody panics under it")
    }

    /// A call of `key` has this stack.
    fn begin(&self, key: u64, made: &Layers) {
        let mut in_use = self.in_use();
        let (id, calls) = in_use.entry(key).or_insert((made.id, 0));
        assert_eq!((made.key, made.id), (key, *id), "one stack a key");
        *calls += 1;
    }

    fn end(&self, key: u64) {
        let mut in_use = self.in_use();
        let (_, calls) = in_use.get_mut(&key).expect("it began");
        *calls -= 1;
        if *calls == 0 {
            in_use.remove(&key);
        }
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        self.books.living.fetch_sub(1, SeqCst);
        let in_use = self.books.in_use();
        assert!(in_use.values().all(|(id, _)| *id != self.id), "dropped while in use");
    }
}

impl Layer<()> for Made {
    type Service = Self;

    fn layer(&self, (): ()) -> Self {
        self.clone()
    }
}

struct World {
    books: Arc<Books>,
    shared: Arc<Shared<u64, (), Made>>,
    services: [Arc<Stacks<(), u64, (), Made>>; 2],
}

impl World {
    fn new(when_full: WhenFull) -> Self {
        let books = Arc::new(Books::default());
        let config = Config { max_keys: MAX_KEYS, idle: IDLE, when_full, name: None };
        let making = Arc::clone(&books);
        let make = move |key: &u64| {
            making.living.fetch_add(1, SeqCst);
            let id = making.made.fetch_add(1, SeqCst);
            (Made(Arc::new(Layers { key: *key, id, books: Arc::clone(&making) })), ())
        };
        let shared = Arc::new(Shared::new(config, Arc::new(make)));
        let services = [(); 2].map(|()| Stacks::new((), Arc::clone(&shared)));
        Self { books, shared, services }
    }

    fn call(&self, key: u64) {
        let service = &self.services[thread_rng().gen_range(0..2)];
        let Ok(in_use) = service.enter(key, self.shared.hash(&key)) else { return };
        let own = self.own(&in_use, key);
        thread::yield_now();
        if own {
            let kept = self.shared.find(&key).expect("a key in use is kept");
            let kept = kept.layers.downcast_ref::<Made>().expect("they are of this type");
            assert_eq!(kept.0.id, in_use.get().stack.0.id);
            self.books.end(key);
        }
        drop(in_use);
    }

    /// Whether the stack is the key's own, which is noted.
    fn own(&self, in_use: &InStack, key: u64) -> bool {
        let Some(own) = in_use.get().key() else { return false };
        assert_eq!(own, key);
        self.books.begin(key, &in_use.get().stack.0);
        true
    }

    fn step(&self) {
        match thread_rng().gen_range(0..6) {
            0 => {
                let time = Duration::from_nanos(thread_rng().gen_range(1..20));
                let _ =
                    pin!(tokio::time::advance(time)).poll(&mut Context::from_waker(Waker::noop()));
            }
            1 => {
                self.shared.sweep(self.shared.common.now());
            }
            _ => self.call(thread_rng().gen_range(0..KEYS)),
        }
        assert!(self.shared.len() <= MAX_KEYS);
    }
}

fn keys_in_use_are_kept_and_idle_ones_go(when_full: WhenFull) {
    schedules(move || {
        let world = Arc::new(World::new(when_full));
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let world = Arc::clone(&world);
                thread::spawn(move || (0..STEPS).for_each(|_| world.step()))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        let now = world.shared.common.now() + 2 * IDLE.as_nanos() as u64;
        while world.shared.sweep(now) {}
        assert_eq!(world.shared.len(), 0);
        assert_eq!(world.books.living.load(SeqCst), world.shared.all_overflow().len());
        let weak = Arc::downgrade(&world.services[0]);
        let books = Arc::clone(&world.books);
        drop(world);
        assert_eq!((Weak::strong_count(&weak), books.living.load(SeqCst)), (0, 0));
    });
}

#[test]
fn keys_in_use_are_kept_and_idle_ones_go_where_others_share() {
    keys_in_use_are_kept_and_idle_ones_go(WhenFull::Share);
}

#[test]
fn keys_in_use_are_kept_and_idle_ones_go_where_others_are_refused() {
    keys_in_use_are_kept_and_idle_ones_go(WhenFull::Refuse);
}

#[test]
fn a_key_is_dropped_or_used_but_never_both() {
    schedules(|| {
        let usage = Arc::new(Usage::new(0));
        let calls = (0..2).map(|n| {
            let usage = Arc::clone(&usage);
            thread::spawn(move || {
                let entered = usage.enter();
                if entered {
                    usage.exit(10 + n);
                }
                entered
            })
        });
        let calls: Vec<_> = calls.collect();
        let dropped = (0..2).any(|_| usage.drop_idle(0, 100) == Idle::Dropped);
        // A call that came before would have been seen, in flight or by the time of its end.
        let entered = calls
            .into_iter()
            .map(|call| call.join().expect("no panic"))
            .filter(|entered| *entered)
            .count();
        assert_eq!(entered, if dropped { 0 } else { 2 });
        if !dropped {
            let Idle::Since(since) = usage.drop_idle(0, 100) else { panic!("it was used") };
            assert_eq!((since, usage.drop_idle(since, 100)), (11, Idle::Dropped));
        } else {
            assert!(!usage.enter());
        }
    });
}
