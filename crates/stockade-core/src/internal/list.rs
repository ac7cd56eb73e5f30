//! Who waits on one runtime, and until when.
//!
//! A list is told what time it is, and says what its driver, the task that sleeps for it, has to do.

use std::{task::Waker, time::Duration};

use tokio::{runtime, time::Instant};

use super::{
    agenda::{Agenda, Place},
    berth::{Berth, instant, nanos_of},
    lock,
    standby::CalledUp,
    sync::{Mutex, MutexGuard},
};

/// The deadlines of one runtime.
#[derive(Debug)]
pub(crate) struct List(Mutex<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    /// The runtime that the driver runs on, or ran on last.
    pub(crate) runtime: runtime::Id,
    entries: Agenda<Waiter>,
    driver: Driver,
}

/// Who is to be woken, and whose berth it is, if it is one. Its waker may run code of its own when it is dropped, so
/// that is done after the lock.
#[derive(Debug)]
pub(crate) struct Waiter {
    waker: Waker,
    berth: Option<&'static Berth>,
}

#[derive(Debug, Default)]
struct Driver {
    running: bool,
    /// Until when it sleeps, and how to wake it for an earlier deadline.
    asleep: Option<(Instant, Waker)>,
}

/// What is to be done, after the lock, that a deadline is kept.
#[derive(Debug)]
#[must_use]
pub(crate) enum Task {
    Nothing,
    /// The driver of the list is to be started, with this deadline.
    Start(&'static List, Instant),
    /// The driver is to be woken, because it would sleep for too long.
    Wake(Waker),
}

/// A list, locked.
pub(crate) type Locked = (&'static List, MutexGuard<'static, Inner>);

/// A deadline that comes earlier than the driver wakes by less than this waits for it.
const RESOLUTION: Duration = Duration::from_millis(1);

// === impl List ===

impl List {
    pub(crate) const fn new(runtime: runtime::Id) -> Self {
        let driver = Driver { running: false, asleep: None };
        Self(Mutex::new(Inner { runtime, entries: Agenda::new(), driver }))
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.0)
    }

    /// Enters a waiter that is due at `at`.
    #[inline]
    pub(crate) fn enter((list, mut inner): Locked, at: Instant, waker: Waker) -> (Place, Task) {
        let place = inner.entries.enter(at, Waiter { waker, berth: None });
        (place, inner.task(list, at))
    }

    #[inline(never)]
    pub(crate) fn leave(&self, place: Place) {
        let waiter = self.lock().entries.remove(place);
        // Not in one line, which would drop it before the lock.
        drop(waiter);
    }

    /// Keeps `waker` for who is at `place`; there is nobody if it was due.
    pub(crate) fn renew(&'static self, place: Place, waker: &Waker) -> Option<Task> {
        let mut inner = self.lock();
        let entry = inner.entries.get_mut(place)?;
        let old = entry.value.renew(waker);
        let at = entry.at;
        let task = inner.task(self, at);
        drop(inner);
        drop(old);
        Some(task)
    }

    /// Puts a berth in line for a call that has taken it, and is due at `at`. It is in no other list.
    pub(crate) fn moor(
        (list, mut inner): Locked,
        berth: &'static Berth,
        at: Instant,
        waker: Waker,
    ) -> Task {
        let old = inner.moor(list, berth, at, waker);
        let task = inner.task(list, at);
        drop(inner);
        drop(old);
        task
    }

    /// Keeps `waker` for the call that has the berth; there is none if it was due.
    pub(crate) fn renew_moored(
        &'static self,
        berth: &'static Berth,
        waker: &Waker,
    ) -> Option<Task> {
        let mut inner = self.lock();
        let entry = inner.entries.get_mut(berth.place()?)?;
        let old = entry.value.renew(waker);
        // The clone, which need not look like what it was cloned from.
        berth.keeps(&entry.value.waker);
        let at = entry.at;
        berth.standby.put(nanos_of(at));
        let task = inner.task(self, at);
        drop(inner);
        drop(old);
        Some(task)
    }

    /// Takes a berth out of the line.
    pub(crate) fn cast_off(&self, berth: &'static Berth) {
        let mut inner = self.lock();
        let old = berth.place().and_then(|place| inner.entries.remove(place));
        berth.standby.take_out();
        drop(inner);
        drop(old);
    }

    /// Adds who is to be woken by now to `due`; says when the next one is, or that the driver ends.
    pub(crate) fn fire(
        &'static self,
        now: Instant,
        driver: &Waker,
        due: &mut Vec<Waker>,
    ) -> Option<Instant> {
        let mut inner = self.lock();
        let gone = inner.call_up(self, now, due);
        let next = inner.entries.next();
        inner.driver = match next {
            Some(at) => Driver { running: true, asleep: Some((at, driver.clone())) },
            None => Driver::default(),
        };
        drop(inner);
        drop(gone);
        next
    }

    /// The driver was lost with its runtime: whoever still waits is woken, and starts another.
    pub(crate) fn driver_lost(&self) {
        let mut inner = self.lock();
        inner.driver = Driver::default();
        let gone = inner.lose_berths();
        let left: Vec<Waker> = inner.entries.iter().map(|waiter| waiter.waker.clone()).collect();
        drop(inner);
        drop(gone);
        left.into_iter().for_each(Waker::wake);
    }
}

// === impl Waiter ===

impl Waiter {
    /// Keeps `waker`. Returns the one before, if it was another.
    fn renew(&mut self, waker: &Waker) -> Option<Waker> {
        (!self.waker.will_wake(waker)).then(|| std::mem::replace(&mut self.waker, waker.clone()))
    }
}

// === impl Inner ===

impl Inner {
    pub(crate) const fn is_driven(&self) -> bool {
        self.driver.running
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.iter().count()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn moor(
        &mut self,
        list: &'static List,
        berth: &'static Berth,
        at: Instant,
        waker: Waker,
    ) -> Option<Waiter> {
        berth.keeps(&waker);
        let waiter = Waiter { waker, berth: Some(berth) };
        let kept = berth.place();
        match kept.and_then(|place| self.entries.get_mut(place)) {
            Some(entry) if entry.at <= at => {
                berth.standby.put(nanos_of(entry.at));
                Some(std::mem::replace(&mut entry.value, waiter))
            }
            _ => {
                let old = kept.and_then(|place| self.entries.remove(place));
                self.put(list, berth, at, waiter);
                old
            }
        }
    }

    fn put(&mut self, list: &'static List, berth: &'static Berth, at: Instant, waiter: Waiter) {
        let place = self.entries.enter(at, waiter);
        berth.moor_at(list, place);
        berth.standby.put(nanos_of(at));
    }

    /// Adds who is due to `due`. Returns who only kept a berth in line that no call has.
    fn call_up(&mut self, list: &'static List, now: Instant, due: &mut Vec<Waker>) -> Vec<Waiter> {
        let mut gone = Vec::new();
        while let Some(waiter) = self.entries.pop_due(now) {
            let Some(berth) = waiter.berth else {
                due.push(waiter.waker);
                continue;
            };
            match berth.standby.call_up(nanos_of(now)) {
                CalledUp::Due => due.push(waiter.waker),
                CalledUp::Free => gone.push(waiter),
                CalledUp::Later(at) => self.put(list, berth, instant(at), waiter),
            }
        }
        gone
    }

    /// Nobody looks after the list: takes the berths out that no call has. The others are marked.
    pub(crate) fn lose_berths(&mut self) -> Vec<Waiter> {
        let berths = self.entries.iter().filter_map(|waiter| waiter.berth);
        let free: Vec<_> = berths.filter(|berth| !berth.standby.lose()).collect();
        let mut gone = Vec::new();
        for berth in free {
            gone.extend(berth.last_place().and_then(|place| self.entries.remove(place)));
        }
        gone
    }

    fn task(&mut self, list: &'static List, at: Instant) -> Task {
        if !std::mem::replace(&mut self.driver.running, true) {
            return Task::Start(list, at);
        }
        match self.driver.asleep.take_if(|(until, _)| at + RESOLUTION < *until) {
            Some((_, driver)) => Task::Wake(driver),
            None => Task::Nothing,
        }
    }
}
