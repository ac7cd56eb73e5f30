//! One timer for many calls.
//!
//! A tokio `Sleep` for each call is expensive: to register it and to drop it again takes the lock of the
//! runtime's timer wheel twice, and all threads share that lock. Here each thread keeps the deadlines of its
//! calls in a queue of its own, and one `Sleep`, the alarm, stands for all of them. A call takes an uncontended
//! lock, and sets the alarm only if its deadline is earlier than the alarm's.
//!
//! The alarm is set in the runtime of the call and is polled with a waker of ours. So the runtime's own timer
//! runs the queue: there is no task and no thread for it, and whichever worker of the runtime looks at the
//! time wakes the calls that are due, even while the thread that registered them is blocked.
//!
//! - **A call that leaves does not set the alarm anew.** The alarm then goes off once for nothing.
//! - **The alarm goes when the queue is empty**, because a `Sleep` keeps its runtime in memory and moves a paused
//!   clock. It does not go at once, or a task that makes one call after the other would set it for each call,
//!   but when the runtime has run all tasks that were ready. `yield_now` tells when that is.
//! - **Nothing foreign runs under the lock.** Wakers are cloned, woken and dropped outside of it. So is the
//!   alarm set: `Sleep::reset` can wake at once. The thread that sets it takes it out of the queue for that,
//!   and looks at the queue again before it puts it back.
//! - **A runtime that shuts down** fires the alarm before its time. Then all calls are woken, and those that are
//!   polled again register in the runtime where that happens.

use std::{
    cell::RefCell,
    mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::{Pin, pin},
    sync::{Arc, Weak},
    task::{Context, Poll, Wake, Waker},
};

use tokio::{
    runtime::{self, Handle},
    task::{coop::unconstrained, yield_now},
    time::{Instant, Sleep, sleep_until},
};

use super::{
    deadline_queue::{DeadlineQueue, Place},
    sync::{Mutex, MutexGuard, lock, thread_local},
    wake,
};

/// One call's deadline. Dropping it takes it back.
///
/// It fires up to about a millisecond late, as tokio's timers do, and never early. It takes no part in tokio's
/// cooperative budget, so it also fires for a call that uses the budget up. It belongs to the runtime in which
/// it was registered, wherever it is polled; if that one shuts down it moves to the one in which it is polled.
#[derive(Debug)]
pub struct Timer {
    shard: Arc<Shard>,
    at: Instant,
    place: Place,
}

/// The deadlines that one thread has registered in one runtime.
#[derive(Debug)]
struct Shard {
    runtime: runtime::Id,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    waiting: DeadlineQueue<Waker>,
    alarm: Alarm,
    /// Whether an [`Idle`] is on its way.
    idle: bool,
}

#[derive(Debug)]
enum Alarm {
    Off,
    /// Due at the first deadline, or before it.
    Set(Pin<Box<Sleep>>),
    /// A thread is setting it.
    Taken,
}

/// Lets the alarm of a shard go when it is dropped, if no call has come until then.
struct Idle(Weak<Shard>);

thread_local! {
    /// The shard that this thread used last.
    static SHARD: RefCell<Option<Arc<Shard>>> = const { RefCell::new(None) };
}

// === impl Timer ===

impl Timer {
    /// Registers a deadline at `at` for the task of `cx`.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, in one without time, and in one that has shut down.
    #[inline]
    pub fn register(at: Instant, cx: &mut Context<'_>) -> Self {
        let (shard, waker) = (Shard::current(), cx.waker().clone());
        let mut state = shard.state();
        let place = state.waiting.insert(at, waker);
        let is_first = state.alarm_is_after(at);
        drop(state);
        if is_first {
            shard.set_alarm(at, place);
        }
        Self { shard, at, place }
    }

    /// Ready when the deadline has passed; until then it keeps the waker of `cx`.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let waits_as = |waker: &mut Waker| waker.will_wake(cx.waker());
        if let Some(same) = self.with_waker(waits_as) {
            let swap = |mut waker| self.with_waker(|old| mem::swap(old, &mut waker));
            if same || swap(cx.waker().clone()).is_some() {
                return Poll::Pending;
            }
        }
        // It was woken. If that was before its time, its runtime is gone.
        if Instant::now() < self.at {
            *self = Self::register(self.at, cx);
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Shows the waker that is kept to `f`, unless it was woken.
    fn with_waker<R>(&self, f: impl FnOnce(&mut Waker) -> R) -> Option<R> {
        self.shard.state().waiting.get_mut(self.at, self.place).map(f)
    }
}

impl Drop for Timer {
    #[inline]
    fn drop(&mut self) {
        let (_waker, rests) = {
            let mut state = self.shard.state();
            let waker = state.waiting.remove(self.at, self.place);
            let rests = state.is_unused() && !state.idle;
            state.idle |= rests;
            (waker, rests)
        };
        if rests {
            self.shard.rest_when_idle();
        }
    }
}

// === impl Shard ===

impl Shard {
    /// The shard of this thread for the current runtime.
    #[inline]
    fn current() -> Arc<Self> {
        let Ok(runtime) = Handle::try_current() else { no_runtime() };
        let runtime = runtime.id();
        let last = SHARD.try_with(|last| match &*last.borrow() {
            Some(shard) if shard.runtime == runtime => Some(Arc::clone(shard)),
            _ => None,
        });
        last.ok().flatten().unwrap_or_else(|| Self::new(runtime))
    }

    #[cold]
    fn new(runtime: runtime::Id) -> Arc<Self> {
        let state = State { waiting: DeadlineQueue::new(), alarm: Alarm::Off, idle: false };
        let new = Arc::new(Self { runtime, state: Mutex::new(state) });
        // Fails where the thread ends; then nobody else uses this shard.
        let _last = SHARD.try_with(|last| last.replace(Some(Arc::clone(&new))));
        new
    }

    #[inline]
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Sets the alarm for a new deadline. If that panics, the deadline is taken back.
    #[cold]
    fn set_alarm(self: &Arc<Self>, at: Instant, place: Place) {
        catch_unwind(AssertUnwindSafe(|| self.attend())).unwrap_or_else(|panic| {
            let waker = self.state().waiting.remove(at, place);
            drop(waker);
            resume_unwind(panic)
        });
    }

    /// Wakes the calls that are due, and sets the alarm for the others.
    fn attend(self: &Arc<Self>) {
        let alarm = mem::replace(&mut self.state().alarm, Alarm::Taken);
        let mut sleep = match alarm {
            Alarm::Off => None,
            Alarm::Set(sleep) => Some(sleep),
            // The thread that has taken it looks at the queue again before it puts it back.
            Alarm::Taken => return,
        };
        while let Some(next) = self.put_back(&mut sleep) {
            let Some(sleep) = &mut sleep else {
                sleep = Some(self.new_alarm(next));
                continue;
            };
            if sleep.is_elapsed() {
                let now = Instant::now();
                if now < sleep.deadline() {
                    // The runtime is shutting down.
                    return self.give_up();
                }
                self.wake_due(now);
            }
            let Some(next) = self.state().waiting.next() else { continue };
            sleep.as_mut().reset(next);
            if sleep.is_elapsed() {
                continue;
            }
            // Panics if the runtime has begun to shut down just now.
            let listens = catch_unwind(AssertUnwindSafe(|| self.listen(sleep.as_mut())));
            if listens.is_err() {
                return self.give_up();
            }
        }
    }

    /// Puts the alarm back if it is right as it is. Otherwise returns what to set it for.
    fn put_back(&self, sleep: &mut Option<Pin<Box<Sleep>>>) -> Option<Instant> {
        let mut state = self.state();
        let Some(next) = state.waiting.next() else {
            state.alarm = Alarm::Off;
            return None;
        };
        match sleep.take_if(|sleep| !sleep.is_elapsed() && sleep.deadline() <= next) {
            Some(sleep) => state.alarm = Alarm::Set(sleep),
            None => return Some(next),
        }
        None
    }

    /// A new alarm. If it cannot be set, the alarm is off.
    fn new_alarm(self: &Arc<Self>, at: Instant) -> Pin<Box<Sleep>> {
        let set = || {
            let mut sleep = Box::pin(sleep_until(at));
            self.listen(sleep.as_mut());
            sleep
        };
        catch_unwind(AssertUnwindSafe(set)).unwrap_or_else(|panic| {
            self.state().alarm = Alarm::Off;
            resume_unwind(panic)
        })
    }

    /// Has the alarm wake this shard.
    fn listen(self: &Arc<Self>, sleep: Pin<&mut Sleep>) {
        let waker = Waker::from(Arc::clone(self));
        // It has elapsed if it is ready, and that is looked at.
        let _ = pin!(unconstrained(sleep)).poll(&mut Context::from_waker(&waker));
    }

    fn wake_due(&self, now: Instant) {
        let next = || self.state().waiting.pop_if(|at| at <= now);
        while let Some(waker) = next() {
            wake(waker);
        }
    }

    /// Wakes all calls, and has no alarm any more.
    fn give_up(&self) {
        let next = || {
            let mut state = self.state();
            let waker = state.waiting.pop_if(|_| true);
            if waker.is_none() {
                state.alarm = Alarm::Off;
            }
            waker
        };
        while let Some(waker) = next() {
            wake(waker);
        }
    }

    /// Lets the alarm go if no call comes until the runtime has nothing to run.
    fn rest_when_idle(self: &Arc<Self>) {
        let idle = Waker::from(Arc::new(Idle(Arc::downgrade(self))));
        // Tokio keeps a clone of the waker, or wakes it at once where it has no place to keep it. It may panic
        // where it is just waking others; then the alarm goes now.
        let yielded = || pin!(yield_now()).poll(&mut Context::from_waker(&idle));
        let _ = catch_unwind(AssertUnwindSafe(yielded));
    }

    /// Lets the alarm go if there is no call.
    fn rest(&self) {
        let mut state = self.state();
        state.idle = false;
        let unused = state.is_unused().then(|| mem::replace(&mut state.alarm, Alarm::Off));
        drop(state);
        drop(unused);
    }
}

// === impl State ===

impl State {
    /// Whether the alarm is set for nobody.
    fn is_unused(&self) -> bool {
        self.waiting.is_empty() && matches!(self.alarm, Alarm::Set(_))
    }

    /// Whether the alarm is later than `at`.
    fn alarm_is_after(&self, at: Instant) -> bool {
        match &self.alarm {
            Alarm::Off => true,
            Alarm::Set(sleep) => at < sleep.deadline(),
            // The thread that sets it looks at the queue again.
            Alarm::Taken => false,
        }
    }
}

#[cold]
fn no_runtime() -> ! {
    panic!(
        "stockade: a call that waits needs a timer, and there is no tokio runtime here; call the service inside \
         one, with `enable_time`"
    );
}

// === wakers ===

/// The alarm has gone off.
impl Wake for Shard {
    fn wake(self: Arc<Self>) {
        self.attend();
    }
}

/// Nothing is left to run, or the runtime does not keep this waker any more.
impl Drop for Idle {
    fn drop(&mut self) {
        if let Some(shard) = self.0.upgrade() {
            shard.rest();
        }
    }
}

impl Wake for Idle {
    /// Does nothing: it is dropped after this.
    fn wake(self: Arc<Self>) {}
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::{
            atomic::{AtomicUsize, Ordering::SeqCst},
            mpsc,
        },
        thread,
        time::Duration,
    };

    use tokio::{
        runtime::{Builder, Runtime},
        task,
        time::{advance, pause, timeout},
    };
    use tokio_test::{assert_pending, assert_ready, task as polled};

    use super::*;
    use crate::deadline::Deadline;

    const MS: Duration = Duration::from_millis(1);
    const HOUR: Duration = Duration::from_secs(3_600);

    /// Waits with a timer that is registered at the first poll.
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

    /// Polls `wait` once, then drops it: a call that was answered at its second poll.
    async fn call(limit: Duration) {
        let mut waiting = pin!(wait(limit));
        poll_fn(|cx| {
            assert_pending!(waiting.as_mut().poll(cx));
            Poll::Ready(())
        })
        .await;
    }

    fn is_about(took: Duration, after: Duration) {
        assert!(took >= after && took <= after + 2 * MS, "{took:?} for {after:?}");
    }

    /// The alarm of this thread's shard.
    fn alarm() -> Option<Instant> {
        match &Shard::current().state().alarm {
            Alarm::Set(sleep) => Some(sleep.deadline()),
            _ => None,
        }
    }

    fn current_thread() -> Runtime {
        Builder::new_current_thread().enable_time().build().unwrap()
    }

    fn threads(count: usize) -> Runtime {
        Builder::new_multi_thread().worker_threads(count).enable_time().build().unwrap()
    }

    fn paused() -> Runtime {
        Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
    }

    /// Counts its wakes, and by its references who keeps it.
    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn register(after: Duration, waker: &Arc<Counted>) -> Timer {
        let waker = Waker::from(Arc::clone(waker));
        Timer::register(Instant::now() + after, &mut Context::from_waker(&waker))
    }

    fn poll(timer: &mut Timer, waker: &Arc<Counted>) -> Poll<()> {
        timer.poll(&mut Context::from_waker(&Waker::from(Arc::clone(waker))))
    }

    #[tokio::test(start_paused = true)]
    async fn fires_at_the_deadline_never_early() {
        for after in [MS, 10 * MS, 7 * MS, MS / 3, HOUR] {
            let start = Instant::now();
            let took = wait(after).await;
            let theirs = Instant::now();
            sleep_until(start + after).await;
            assert_eq!(Instant::now(), theirs, "not a tick later than a timer of tokio's");
            is_about(took, after);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_deadline_moves_the_alarm() {
        let long = tokio::spawn(wait(1_000 * MS));
        yield_now().await;
        is_about(wait(10 * MS).await, 10 * MS);
        is_about(long.await.unwrap(), 1_000 * MS);
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
                is_about(timer.await, after);
                fired.lock().unwrap().push(after);
            });
            if n % 3 == 0 {
                given_up.push(call);
            } else {
                list.push(after);
            }
        }
        yield_now().await;
        given_up.into_iter().for_each(|call| call.abort());
        tokio::time::sleep(Duration::from_secs(300)).await;
        let fired = mem::take(&mut *fired.lock().unwrap());
        assert!(fired.is_sorted_by(|a, b| *a <= *b + 2 * MS), "in order, but for the resolution");
        list.sort_unstable();
        // Those given up before they were registered may have fired at once.
        assert!(list.iter().all(|after| fired.contains(after)));
        assert!(Shard::current().state().waiting.is_empty());
        assert_eq!(alarm(), None);
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_has_ended_leaves_no_task_and_does_not_move_a_paused_clock() {
        let start = Instant::now();
        call(30_000 * MS).await;
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
        let (done, is_done) = tokio::sync::oneshot::channel();
        thread::spawn(move || {
            thread::sleep(50 * MS);
            done.send(()).unwrap();
        });
        is_done.await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        // And the next one sets the alarm again.
        is_about(wait(MS).await, MS);
    }

    #[test]
    fn the_alarm_of_a_call_that_ends_with_its_runtime_is_let_go() {
        let runtime = paused();
        runtime.block_on(call(30_000 * MS));
        assert_eq!(runtime.block_on(async { alarm() }), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_makes_one_call_after_the_other_sets_the_alarm_once() {
        let calls = tokio::spawn(async {
            call(HOUR).await;
            let first = alarm();
            assert!(first.is_some());
            for _ in 0..1_000 {
                tokio_test::task::spawn(advance(MS)).poll().is_ready();
                call(HOUR).await;
                assert_eq!(alarm(), first);
            }
            wait(50 * MS).await
        });
        is_about(calls.await.unwrap(), 50 * MS);
        yield_now().await;
        assert!(Shard::current().state().waiting.is_empty());
        assert_eq!(alarm(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_call_after_a_long_one_and_the_other_way_round_end_in_time() {
        for after in [10_000, 10, 20_000, 30, 20, 1].map(|millis| MS * millis) {
            call(500_000 * MS).await;
            is_about(wait(after).await, after);
        }
    }

    #[tokio::test]
    async fn a_deadline_that_counts_from_now_is_never_early_and_hardly_late() {
        let limit = 5 * MS;
        for n in 0..10_000 {
            let mut deadline = Deadline::after(limit);
            let before = Instant::now();
            let mut timer = poll_fn(|cx| Poll::Ready(Timer::register(deadline.fix(), cx))).await;
            let at = deadline.fixed().unwrap();
            assert!(at >= before + limit && at <= Instant::now() + limit);
            if n % 2_000 == 0 {
                poll_fn(|cx| timer.poll(cx)).await;
                assert!(Instant::now() >= at);
            }
        }
    }

    #[tokio::test]
    async fn a_clock_that_is_paused_after_calls_is_followed() {
        for _ in 0..1_000 {
            call(1_000 * MS).await;
        }
        pause();
        advance(10_000 * MS).await;
        is_about(wait(1_000 * MS).await, 1_000 * MS);
    }

    #[tokio::test(start_paused = true)]
    async fn no_waker_is_kept_for_longer_than_its_call() {
        let waker = Arc::default();
        let timer = register(20 * MS, &waker);
        assert_eq!(Arc::strong_count(&waker), 2);
        drop(timer);
        assert_eq!(Arc::strong_count(&waker), 1);
        tokio::time::sleep(30 * MS).await;
        assert_eq!(waker.0.load(SeqCst), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_goes_with_its_call_to_another_task() {
        let (first, second, third) = (Arc::default(), Arc::default(), Arc::default());
        let mut timer = register(20 * MS, &first);
        assert_pending!(poll(&mut timer, &second));
        assert_eq!(Arc::strong_count(&first), 1);
        let mut other = register(10 * MS, &third);
        tokio::time::sleep(12 * MS).await;
        assert_eq!((second.0.load(SeqCst), third.0.load(SeqCst)), (0, 1));
        assert_ready!(poll(&mut other, &third));
        tokio::time::sleep(12 * MS).await;
        assert_eq!(second.0.load(SeqCst), 1);
        assert_ready!(poll(&mut timer, &second));
        assert_ready!(poll(&mut timer, &second));
    }

    #[test]
    fn a_blocked_thread_delays_no_other_threads_timers() {
        const CALLS: usize = 1_000;
        let runtime = threads(4);
        let (fired, fired_at) = mpsc::channel();
        let (blocks, blocked) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        // It registers a timer, and blocks its thread in the same poll until all others have fired.
        let blocker = runtime.spawn(poll_fn(move |cx| {
            let timer = Timer::register(Instant::now() + HOUR, cx);
            blocks.send(()).unwrap();
            let released = released.recv_timeout(Duration::from_secs(60)).is_ok();
            drop(timer);
            Poll::Ready(released)
        }));
        blocked.recv().unwrap();
        for _ in 0..CALLS {
            let fired = fired.clone();
            runtime.spawn(async move {
                wait(100 * MS).await;
                fired.send(()).unwrap();
            });
        }
        for _ in 0..CALLS {
            fired_at
                .recv_timeout(Duration::from_secs(30))
                .expect("it fires while the thread blocks");
        }
        release.send(()).unwrap();
        assert!(runtime.block_on(blocker).unwrap());
    }

    #[test]
    fn threads_that_hand_their_calls_to_each_other_lose_none() {
        let runtime = threads(4);
        let calls: Vec<_> = (0..2_000_u32)
            .map(|n| {
                runtime.spawn(async move {
                    for round in 0..5 {
                        let after = MS * ((n * 7 + round) % 40);
                        yield_now().await;
                        let took = timeout(60_000 * MS, wait(after)).await;
                        assert!(took.expect("it is not lost") >= after);
                    }
                })
            })
            .collect();
        for call in calls {
            runtime.block_on(call).unwrap();
        }
    }

    #[test]
    fn a_waiter_outlives_the_runtime_it_registered_on() {
        let first = current_thread();
        let mut waiting = polled::spawn(Box::pin(wait(20 * MS)));
        {
            let _inside = first.enter();
            assert_pending!(waiting.poll());
        }
        drop(first);
        assert!(waiting.is_woken());
        assert!(current_thread().block_on(waiting.into_inner()) >= 20 * MS);
    }

    #[test]
    fn a_waiter_on_a_runtime_of_threads_outlives_it() {
        let (first, waker) = (threads(2), Arc::default());
        let start = Instant::now();
        let mut timer = first.block_on(async { register(20 * MS, &waker) });
        first.shutdown_timeout(Duration::from_secs(60));
        assert!(waker.0.load(SeqCst) >= 1);
        current_thread().block_on(poll_fn(|cx| timer.poll(cx)));
        assert!(start.elapsed() >= 20 * MS);
    }

    #[test]
    fn a_runtime_that_ends_leaves_nothing_in_memory() {
        let runtime = current_thread();
        let shard = runtime.block_on(async {
            drop(tokio::spawn(wait(HOUR)));
            yield_now().await;
            Arc::downgrade(&Shard::current())
        });
        assert!(shard.upgrade().is_some());
        drop(runtime);
        // The thread keeps the shard that it used last.
        current_thread().block_on(call(MS));
        assert!(shard.upgrade().is_none());
    }

    #[test]
    fn one_thread_serves_two_runtimes_and_each_wakes_its_own() {
        let (first, second) = (current_thread(), current_thread());
        let waker = Arc::default();
        for runtime in [&first, &second, &first] {
            drop(runtime.block_on(async { register(10_000 * MS, &waker) }));
            assert_eq!(Arc::strong_count(&waker), 1);
            runtime.block_on(async {
                assert!(tokio::spawn(wait(5 * MS)).await.unwrap() >= 5 * MS);
            });
        }
    }

    #[test]
    fn one_task_serves_two_runtimes_and_each_wakes_its_own() {
        let (outer, first, second) = (current_thread(), current_thread(), current_thread());
        let calls = move || {
            let waker = Arc::default();
            // Its runtime does not run any more.
            let _waiting = first.block_on(async { register(HOUR, &waker) });
            second.block_on(async { timeout(60_000 * MS, wait(5 * MS)).await })
        };
        let took = outer.block_on(async { task::spawn_blocking(calls).await.unwrap() });
        assert!(took.is_ok_and(|took| took >= 5 * MS));
    }

    #[test]
    fn a_runtime_that_blocks_within_another_keeps_its_own_timers() {
        let outer = threads(1);
        let took = outer.spawn(async {
            call(HOUR).await;
            let inside = || {
                let own =
                    current_thread().block_on(async { timeout(60_000 * MS, wait(5 * MS)).await });
                let same = Handle::current().block_on(timeout(60_000 * MS, wait(5 * MS)));
                [own.unwrap(), same.unwrap()]
            };
            let [own, same] = task::block_in_place(inside);
            [own, same, timeout(60_000 * MS, wait(5 * MS)).await.unwrap()]
        });
        assert!(outer.block_on(took).unwrap().into_iter().all(|took| took >= 5 * MS));
    }

    #[test]
    fn a_local_set_may_go_from_one_runtime_to_the_other() {
        let (first, second, local) = (current_thread(), current_thread(), task::LocalSet::new());
        let waits = local.spawn_local(wait(50 * MS));
        local.block_on(&first, call(HOUR));
        drop(first);
        let took = local.block_on(&second, async { timeout(60_000 * MS, waits).await });
        assert!(took.unwrap().unwrap() >= 50 * MS);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_given_back_after_a_million_timers() {
        let waker = Arc::default();
        drop(register(HOUR, &waker));
        let info = allocation_counter::measure(|| {
            // Three durations, and some that no other has.
            let limits = (0..1_000_000_u64).map(|n| match n % 100 {
                0 => Duration::from_micros(n.wrapping_mul(7_919) % 1_000_000),
                n => HOUR * (n as u32 % 3 + 1),
            });
            let mut timers: Vec<_> = limits.map(|limit| register(limit, &waker)).collect();
            fastrand::Rng::with_seed(7).shuffle(&mut timers);
            drop(timers);
        });
        assert!(info.bytes_max > 40_000_000, "{info:?}");
        assert!(info.bytes_current < 20_000, "{info:?}");
        assert_eq!(Arc::strong_count(&waker), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waker_that_panics_keeps_no_other_from_being_woken() {
        struct Panics;

        impl Wake for Panics {
            fn wake(self: Arc<Self>) {
                panic!("this waker panics");
            }
        }

        let at = Instant::now() + 5 * MS;
        let bad = Waker::from(Arc::new(Panics));
        let first = Timer::register(at, &mut Context::from_waker(&bad));
        let waker = Arc::default();
        let mut second = register(5 * MS, &waker);
        tokio::time::sleep(10 * MS).await;
        assert_eq!(waker.0.load(SeqCst), 1);
        assert_ready!(poll(&mut second, &waker));
        drop(first);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waker_may_own_a_call_of_the_same_timer() {
        /// Registers and drops a timer wherever it is cloned, woken or dropped.
        struct Reenters(Option<Timer>);

        impl Drop for Reenters {
            fn drop(&mut self) {
                drop(register(MS, &Arc::default()));
            }
        }

        impl Wake for Reenters {
            fn wake(self: Arc<Self>) {
                drop(register(MS, &Arc::default()));
            }
        }

        let waker = || Waker::from(Arc::new(Reenters(Some(register(HOUR, &Arc::default())))));
        for after in [10 * MS, HOUR] {
            let at = Instant::now() + after;
            let mut timer = Timer::register(at, &mut Context::from_waker(&waker()));
            assert_pending!(timer.poll(&mut Context::from_waker(&waker())));
            tokio::time::sleep(20 * MS).await;
        }
        assert!(Reenters(None).0.is_none());
        assert!(Shard::current().state().waiting.is_empty());
    }

    #[test]
    fn a_runtime_without_time_says_so_each_time() {
        let runtime = Builder::new_current_thread().build().unwrap();
        for _ in 0..2 {
            let waits = async { tokio::spawn(wait(MS)).await.unwrap_err().is_panic() };
            assert!(runtime.block_on(waits));
        }
    }

    #[test]
    #[should_panic(expected = "is being shutdown")]
    fn a_runtime_that_has_shut_down_says_so() {
        let runtime = current_thread();
        let handle = runtime.handle().clone();
        drop(runtime);
        let _inside = handle.enter();
        drop(register(MS, &Arc::default()));
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
