//! One coarse timer for many calls.
//!
//! A tokio `Sleep` a call is the dearest thing on every call that waits: it takes the lock of the
//! runtime's timer wheel to register and again to go. But the calls under one layer mostly share one
//! duration, so their deadlines arrive in order. Here a call links itself into a list that is kept in that
//! order (entering and leaving are O(1); for what is out of order see `agenda.rs`), and one task per runtime
//! sleeps until the deadline at the head. It sleeps on although that head may have left meanwhile: it will
//! find out when it wakes, which is at most once per duration. When it wakes to an empty list it ends; the
//! next call starts another.
//!
//! There is one list per runtime, so that a runtime which stalls delays nobody else's timers. When a
//! runtime is shut down, whoever still waits in its list is woken, and starts a task on its own.
//!
//! The lists belong to the process and not to a layer, so a call needs nothing from its layer to get at one,
//! and a call that never waits counts no reference up and down for a timer that it does not need. A list that
//! is no longer used goes to the next runtime that needs one, so there are never more of them than there were
//! runtimes at once.

use std::{
    cell::Cell,
    future::poll_fn,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    runtime, task,
    time::{Instant, Sleep, sleep_until},
};

use crate::agenda::{Agenda, Place};

/// One call's deadline on the coarse timer that all calls of a runtime share; dropping it gives its place back.
///
/// It fires up to about a millisecond late, never early. It is polled after what it limits, takes no part in
/// tokio's cooperative budget, and so fires although the call eats the budget up.
#[derive(Debug)]
pub struct Timer {
    list: &'static List,
    place: Place,
}

/// The deadlines of one runtime.
#[derive(Debug)]
struct List(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    /// The runtime that the driver runs on, or ran on last.
    runtime: runtime::Id,
    entries: Agenda<Waker>,
    driver: Driver,
}

/// The task that sleeps for a list.
#[derive(Debug, Default)]
struct Driver {
    running: bool,
    /// Until when it sleeps, and how to wake it for an earlier deadline.
    asleep: Option<(Instant, Waker)>,
}

static LISTS: Mutex<Vec<&'static List>> = Mutex::new(Vec::new());

thread_local! {
    /// The list that was last used on this thread, and for whom. A task stays with its runtime, so for the same
    /// task the runtime need not be looked at again, which counts a reference to it up and down.
    static LAST: Cell<Option<(task::Id, runtime::Id, &'static List)>> = const { Cell::new(None) };
}

/// A deadline that comes earlier than the driver wakes by less than this waits for it.
const RESOLUTION: Duration = Duration::from_millis(1);

// === impl Timer ===

impl Timer {
    /// Registers a deadline at `at` for the task of `cx`.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, or in one without time.
    pub fn register(at: Instant, cx: &mut Context<'_>) -> Self {
        let waker = cx.waker().clone();
        let (list, mut inner) = List::current();
        let place = inner.entries.enter(at, waker);
        let driver = &mut inner.driver;
        let wanted = if driver.running {
            driver.asleep.take_if(|(until, _)| at + RESOLUTION < *until)
        } else {
            None
        };
        let start = !std::mem::replace(&mut driver.running, true);
        drop(inner);
        if let Some((_, driver)) = wanted {
            driver.wake();
        }
        if start {
            list.start_driver(at);
        }
        Self { list, place }
    }

    /// Ready when the deadline has passed; keeps the waker of `cx` until then.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.list.lock();
        let Some(entry) = inner.entries.get_mut(self.place) else { return Poll::Ready(()) };
        entry.value.clone_from(cx.waker());
        let at = entry.at;
        if !std::mem::replace(&mut inner.driver.running, true) {
            drop(inner);
            // The runtime that the timer was registered on is gone.
            self.list.start_driver(at);
        }
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let waker = self.list.lock().entries.remove(self.place);
        // It may run code of its own, so it is dropped after the lock.
        drop(waker);
    }
}

// === impl List ===

impl List {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The list of the current runtime, locked.
    #[inline]
    fn current() -> (&'static Self, MutexGuard<'static, Inner>) {
        if let Some((task, runtime, list)) = LAST.get()
            && task::try_id() == Some(task)
        {
            let inner = list.lock();
            // Another runtime may have got it since.
            if inner.runtime == runtime {
                return (list, inner);
            }
        }
        let runtime = here().id();
        let list = Self::find(runtime);
        LAST.set(task::try_id().map(|task| (task, runtime, list)));
        (list, list.lock())
    }

    /// The list of `runtime`: the one it has, one that nobody uses any more, or a new one. The entries of an old
    /// list are kept, because they know the keys that have been given out.
    #[cold]
    fn find(runtime: runtime::Id) -> &'static Self {
        let mut lists = LISTS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(list) = lists.iter().find(|list| list.lock().runtime == runtime) {
            return list;
        }
        let unused = lists.iter().find(|list| {
            let mut inner = list.lock();
            let unused = inner.entries.is_empty() && !inner.driver.running;
            if unused {
                inner.runtime = runtime;
            }
            unused
        });
        if let Some(list) = unused {
            return list;
        }
        let (entries, driver) = (Agenda::new(), Driver::default());
        let list: &'static Self =
            Box::leak(Box::new(Self(Mutex::new(Inner { runtime, entries, driver }))));
        lists.push(list);
        list
    }

    #[cold]
    fn start_driver(&'static self, at: Instant) {
        // Made here, so that a runtime without time panics at the call and not in the task.
        let sleep = sleep_until(at);
        here().spawn(drive(Lost(Some(self)), sleep));
    }

    /// Wakes whoever is due; says when the next one is, or that the driver ends. `due` is room for them, which is
    /// kept so that a waiter that fires allocates nothing.
    fn fire(&self, driver: &Waker, due: &mut Vec<Waker>) -> Option<Instant> {
        let now = Instant::now();
        let mut inner = self.lock();
        while let Some(waker) = inner.entries.pop_due(now) {
            due.push(waker);
        }
        let next = inner.entries.next();
        inner.driver = match next {
            Some(at) => Driver { running: true, asleep: Some((at, driver.clone())) },
            None => Driver::default(),
        };
        drop(inner);
        due.drain(..).for_each(Waker::wake);
        due.shrink_to(ROOM);
        next
    }

    /// The driver was lost with its runtime: whoever still waits is woken, and starts another.
    fn driver_lost(&self) {
        let mut inner = self.lock();
        inner.driver = Driver::default();
        let left: Vec<Waker> = inner.entries.iter().cloned().collect();
        drop(inner);
        left.into_iter().for_each(Waker::wake);
    }
}

/// The current runtime.
#[track_caller]
fn here() -> runtime::Handle {
    let Ok(runtime) = runtime::Handle::try_current() else {
        panic!(
            "stockade: a call that waits needs a timer, and there is no tokio runtime here; call the service \
             inside one, with `enable_time`"
        );
    };
    runtime
}

// === the driver ===

/// For how many waiters that fire together a driver keeps room: 16 KiB.
const ROOM: usize = 1_024;

async fn drive(mut lost: Lost, sleep: Sleep) {
    let (mut sleep, mut due) = (pin!(sleep), Vec::new());
    poll_fn(|cx| {
        loop {
            let Some(next) = lost.0.and_then(|list| list.fire(cx.waker(), &mut due)) else {
                return Poll::Ready(());
            };
            if sleep.deadline() != next {
                sleep.as_mut().reset(next);
            }
            std::task::ready!(sleep.as_mut().poll(cx));
        }
    })
    .await;
    lost.0 = None;
}

/// Tells the waiters when the driver is dropped before its work has ended.
struct Lost(Option<&'static List>);

impl Drop for Lost {
    fn drop(&mut self) {
        if let Some(list) = self.0 {
            list.driver_lost();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, sync::Arc};

    use tokio_test::{assert_pending, assert_ready, task as polled};

    use super::*;

    /// A future around a timer that registers itself at its first poll.
    async fn wait(after: Duration) -> Duration {
        let start = Instant::now();
        let mut timer = None;
        poll_fn(|cx| {
            let timer = timer.get_or_insert_with(|| Timer::register(start + after, cx));
            timer.poll(cx)
        })
        .await;
        start.elapsed()
    }

    /// The list of the test's own runtime.
    fn mine() -> MutexGuard<'static, Inner> {
        List::find(runtime::Handle::current().id()).lock()
    }

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn fires_at_the_deadline_never_early() {
        for after in [MS, 10 * MS, 7 * MS] {
            let took = wait(after).await;
            assert!(took >= after && took <= after + 2 * MS, "{took:?} for {after:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_deadline_wakes_the_driver() {
        let long = tokio::spawn(wait(1_000 * MS));
        task::yield_now().await;
        let short = wait(10 * MS).await;
        assert!(short <= 12 * MS, "{short:?}");
        assert!(long.await.unwrap() >= 1_000 * MS);
    }

    #[tokio::test(start_paused = true)]
    async fn ten_thousand_of_random_durations_fire_as_a_sorted_list_says() {
        let mut rng = fastrand::Rng::with_seed(7);
        let (fired, mut list) = (Arc::new(Mutex::new(Vec::new())), Vec::new());
        let mut given_up = Vec::new();
        for n in 0..10_000 {
            let most = 1 << rng.u32(0..28);
            let after = Duration::from_micros(rng.u64(0..most));
            let (timer, fired) = (wait(after), Arc::clone(&fired));
            let call = tokio::spawn(async move {
                let took = timer.await;
                assert!(took >= after && took <= after + 2 * MS, "{took:?} for {after:?}");
                fired.lock().unwrap().push(after);
            });
            if n % 3 == 0 {
                given_up.push(call);
            } else {
                list.push(after);
            }
        }
        task::yield_now().await;
        given_up.into_iter().for_each(|call| call.abort());
        tokio::time::sleep(Duration::from_secs(300)).await;
        let fired = std::mem::take(&mut *fired.lock().unwrap());
        assert!(fired.is_sorted_by(|a, b| *a <= *b + 2 * MS), "in order, but for the resolution");
        list.sort_unstable();
        // Those given up before they were registered may have fired at once.
        assert!(list.iter().all(|after| fired.contains(after)));
        assert!(mine().entries.is_empty());
        assert_eq!(runtime::Handle::current().metrics().num_alive_tasks(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_timer_leaves_nothing_and_the_driver_ends() {
        let mut waiting = polled::spawn(wait(5 * MS));
        assert_pending!(waiting.poll());
        drop(waiting);
        assert!(mine().entries.is_empty());
        tokio::time::sleep(10 * MS).await;
        assert!(!mine().driver.running);
        assert_eq!(runtime::Handle::current().metrics().num_alive_tasks(), 0);
        // And the next one starts a driver again.
        assert!(wait(MS).await >= MS);
    }

    #[test]
    fn runtimes_one_after_the_other_share_a_list() {
        let lists = || {
            let runtime = runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let mut waiting = polled::spawn(wait(1_000_000 * MS));
                assert_pending!(waiting.poll());
            });
            let id = runtime.handle().id();
            drop(runtime);
            assert!(!List::find(id).lock().driver.running);
            LISTS.lock().unwrap().len()
        };
        let most = (0..50).map(|_| lists()).max();
        // The tests that run beside this one have their own.
        assert!(most < Some(40), "{most:?} lists for 50 runtimes");
    }

    #[test]
    fn waiters_outlive_the_runtime_they_registered_on() {
        let build = || runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let first = build();
        let mut waiting = polled::spawn(Box::pin(wait(20 * MS)));
        {
            let _inside = first.enter();
            assert_pending!(waiting.poll());
        }
        drop(first);
        assert!(waiting.is_woken());
        let second = build();
        assert!(second.block_on(waiting.into_inner()) >= 20 * MS);
    }

    #[test]
    #[should_panic(expected = "no tokio runtime here")]
    fn outside_a_runtime_it_says_so() {
        let mut waiting = polled::spawn(wait(MS));
        assert_ready!(waiting.poll());
    }

    fn send<T: Future + Send>(_: T) {}

    #[test]
    fn is_send() {
        send(wait(MS));
    }
}
