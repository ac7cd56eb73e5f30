//! A thread's own place in the line of the timer.
//!
//! Each thread keeps one [`Standby`], with the waker of the task that had it last. A task that makes one call after
//! the other, as most do, finds it as it left it, and its next timer costs one atomic exchange. Other tasks take it
//! over under the lock of the list, and while a call has it, other calls of the thread enter the list as usual.
//! So the wakers that are kept although their call has ended are never more than one a thread, and none is kept longer
//! than until its standby comes up, or its runtime ends.

use std::{
    cell::Cell,
    ptr,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Waker,
    time::Duration,
};

use tokio::{task, time::Instant};

use crate::deadline::{Nanos, saturating_add};

use super::{
    StaticPool,
    agenda::Place,
    list::{List, Locked, Task},
    lock,
    recent::Window,
    standby::Standby,
    sync::Mutex,
};

/// A standby, and where it stands for whom. It belongs to a thread.
#[derive(Debug)]
pub(crate) struct Berth {
    pub(crate) standby: Standby,
    /// The waker that is kept in the line, by where its data and its functions are. Written by the owner.
    waker: (AtomicUsize, AtomicUsize),
    /// In which line it was put last, and where. The list is written by the owner, the place under its lock.
    moored: Mutex<Option<(&'static List, Place)>>,
}

/// What a thread knows of its berth, and of the calls that it made last.
struct Home {
    berth: Cell<Option<&'static Berth>>,
    /// The task that the waker is of.
    task: Cell<Option<task::Id>>,
    window: Cell<Option<Window>>,
    /// When calls with this limit are due that begin in the window.
    limit: Cell<Option<Nanos>>,
    at: Cell<Option<Instant>>,
    due: Cell<u64>,
}

/// Gives the thread's berth back when the thread ends.
struct GiveBack;

static BERTHS: StaticPool<Berth> = StaticPool::new();

thread_local! {
    static HOME: Home = const {
        Home {
            berth: Cell::new(None),
            task: Cell::new(None),
            window: Cell::new(None),
            limit: Cell::new(None),
            at: Cell::new(None),
            due: Cell::new(0),
        }
    };
    static GIVE_BACK: GiveBack = const { GiveBack };
}

// === impl Berth ===

impl Berth {
    pub(crate) fn new() -> Self {
        Self { standby: Standby::new(), waker: Default::default(), moored: Mutex::new(None) }
    }

    /// Whether `waker` is the one that is kept in line. It is not dropped while it is there, so what has the same
    /// address is the same.
    #[inline]
    pub(crate) fn is_for(&self, waker: &Waker) -> bool {
        self.waker.0.load(Relaxed) == waker.data().addr()
            && self.waker.1.load(Relaxed) == ptr::from_ref(waker.vtable()).addr()
    }

    /// Whether its owner can take it for `waker`. Asked in this order: a call that has it, on another thread perhaps, may
    /// put another waker in line until it frees it.
    #[inline]
    pub(crate) fn is_free_for(&self, waker: &Waker) -> bool {
        self.standby.is_free() && self.is_for(waker)
    }

    /// `waker` is now kept in line.
    pub(crate) fn keeps(&self, waker: &Waker) {
        self.waker.0.store(waker.data().addr(), Relaxed);
        self.waker.1.store(ptr::from_ref(waker.vtable()).addr(), Relaxed);
    }

    /// The waker that is kept in line is not to be recognized.
    fn waker_is_strange(&self) {
        self.waker.0.store(0, Relaxed);
        // No waker has its functions there.
        self.waker.1.store(0, Relaxed);
    }

    /// Takes it, while it is free, for a call that is due at `at`, which is `due` as a number. `same` says that the task
    /// is the one that had it last, and so on the runtime of the list; otherwise it goes to the list that is `current`.
    #[inline]
    pub(crate) fn take(
        &'static self,
        (at, due): (Instant, u64),
        same: bool,
        waker: &Waker,
        current: impl Fn() -> Locked,
    ) -> Task {
        if self.standby.take(due) && same {
            return Task::Nothing;
        }
        let waker = waker.clone();
        let mut locked = current();
        if self.list().is_some_and(|old| !ptr::eq(old, locked.0)) {
            drop(locked);
            self.cast_off();
            locked = current();
        }
        List::moor(locked, self, at, waker)
    }

    /// Keeps `waker` for the call that has it; there is none if it was due.
    #[inline]
    pub(crate) fn renew(&'static self, waker: &Waker) -> Option<Task> {
        if self.standby.is_in_line() && self.is_for(waker) {
            return Some(Task::Nothing);
        }
        self.list()?.renew_moored(self, waker)
    }

    /// The call has ended that had it.
    #[inline]
    pub(crate) fn free(&'static self) {
        if self.standby.is_lost() {
            self.cast_off();
        }
        self.standby.free();
    }

    #[cold]
    fn cast_off(&'static self) {
        if let Some(list) = self.list() {
            list.cast_off(self);
        }
    }

    pub(crate) fn list(&self) -> Option<&'static List> {
        lock(&self.moored).as_ref().map(|(list, _)| *list)
    }

    /// Its place in the list, unless it has left; under the lock of the list.
    pub(crate) fn place(&self) -> Option<Place> {
        if self.standby.is_out() { None } else { self.last_place() }
    }

    /// The place that it had last; under the lock of the list.
    pub(crate) fn last_place(&self) -> Option<Place> {
        lock(&self.moored).as_ref().map(|(_, place)| *place)
    }

    /// It is at `place` now; under the lock of the list.
    pub(crate) fn moor_at(&self, list: &'static List, place: Place) {
        *lock(&self.moored) = Some((list, place));
    }
}

// === impl Home ===

impl Home {
    /// Gets the thread a berth.
    #[cold]
    fn settle(&self) -> Option<&'static Berth> {
        GIVE_BACK.try_with(|_| ()).ok()?;
        let berth = BERTHS.take_if(|berth| berth.standby.is_free(), Berth::new);
        self.berth.set(Some(berth));
        Some(berth)
    }

    /// Keeps when calls with this limit are due that begin in the window.
    fn keep(&self, limit: Nanos, window: Option<Window>) {
        let at = window.map(|window| saturating_add(window.end, limit.get()));
        let due = at.and_then(nanos);
        self.window.set(window);
        self.limit.set(due.map(|_| limit));
        self.at.set(at);
        self.due.set(due.unwrap_or(0));
    }
}

/// Takes the berth of this thread for a call that begins now and may take `limit`, if the last call was one of the
/// same task with the same limit, and just now.
#[inline]
pub(crate) fn take_again(limit: Nanos, waker: &Waker) -> Option<(&'static Berth, Instant)> {
    HOME.with(|home| {
        let berth = home.berth.get()?;
        let again = home.limit.get() == Some(limit)
            && berth.is_free_for(waker)
            && home.task.get() == task::try_id()
            && home.window.get().is_some_and(|window| window.holds());
        if !again {
            return None;
        }
        let at = home.at.get()?;
        if berth.standby.take(home.due.get()) {
            return Some((berth, at));
        }
        berth.standby.free();
        None
    })
}

/// When a call ends that begins now, may take `limit`, and gets the berth of this thread. Whoever does not has to look at
/// the clock, lest the deadlines of two threads that end their windows at different times come out of order.
pub(crate) fn end(limit: Nanos) -> Instant {
    HOME.with(|home| {
        let (begin, window) = match home.window.get().filter(Window::holds) {
            Some(window) => (window.end, Some(window)),
            None => Window::open(),
        };
        home.keep(limit, window);
        saturating_add(begin, limit.get())
    })
}

/// The berth of this thread, and whether it is for the task that runs now, and for `waker`. There is none if a call
/// has it, outside tasks, and when the thread ends.
#[inline]
pub(crate) fn mine(waker: &Waker) -> Option<(&'static Berth, bool)> {
    HOME.with(|home| {
        let berth = match home.berth.get() {
            Some(berth) if berth.standby.is_free() => berth,
            Some(_) => return None,
            None => home.settle()?,
        };
        let task = task::try_id()?;
        if home.task.replace(Some(task)) != Some(task) {
            // Whatever becomes of this call, the waker in line is not of this task, though it may have one like it.
            berth.waker_is_strange();
        }
        Some((berth, berth.is_for(waker)))
    })
}

impl Drop for GiveBack {
    fn drop(&mut self) {
        if let Some(berth) = HOME.with(|home| home.berth.take()) {
            BERTHS.give_back(berth);
        }
    }
}

// === instants as numbers ===

/// Nanoseconds since an instant long ago, if it is after that.
pub(crate) fn nanos(at: Instant) -> Option<u64> {
    let since = at.checked_duration_since(epoch())?;
    u64::try_from(since.as_nanos()).ok().filter(|nanos| *nanos < u64::MAX)
}

/// The same of an instant that has come. What is due before it is so in these numbers too.
pub(crate) fn nanos_of(now: Instant) -> u64 {
    nanos(now).unwrap_or(0)
}

pub(crate) fn instant(nanos: u64) -> Instant {
    saturating_add(epoch(), Duration::from_nanos(nanos))
}

fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(|| {
        let now = Instant::now();
        // A paused clock may be behind.
        now.checked_sub(Duration::from_secs(86_400)).unwrap_or(now)
    })
}
