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

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    runtime,
    task::AbortHandle,
    time::{Instant, Sleep, sleep_until},
};

use crate::{
    Lease,
    agenda::{Agenda, Place},
    sync::{Mutex, MutexGuard, lock},
};

/// A timer that many calls share. It fires up to about a millisecond late, never early.
#[derive(Debug, Default)]
pub struct Timers {
    lists: Mutex<Vec<List>>,
}

/// One call's deadline among the [`Timers`] of its owner; dropping it gives its place back.
///
/// It is polled after what it limits, takes no part in tokio's cooperative budget, and so fires although
/// the call eats the budget up.
#[derive(Debug)]
pub struct Timer<T: AsRef<Timers>> {
    owner: Lease<T>,
    list: usize,
    place: Place,
}

/// The deadlines of one runtime.
#[derive(Debug)]
struct List {
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
    task: Option<AbortHandle>,
}

/// A deadline that comes earlier than the driver wakes by less than this waits for it.
const RESOLUTION: Duration = Duration::from_millis(1);

// === impl Timers ===

impl Timers {
    fn lock(&self) -> MutexGuard<'_, Vec<List>> {
        lock(&self.lists)
    }

    /// Wakes whoever is due in a list; says when the next one is, or that the driver ends.
    fn fire(&self, index: usize, driver: &Waker) -> Option<Instant> {
        let now = Instant::now();
        let mut due = Vec::new();
        let mut lists = self.lock();
        let list = &mut lists[index];
        while let Some(waker) = list.entries.pop_due(now) {
            due.push(waker);
        }
        let next = list.entries.next();
        match next {
            Some(at) => list.driver.asleep = Some((at, driver.clone())),
            None => list.driver = Driver::default(),
        }
        drop(lists);
        due.into_iter().for_each(Waker::wake);
        next
    }

    /// The driver was lost with its runtime: whoever still waits is woken, and starts another.
    fn driver_lost(&self, index: usize) {
        let mut lists = self.lock();
        let list = &mut lists[index];
        list.driver = Driver::default();
        let left: Vec<Waker> = list.entries.iter().cloned().collect();
        drop(lists);
        left.into_iter().for_each(Waker::wake);
    }
}

impl AsRef<Timers> for Timers {
    fn as_ref(&self) -> &Timers {
        self
    }
}

impl Drop for Timers {
    fn drop(&mut self) {
        for list in self.lock().iter_mut() {
            if let Some(task) = list.driver.task.take() {
                task.abort();
            }
        }
    }
}

// === impl Timer ===

impl<T: AsRef<Timers> + Send + Sync + 'static> Timer<T> {
    /// Registers a deadline at `at` for the task of `cx`.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, or in one without time.
    pub fn register(owner: Lease<T>, at: Instant, cx: &mut Context<'_>) -> Self {
        let Ok(handle) = runtime::Handle::try_current() else {
            panic!(
                "stockade: a call that waits needs a timer, and there is no tokio runtime here; \
                 call the service inside one, with `enable_time`"
            );
        };
        let runtime = handle.id();
        let waker = cx.waker().clone();
        let mut lists = timers(owner.state()).lock();
        let list = match lists.iter().position(|list| list.runtime == runtime) {
            Some(list) => list,
            None => List::adopt(&mut lists, runtime),
        };
        let place = lists[list].entries.enter(at, waker);
        let driver = &mut lists[list].driver;
        let wanted = if driver.running {
            driver.asleep.take_if(|(until, _)| at + RESOLUTION < *until)
        } else {
            None
        };
        let start = !std::mem::replace(&mut driver.running, true);
        drop(lists);
        if let Some((_, driver)) = wanted {
            driver.wake();
        }
        if start {
            start_driver(&owner, list, at, &handle);
        }
        Self { owner, list, place }
    }

    /// Ready when the deadline has passed; keeps the waker of `cx` until then.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut lists = timers(self.owner.state()).lock();
        let list = &mut lists[self.list];
        let Some(entry) = list.entries.get_mut(self.place) else { return Poll::Ready(()) };
        entry.value.clone_from(cx.waker());
        let at = entry.at;
        if !std::mem::replace(&mut list.driver.running, true) {
            drop(lists);
            // The runtime that the timer was registered on is gone.
            start_driver(&self.owner, self.list, at, &runtime::Handle::current());
        }
        Poll::Pending
    }
}

impl<T: AsRef<Timers>> Drop for Timer<T> {
    fn drop(&mut self) {
        let waker = timers(self.owner.state()).lock()[self.list].entries.remove(self.place);
        // It may run code of its own, so it is dropped after the lock.
        drop(waker);
    }
}

// === impl List ===

impl List {
    /// A list for `runtime`: one that nobody uses any more, or a new one. The entries of an old list are
    /// kept, because they know the keys that have been given out.
    fn adopt(lists: &mut Vec<Self>, runtime: runtime::Id) -> usize {
        let unused = |list: &Self| list.entries.is_empty() && !list.driver.running;
        if let Some(index) = lists.iter().position(unused) {
            lists[index].runtime = runtime;
            return index;
        }
        lists.push(Self { runtime, entries: Agenda::new(), driver: Driver::default() });
        lists.len() - 1
    }
}

// === the driver ===

fn start_driver<T>(owner: &Lease<T>, list: usize, at: Instant, runtime: &runtime::Handle)
where
    T: AsRef<Timers> + Send + Sync + 'static,
{
    // Made here, so that a runtime without time panics at the call and not in the task.
    let sleep = sleep_until(at);
    let lost = Lost { owner: Arc::downgrade(owner.state()), list };
    let task = runtime.spawn(drive(lost, sleep)).abort_handle();
    let mut lists = timers(owner.state()).lock();
    let driver = &mut lists[list].driver;
    if driver.running && driver.task.is_none() {
        driver.task = Some(task);
    }
}

async fn drive<T: AsRef<Timers>>(lost: Lost<T>, sleep: Sleep) {
    let mut sleep = pin!(sleep);
    poll_fn(|cx| {
        loop {
            let next =
                lost.owner.upgrade().and_then(|owner| timers(&owner).fire(lost.list, cx.waker()));
            let Some(next) = next else { return Poll::Ready(()) };
            if sleep.deadline() != next {
                sleep.as_mut().reset(next);
            }
            std::task::ready!(sleep.as_mut().poll(cx));
        }
    })
    .await;
    lost.disarm();
}

fn timers<T: AsRef<Timers>>(owner: &Arc<T>) -> &Timers {
    T::as_ref(owner)
}

/// Tells the waiters when the driver is dropped before its work has ended.
struct Lost<T: AsRef<Timers>> {
    owner: Weak<T>,
    list: usize,
}

impl<T: AsRef<Timers>> Lost<T> {
    fn disarm(mut self) {
        self.owner = Weak::new();
    }
}

impl<T: AsRef<Timers>> Drop for Lost<T> {
    fn drop(&mut self) {
        if let Some(owner) = self.owner.upgrade() {
            timers(&owner).driver_lost(self.list);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;
    use crate::Shared;

    /// A future around a timer that registers itself at its first poll.
    async fn wait(timers: Lease<Timers>, after: Duration) -> Duration {
        let start = Instant::now();
        let mut timer = None;
        poll_fn(|cx| {
            let timer =
                timer.get_or_insert_with(|| Timer::register(timers.clone(), start + after, cx));
            timer.poll(cx)
        })
        .await;
        start.elapsed()
    }

    fn timers() -> Shared<Timers> {
        Shared::new(Arc::default())
    }

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn fires_at_the_deadline_never_early() {
        let mut timers = timers();
        for after in [MS, 10 * MS, 7 * MS] {
            let took = wait(timers.lease(), after).await;
            assert!(took >= after && took <= after + 2 * MS, "{took:?} for {after:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_deadline_wakes_the_driver() {
        let mut timers = timers();
        let long = tokio::spawn(wait(timers.lease(), 1_000 * MS));
        tokio::task::yield_now().await;
        let short = wait(timers.lease(), 10 * MS).await;
        assert!(short <= 12 * MS, "{short:?}");
        assert!(long.await.unwrap() >= 1_000 * MS);
    }

    #[tokio::test(start_paused = true)]
    async fn ten_thousand_of_random_durations_fire_as_a_sorted_list_says() {
        let mut timers = timers();
        let mut rng = fastrand::Rng::with_seed(7);
        let (fired, mut list) = (Arc::new(Mutex::new(Vec::new())), Vec::new());
        let mut given_up = Vec::new();
        for n in 0..10_000 {
            let most = 1 << rng.u32(0..28);
            let after = Duration::from_micros(rng.u64(0..most));
            let (timer, fired) = (wait(timers.lease(), after), Arc::clone(&fired));
            let call = tokio::spawn(async move {
                let took = timer.await;
                assert!(took >= after && took <= after + 2 * MS, "{took:?} for {after:?}");
                lock(&fired).push(after);
            });
            if n % 3 == 0 {
                given_up.push(call);
            } else {
                list.push(after);
            }
        }
        tokio::task::yield_now().await;
        given_up.into_iter().for_each(|call| call.abort());
        tokio::time::sleep(Duration::from_secs(300)).await;
        let fired = std::mem::take(&mut *lock(&fired));
        assert!(fired.is_sorted_by(|a, b| *a <= *b + 2 * MS), "in order, but for the resolution");
        list.sort_unstable();
        // Those given up before they were registered may have fired at once.
        assert!(list.iter().all(|after| fired.contains(after)));
        assert!(timers.lock()[0].entries.is_empty());
        assert_eq!(runtime::Handle::current().metrics().num_alive_tasks(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_timer_leaves_nothing_and_the_driver_ends() {
        let mut timers = timers();
        let mut waiting = task::spawn(wait(timers.lease(), 5 * MS));
        assert_pending!(waiting.poll());
        drop(waiting);
        assert!(timers.lock()[0].entries.is_empty());
        tokio::time::sleep(10 * MS).await;
        assert!(!timers.lock()[0].driver.running);
        assert_eq!(runtime::Handle::current().metrics().num_alive_tasks(), 0);
        // And the next one starts a driver again.
        assert!(wait(timers.lease(), MS).await >= MS);
    }

    #[tokio::test(start_paused = true)]
    async fn the_driver_ends_with_the_timers() {
        let mut timers = timers();
        let mut waiting = task::spawn(wait(timers.lease(), 1_000_000 * MS));
        assert_pending!(waiting.poll());
        tokio::task::yield_now().await;
        assert_eq!(runtime::Handle::current().metrics().num_alive_tasks(), 1);
        drop((waiting, timers));
        tokio::task::yield_now().await;
        assert_eq!(runtime::Handle::current().metrics().num_alive_tasks(), 0);
    }

    #[test]
    fn waiters_outlive_the_runtime_they_registered_on() {
        let build = || runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut timers = timers();
        let first = build();
        let mut waiting = task::spawn(Box::pin(wait(timers.lease(), 20 * MS)));
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
        let mut waiting = task::spawn(wait(timers().lease(), MS));
        assert_ready!(waiting.poll());
    }

    fn send<T: Future + Send>(_: T) {}

    #[test]
    fn is_send() {
        send(wait(timers().lease(), MS));
    }
}
