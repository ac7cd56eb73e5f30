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
//! To enter and to leave is to take a lock twice, and to count a reference to the task up and down. So a thread keeps
//! one place in the list for the task that called last, see `berth.rs`, and what time it was, see `recent.rs`: the
//! next call of that task takes the place without a lock, and looks at no clock.
//!
//! The lists belong to the process and not to a layer, so a call needs nothing from its layer to get at one,
//! and a call that never waits counts no reference up and down for a timer that it does not need. A list that
//! is no longer used goes to the next runtime that needs one, so there are never more of them than there were
//! runtimes at once.

use std::{
    cell::Cell,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::{
    runtime,
    time::{Instant, Sleep, sleep_until},
};

use crate::deadline::Deadline;

use super::{
    agenda::Place,
    berth::{self, Berth},
    list::{List, Locked, Task, Waiter},
};

/// One call's deadline on the coarse timer that all calls of a runtime share; dropping it gives its place back.
///
/// It fires up to about a millisecond late, never early. It is polled after what it limits, takes no part in
/// tokio's cooperative budget, and so fires although the call eats the budget up.
///
/// A task is taken to stay with its runtime. One of a `LocalSet` that is run on one runtime after the other, or one that
/// blocks on the handles of several, may find its timers still with the first: there they wait while it does not run.
#[derive(Debug)]
pub struct Timer(Kind);

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Has the berth of the thread that it was registered on.
    Moored(&'static Berth),
    Listed(&'static List, Place),
}

static LISTS: Mutex<Vec<&'static List>> = Mutex::new(Vec::new());

thread_local! {
    /// The list that was last used on this thread, and whose it is.
    static LAST: Cell<Option<(runtime::Id, &'static List)>> = const { Cell::new(None) };
}

// === impl Timer ===

impl Timer {
    /// Registers `deadline` for the task of `cx`; it is fixed now if it was not.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, or in one without time.
    #[inline]
    pub fn start(deadline: &mut Deadline, cx: &mut Context<'_>) -> Self {
        if let Deadline::After(limit) = *deadline
            && let Some((berth, at)) = berth::take_again(limit, cx.waker())
        {
            *deadline = Deadline::At(at);
            return Self(Kind::Moored(berth));
        }
        Self::start_anew(deadline, cx)
    }

    #[inline(never)]
    fn start_anew(deadline: &mut Deadline, cx: &mut Context<'_>) -> Self {
        let berth = berth::mine(cx.waker());
        let at = match *deadline {
            Deadline::After(limit) if berth.is_some() => berth::end(limit),
            _ => deadline.fix(),
        };
        *deadline = Deadline::At(at);
        Self::enter(at, berth, cx.waker())
    }

    /// Registers a deadline at `at` for the task of `cx`.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, or in one without time.
    pub fn register(at: Instant, cx: &mut Context<'_>) -> Self {
        Self::enter(at, berth::mine(cx.waker()), cx.waker())
    }

    fn enter(at: Instant, berth: Option<(&'static Berth, bool)>, waker: &Waker) -> Self {
        if let Some((berth, same)) = berth
            && let Some(due) = berth::nanos(at)
        {
            // Made before it is taken, so that a panic frees it.
            let timer = Self(Kind::Moored(berth));
            tend(berth.take((at, due), same, waker, current));
            return timer;
        }
        let waker = waker.clone();
        let locked = current();
        let list = locked.0;
        let (place, task) = List::enter(locked, at, waker);
        let timer = Self(Kind::Listed(list, place));
        tend(task);
        timer
    }

    /// Ready when the deadline has passed; keeps the waker of `cx` until then.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let task = match self.0 {
            Kind::Moored(berth) => berth.renew(cx.waker()),
            Kind::Listed(list, place) => list.renew(place, cx.waker()),
        };
        let Some(task) = task else { return Poll::Ready(()) };
        tend(task);
        Poll::Pending
    }
}

impl Drop for Timer {
    #[inline]
    fn drop(&mut self) {
        match self.0 {
            Kind::Moored(berth) => berth.free(),
            Kind::Listed(list, place) => list.leave(place),
        }
    }
}

/// Does what is to be done that a deadline is kept.
#[inline]
fn tend(task: Task) {
    match task {
        Task::Nothing => {}
        Task::Wake(driver) => driver.wake(),
        Task::Start(list, at) => start_driver(list, at),
    }
}

// === the lists ===

/// The list of the current runtime, locked. The runtime is looked at each time: one that is entered within a task
/// (`block_on` in a blocking one) does not show in the task's id.
#[inline]
fn current() -> Locked {
    let runtime = here().id();
    let known = LAST.get().filter(|(last, _)| *last == runtime);
    let known = known.and_then(|(_, list)| list_of(runtime, list));
    let (list, inner) = known.unwrap_or_else(|| find(runtime));
    LAST.set(Some((runtime, list)));
    (list, inner)
}

/// `list`, locked, if it is that of `runtime`: another one may have got it since.
#[inline]
fn list_of(runtime: runtime::Id, list: &'static List) -> Option<Locked> {
    let inner = list.lock();
    (inner.runtime == runtime).then_some((list, inner))
}

/// The list of `runtime`, locked.
#[cold]
fn find(runtime: runtime::Id) -> Locked {
    loop {
        let (list, gone) = assign(runtime);
        // Under no lock.
        drop(gone);
        if let Some(locked) = list_of(runtime, list) {
            return locked;
        }
    }
}

/// The list of `runtime`: the one it has, one that nobody uses any more, or a new one. The entries of an old list are
/// kept, because they know the keys that have been given out. Returns also who was only kept in line.
fn assign(runtime: runtime::Id) -> (&'static List, Vec<Waiter>) {
    let mut gone = Vec::new();
    let mut lists = LISTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = lists.iter().find(|list| list.lock().runtime == runtime) {
        return (found, gone);
    }
    let unused = lists.iter().find(|list| {
        let mut inner = list.lock();
        if inner.is_driven() {
            return false;
        }
        gone.extend(inner.lose_berths());
        let unused = inner.is_empty();
        if unused {
            inner.runtime = runtime;
        }
        unused
    });
    let list = unused.copied().unwrap_or_else(|| {
        let list: &'static List = Box::leak(Box::new(List::new(runtime)));
        lists.push(list);
        list
    });
    (list, gone)
}

#[cold]
fn start_driver(list: &'static List, at: Instant) {
    let lost = Lost(Some(list));
    // Made here, so that a runtime without time panics at the call and not in the task.
    let sleep = sleep_until(at);
    here().spawn(drive(lost, sleep));
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
            let Some(list) = lost.0 else { return Poll::Ready(()) };
            let next = list.fire(Instant::now(), cx.waker(), &mut due);
            for waker in due.drain(..) {
                // One that panics, which the panic's hook has told, does not keep the others from being woken.
                let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
            }
            // The room is kept, so that a waiter that fires allocates nothing.
            due.shrink_to(ROOM);
            let Some(next) = next else { return Poll::Ready(()) };
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
    use std::{
        future::Future,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::SeqCst},
            mpsc,
        },
        task::Wake,
        thread,
        time::Duration,
    };

    use tokio::task;
    use tokio_test::{assert_pending, assert_ready, task as polled};

    use super::*;
    use crate::internal::{list::Inner, sync::MutexGuard};

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
        find(runtime::Handle::current().id()).1
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
        assert!(mine().is_empty());
        assert_eq!(runtime::Handle::current().metrics().num_alive_tasks(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_timer_leaves_nothing_and_the_driver_ends() {
        let mut waiting = polled::spawn(wait(5 * MS));
        assert_pending!(waiting.poll());
        drop(waiting);
        assert!(mine().is_empty());
        tokio::time::sleep(10 * MS).await;
        assert!(!mine().is_driven());
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
            assert!(!find(id).1.is_driven());
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

    /// Counts its wakes, and with its references who keeps it.
    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    /// Registers a timer in a task of this runtime, for a waker of its own.
    async fn register(after: Duration, waker: &Arc<Counted>) -> Timer {
        let waker = Waker::from(Arc::clone(waker));
        let register = async move {
            Timer::register(Instant::now() + after, &mut Context::from_waker(&waker))
        };
        tokio::spawn(register).await.unwrap()
    }

    fn poll(timer: &mut Timer, waker: &Arc<Counted>) -> Poll<()> {
        timer.poll(&mut Context::from_waker(&Waker::from(Arc::clone(waker))))
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_keeps_one_place_however_often_it_calls_and_leaves_nothing() {
        let calls = async {
            for _ in 0..10_000 {
                let mut waiting = pin!(wait(1_000_000 * MS));
                poll_fn(|cx| {
                    assert_pending!(waiting.as_mut().poll(cx));
                    Poll::Ready(())
                })
                .await;
            }
            wait(50 * MS).await
        };
        let calls = tokio::spawn(calls);
        task::yield_now().await;
        assert_eq!(mine().len(), 1);
        let took = calls.await.unwrap();
        assert!(took >= 50 * MS && took <= 52 * MS, "{took:?}");
        tokio::time::sleep(1_000_000 * MS).await;
        assert!(mine().is_empty() && !mine().is_driven());
        assert_eq!(runtime::Handle::current().metrics().num_alive_tasks(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_call_after_a_long_one_and_the_other_way_round_end_in_time() {
        let calls = async {
            for after in [10_000, 10, 20_000, 30, 20, 1].map(|millis| MS * millis) {
                poll_fn(|cx| {
                    drop(Timer::register(Instant::now() + 500_000 * MS, cx));
                    Poll::Ready(())
                })
                .await;
                let took = wait(after).await;
                assert!(took >= after && took <= after + 2 * MS, "{took:?} for {after:?}");
            }
        };
        tokio::spawn(calls).await.unwrap();
    }

    #[tokio::test]
    async fn deadlines_that_look_at_no_clock_are_never_early_and_hardly_late() {
        crate::internal::recent::calibrate();
        let calls = async {
            let limit = 5 * MS;
            for n in 0..50_000 {
                let mut deadline = Deadline::after(limit);
                let before = Instant::now();
                let mut timer = poll_fn(|cx| Poll::Ready(Timer::start(&mut deadline, cx))).await;
                let at = deadline.fixed().unwrap();
                assert!(at >= before + limit && at <= Instant::now() + limit + MS / 5);
                if n % 10_000 == 0 {
                    poll_fn(|cx| timer.poll(cx)).await;
                    assert!(Instant::now() >= at);
                }
            }
        };
        tokio::spawn(calls).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_last_waker_of_a_thread_is_kept_and_not_for_longer_than_its_call() {
        let (first, second) = (Arc::default(), Arc::default());
        drop(register(20 * MS, &first).await);
        assert_eq!(Arc::strong_count(&first), 2);
        drop(register(20 * MS, &second).await);
        assert_eq!((Arc::strong_count(&first), Arc::strong_count(&second)), (1, 2));
        tokio::time::sleep(30 * MS).await;
        assert_eq!(Arc::strong_count(&second), 1);
        assert_eq!(first.0.load(SeqCst) + second.0.load(SeqCst), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_goes_with_its_call_to_another_task() {
        let (first, second) = (Arc::default(), Arc::default());
        let mut timer = register(20 * MS, &first).await;
        assert_pending!(poll(&mut timer, &second));
        assert_eq!(Arc::strong_count(&first), 1);
        // Others of its thread do without its place meanwhile.
        let third = Arc::default();
        let mut other = register(10 * MS, &third).await;
        tokio::time::sleep(12 * MS).await;
        assert_eq!((second.0.load(SeqCst), third.0.load(SeqCst)), (0, 1));
        assert_ready!(poll(&mut other, &third));
        tokio::time::sleep(12 * MS).await;
        assert_eq!(second.0.load(SeqCst), 1);
        assert_ready!(poll(&mut timer, &second));
    }

    #[test]
    fn calls_of_a_task_outlive_its_runtime_and_those_that_ended_are_forgotten_with_it() {
        let build = || runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (waits, ended) = (Arc::default(), Arc::default());
        let (first, second) = (build(), build());
        let start = Instant::now();
        let mut timer = first.block_on(register(20 * MS, &waits));
        thread::scope(|scope| {
            scope.spawn(|| drop(first.block_on(register(1_000_000 * MS, &ended))));
        });
        assert_eq!(Arc::strong_count(&ended), 2);
        drop(first);
        assert_eq!((waits.0.load(SeqCst), Arc::strong_count(&ended)), (1, 1));
        second.block_on(async {
            while poll(&mut timer, &waits).is_pending() {
                tokio::time::sleep(MS).await;
            }
        });
        assert!(start.elapsed() >= 20 * MS);
        assert_eq!(waits.0.load(SeqCst), 2);
    }

    #[test]
    fn one_thread_serves_two_runtimes_and_each_wakes_its_own() {
        let build = || runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (first, second) = (build(), build());
        let waker = Arc::default();
        for runtime in [&first, &second, &first] {
            drop(runtime.block_on(register(10_000 * MS, &waker)));
            assert_eq!(Arc::strong_count(&waker), 2);
            runtime.block_on(async {
                assert!(tokio::spawn(wait(5 * MS)).await.unwrap() >= 5 * MS);
            });
        }
    }

    #[test]
    fn one_task_serves_two_runtimes_and_each_wakes_its_own() {
        let build = || runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (outer, first, second) = (build(), build(), build());
        let calls = move || {
            // Its driver sleeps on for long, and its runtime does not run any more.
            let ended = poll_fn(|cx| {
                drop(Timer::register(Instant::now() + 600_000 * MS, cx));
                Poll::Ready(())
            });
            first.block_on(ended);
            let took =
                second.block_on(async { tokio::time::timeout(1_000 * MS, wait(5 * MS)).await });
            drop(first);
            took
        };
        let took = outer.block_on(async { task::spawn_blocking(calls).await.unwrap() });
        assert!(took.is_ok_and(|took| took >= 5 * MS));
    }

    #[test]
    fn a_waker_that_goes_from_task_to_task_is_woken_by_the_runtime_of_each() {
        let build = || runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (first, second) = (build(), build());
        let waker = Arc::<Counted>::default();
        first.block_on(async { drop(register(600_000 * MS, &waker).await) });
        let kept = Arc::clone(&waker);
        let calls = async move {
            let waker = Waker::from(kept);
            let mut cx = Context::from_waker(&waker);
            let start = Instant::now();
            // Too far away for the place of the thread.
            drop(Timer::register(start + Duration::from_secs(600 * 365 * 86_400), &mut cx));
            let _timer = Timer::register(start + 700_000 * MS, &mut cx);
            mine().len()
        };
        assert_eq!(second.block_on(async { tokio::spawn(calls).await.unwrap() }), 1);
    }

    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("this waker panics");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_waker_that_panics_keeps_no_other_from_being_woken() {
        let at = Instant::now() + 5 * MS;
        let bad = Waker::from(Arc::new(Panics));
        let first = Timer::register(at, &mut Context::from_waker(&bad));
        let mut second = polled::spawn(async {
            let mut timer = poll_fn(|cx| Poll::Ready(Timer::register(at, cx))).await;
            poll_fn(|cx| timer.poll(cx)).await;
        });
        assert_pending!(second.poll());
        tokio::time::sleep(10 * MS).await;
        assert!(second.is_woken());
        assert_ready!(second.poll());
        drop(first);
    }

    /// Says when it is dropped whether the list is locked then.
    struct Probe(&'static List, mpsc::Sender<bool>);

    impl Wake for Probe {
        fn wake(self: Arc<Self>) {}
    }

    impl Drop for Probe {
        fn drop(&mut self) {
            let (sender, locked) = mpsc::channel();
            let list = self.0;
            thread::spawn(move || {
                drop(list.lock());
                sender.send(()).unwrap();
            });
            self.1.send(locked.recv_timeout(500 * MS).is_err()).unwrap();
        }
    }

    #[test]
    fn a_waker_is_dropped_when_the_list_is_not_locked() {
        let build = || runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let first = build();
        let list = find(first.handle().id()).0;
        let (sender, locked) = mpsc::channel();
        let waker = || Waker::from(Arc::new(Probe(list, sender.clone())));
        let probed = |after| {
            let waker = waker();
            let register = async move {
                Timer::register(Instant::now() + after, &mut Context::from_waker(&waker))
            };
            first.block_on(async { tokio::spawn(register).await.unwrap() })
        };
        let (mut moored, mut listed) = (probed(600_000 * MS), probed(600_000 * MS));
        assert!(matches!((&moored.0, &listed.0), (Kind::Moored(_), Kind::Listed(..))));
        for timer in [&mut moored, &mut listed] {
            assert_pending!(timer.poll(&mut Context::from_waker(Waker::noop())));
            assert_eq!(locked.try_recv(), Ok(false));
            let waker = waker();
            assert_pending!(timer.poll(&mut Context::from_waker(&waker)));
        }
        drop(listed);
        assert_eq!(locked.try_recv(), Ok(false));

        // The call ends just when the driver is lost, and another runtime gets the list.
        drop(first);
        assert!(locked.try_recv().is_err());
        let Kind::Moored(berth) = moored.0 else { unreachable!() };
        berth.standby.free();
        std::mem::forget(moored);
        // Lists that other tests have left may come first.
        let mut others = Vec::new();
        let locked = loop {
            let other = build();
            // On a thread of its own, because this one would put its place in order itself.
            thread::scope(|scope| {
                scope.spawn(|| {
                    drop(other.block_on(register(600_000 * MS, &Arc::default())));
                });
            });
            others.push(other);
            if let Ok(locked) = locked.try_recv() {
                break locked;
            }
        };
        assert!(!locked);
    }

    #[test]
    fn a_runtime_without_time_says_so_each_time() {
        let runtime = runtime::Builder::new_current_thread().build().unwrap();
        for _ in 0..2 {
            assert!(
                runtime.block_on(async { tokio::spawn(wait(MS)).await.unwrap_err().is_panic() })
            );
        }
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
