//! When a future is polled, and with what.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tokio::time::{Instant, advance, sleep};

use crate::{
    Behaviour, Readiness, Request, Subject,
    flight::{Ending, Flight},
    future::exhaust_budget,
    stage::{FRESH, Stage, Verdict, WAITERS, ensure, expect_answer, patiently, settle, whole_call},
};

/// While it has to wait, a waiter sleeps.
pub(crate) async fn no_self_wake<S: Subject>(stage: &mut Stage<'_, S>) -> Verdict {
    for hold in stage.holds()? {
        let stand = stage.stand();
        let mut flights = stand.hold(hold).await?;
        flights.extend(stand.queue(hold, 101, WAITERS).await?);
        let polls = || flights.iter().map(Flight::polls).sum::<usize>();
        let before = polls();
        settle().await;
        let polled = polls() - before;
        ensure!(polled == 0, "nothing happened, and {WAITERS} waiters were polled {polled} times");
        let calls = stand.probe.calls();
        sleep(Duration::from_secs(1)).await;
        let polled = polls() - before;
        // Those that were delayed for less than that have gone on.
        let idle = stand.probe.calls() == calls;
        ensure!(
            !idle || polled == 0,
            "in an idle second {WAITERS} waiters were polled {polled} times"
        );
        stand.release(hold);
        stand.land(&flights).await?;
    }
    Ok(())
}

/// An exhausted cooperative budget delays a call by one poll at most.
pub(crate) async fn coop_neutral<S: Subject>(stage: &mut Stage<'_, S>) -> Verdict {
    let stand = stage.stand();
    for (id, when) in [(1, Exhaust::BeforeReady), (2, Exhaust::BeforeCall)] {
        let call = exhausted_call(stand.service.clone(), Request::ready(id), when);
        let ending = Flight::of(id, |_| call).end().await;
        let what = match when {
            Exhaust::BeforeReady => "a call whose poll_ready met an exhausted budget",
            Exhaust::BeforeCall => "a call that met an exhausted budget",
        };
        expect_answer(what, id, &ending)?;
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exhaust {
    BeforeReady,
    BeforeCall,
}

/// A call whose budget is exhausted before its first poll. Readiness and the call happen in the same poll.
async fn exhausted_call<S: Subject>(mut service: S, request: Request, when: Exhaust) -> Ending {
    let mut future = pin!(None::<S::Future>);
    let mut request = Some(request);
    let mut fresh = true;
    let mut exhaust = |at: Exhaust, cx: &mut Context<'_>| {
        if at == when && std::mem::take(&mut fresh) {
            exhaust_budget(cx);
        }
    };
    poll_fn(|cx| {
        if request.is_some() {
            exhaust(Exhaust::BeforeReady, cx);
            match service.poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Ending::error(&error)),
                Poll::Pending => return Poll::Pending,
            }
            exhaust(Exhaust::BeforeCall, cx);
        }
        if let Some(request) = request.take() {
            future.as_mut().set(Some(service.call(request)));
        }
        let future = future.as_mut().as_pin_mut().expect("the call has been made");
        future.poll(cx).map(Ending::of)
    })
    .await
}

/// A future that moves to another task is woken there.
pub(crate) async fn latest_waker_woken<S: Subject>(stage: &mut Stage<'_, S>) -> Verdict {
    let stand = stage.stand();
    let mut service = stand.service.clone();
    let call = pin!(whole_call(&mut service, Request::wait(1)));
    // A layer may sleep before it calls.
    let runs = || stand.probe.in_flight() > 0;
    let ending = woken_as_the_latest(call, runs, || stand.probe.release_all()).await;
    expect_woken("a running call", ending)?;

    let stand = stage.stand();
    settle().await;
    stand.probe.set_ready(Readiness::Pending);
    let mut service = stand.service.clone();
    let call = pin!(whole_call(&mut service, Request::ready(1)));
    let ending =
        woken_as_the_latest(call, || true, || stand.probe.set_ready(Readiness::Ready)).await;
    expect_woken("a call that waits for the inner readiness", ending)?;

    for hold in stage.holds().unwrap_or_default() {
        let stand = stage.stand();
        let flights = stand.hold(hold).await?;
        let mut service = stand.service.clone();
        let call = pin!(whole_call(&mut service, Request::ready(101)));
        let ending = woken_as_the_latest(call, || true, || stand.release(hold)).await;
        expect_woken("a waiting call", ending)?;
        stand.land(&flights).await?;
    }
    Ok(())
}

fn expect_woken(what: &str, ending: Option<Ending>) -> Verdict {
    let woken = ending.is_some();
    ensure!(woken, "{what} that moved to another task was not woken there");
    Ok(())
}

/// The end of a call that is polled with one waker first, until it may be moved, and then only when a second one is woken.
async fn woken_as_the_latest<T>(
    mut call: Pin<&mut impl Future<Output = Ending>>,
    may_move: impl Fn() -> bool,
    change: impl FnOnce() -> T,
) -> Option<Ending> {
    let [first, latest] = [Arc::new(Flag::default()), Arc::new(Flag::default())];
    first.woken.store(true, Ordering::Relaxed);
    let first_part = patiently(|| match poll_if_woken(&first, call.as_mut()) {
        Poll::Ready(ending) => Poll::Ready(Some(ending)),
        Poll::Pending if may_move() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    });
    if let Some(Some(ending)) = first_part.await {
        return Some(ending);
    }
    settle().await;
    latest.woken.store(true, Ordering::Relaxed);
    let mut poll = || poll_if_woken(&latest, call.as_mut());
    // First handle everything that was pending before the change.
    for _ in 0..4 {
        if let Poll::Ready(ending) = poll() {
            return Some(ending);
        }
        settle().await;
    }
    change();
    patiently(poll).await
}

#[derive(Default)]
struct Flag {
    woken: AtomicBool,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Relaxed);
    }
}

fn poll_if_woken<F: Future>(flag: &Arc<Flag>, future: Pin<&mut F>) -> Poll<F::Output> {
    if !flag.woken.swap(false, Ordering::Relaxed) {
        return Poll::Pending;
    }
    future.poll(&mut Context::from_waker(&Waker::from(Arc::clone(flag))))
}

/// Whether tokio's clock stands still while that of the machine goes on.
fn clock_is_paused() -> bool {
    let since = Instant::now();
    std::thread::sleep(Duration::from_millis(1));
    since.elapsed() == Duration::ZERO
}

/// A call ends at its deadline, even if the inner future uses up the cooperative budget.
pub(crate) async fn deadline_under_busy_inner<S: Subject>(stage: &mut Stage<'_, S>) -> Verdict {
    let deadline = stage.deadline()?;
    let stand = stage.stand();
    let flight = stand.fly(Request::new(1, Behaviour::Busy));
    stand.expect_in_flight(1, FRESH).await?;
    ensure!(
        clock_is_paused(),
        "it moves the clock by hand, and the clock is not paused: write `#[tokio::test(start_paused = true)]`"
    );
    // A busy task keeps the paused clock from moving by itself.
    advance(deadline / 2).await;
    settle().await;
    if let Some(ending) = flight.ending() {
        ensure!(false, "at half of its deadline, the call {ending}");
    }
    advance(deadline / 2 + Duration::from_millis(50)).await;
    // While a task is busy, the runtime only looks at its timers after a number of polls.
    for _ in 0..16 {
        settle().await;
    }
    let Some(ending) = flight.ending() else {
        let running = stand.probe.in_flight();
        ensure!(false, "after its deadline the call goes on, {running} run inside");
        return Ok(());
    };
    ensure!(!matches!(ending, Ending::Answered(_) | Ending::Panicked(_)), "the call {ending}");
    let running = stand.probe.in_flight();
    ensure!(running == 0, "the call has ended at its deadline, and {running} run on inside");
    Ok(())
}
