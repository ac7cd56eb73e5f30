//! What the checks have in common: fresh stacks, and waiting without real time.

use std::{cell::Cell, future::poll_fn, rc::Rc, task::Poll, time::Duration};

use tokio::{
    task::yield_now,
    time::{sleep, timeout},
};

use crate::{
    Behaviour, Probe, Request, Subject,
    flight::{Ending, Flight, PATIENCE, Plan},
};

/// The result of a check.
pub(crate) type Verdict<T = ()> = Result<T, Objection>;

/// Why a check did not pass.
#[derive(Debug)]
pub(crate) enum Objection {
    Broken(String),
    /// What has to be declared for the check to be made.
    Undeclared(&'static str),
}

/// What the user does to a stack.
pub(crate) type Action<S> = Rc<dyn Fn(&mut S)>;

/// What the user declared, and how to make a fresh stack.
pub(crate) struct Stage<'a, S> {
    pub(crate) build: &'a mut dyn FnMut(Probe) -> S,
    pub(crate) limit: Option<usize>,
    pub(crate) hold: Option<Action<S>>,
    pub(crate) release: Option<Action<S>>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) close: Option<Action<S>>,
}

/// What makes calls wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hold {
    /// So many other calls that run.
    Full(usize),
    /// What the user declared.
    ByHand,
}

/// A fresh stack over a fresh probe.
pub(crate) struct Stand<S: Subject> {
    pub(crate) probe: Probe,
    pub(crate) service: S,
    hold: Option<Action<S>>,
    release: Option<Action<S>>,
    held: Cell<bool>,
}

/// Fails the check unless the condition holds.
macro_rules! ensure {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err($crate::stage::Objection::Broken(format!($($why)+)));
        }
    };
}
pub(crate) use ensure;

/// How many calls wait in a stack that holds them.
pub(crate) const WAITERS: usize = 8;

/// The reason given if a stack fails before anything was done to it.
pub(crate) const FRESH: &str = "in a fresh stack";

/// Rounds of the scheduler after which everything has happened that needs no time.
const ROUNDS: usize = 64;

/// The first step of the clock; each further step is twice as long.
const FIRST_STEP: Duration = Duration::from_millis(10);
const LAST_STEP: Duration = Duration::from_secs(20);

/// Lets all other tasks run until they have nothing to do. Takes no time.
pub(crate) async fn settle() {
    for _ in 0..ROUNDS {
        yield_now().await;
    }
}

/// The output of `poll`, if it is ready soon.
pub(crate) async fn patiently<T>(mut poll: impl FnMut() -> Poll<T>) -> Option<T> {
    let mut step = FIRST_STEP;
    loop {
        settle().await;
        if let Poll::Ready(said) = poll() {
            return Some(said);
        }
        if step > LAST_STEP {
            return None;
        }
        sleep(step).await;
        step *= 2;
    }
}

/// Polls until ready, or until nothing happens any more.
pub(crate) async fn ready<S: Subject>(service: &mut S) -> Poll<Result<(), Ending>> {
    for _ in 0..ROUNDS {
        let polled = poll_fn(|cx| Poll::Ready(service.poll_ready(cx))).await;
        match polled {
            Poll::Ready(result) => {
                return Poll::Ready(result.map_err(|error| Ending::error(&error)));
            }
            Poll::Pending => yield_now().await,
        }
    }
    Poll::Pending
}

/// Fails unless the service becomes ready at once.
pub(crate) async fn expect_ready<S: Subject>(service: &mut S) -> Verdict {
    match ready(service).await {
        Poll::Ready(Ok(())) => Ok(()),
        Poll::Ready(Err(ending)) => {
            Err(Objection::Broken(format!("poll_ready of an idle stack {ending}")))
        }
        Poll::Pending => Err(Objection::Broken("poll_ready of an idle stack stays pending".into())),
    }
}

/// A whole call, readiness first.
pub(crate) async fn whole_call<S: Subject>(service: &mut S, request: Request) -> Ending {
    match poll_fn(|cx| service.poll_ready(cx)).await {
        Ok(()) => Ending::of(service.call(request).await),
        Err(error) => Ending::error(&error),
    }
}

/// A whole call. Fails if it hangs.
pub(crate) async fn serve<S: Subject>(service: &mut S, request: Request) -> Ending {
    timeout(PATIENCE, whole_call(service, request)).await.unwrap_or(Ending::Hung)
}

/// Fails unless the call was answered with its own answer.
pub(crate) fn expect_answer(what: &str, id: u64, ending: &Ending) -> Verdict {
    ensure!(*ending == Ending::Answered(id), "{what} (request {id}) {ending}");
    Ok(())
}

// === impl Stage ===

impl<S: Subject> Stage<'_, S> {
    pub(crate) fn stand(&mut self) -> Stand<S> {
        let probe = Probe::new();
        let service = (self.build)(probe.clone());
        let (hold, release) = (self.hold.clone(), self.release.clone());
        Stand { probe, service, hold, release, held: Cell::new(false) }
    }

    pub(crate) fn limit(&self) -> Verdict<usize> {
        self.limit.ok_or(Objection::Undeclared("no `.limit(..)` is declared"))
    }

    /// What makes calls wait, which is one thing or two.
    pub(crate) fn holds(&self) -> Verdict<Vec<Hold>> {
        let by_hand = self.hold.as_ref().map(|_| Hold::ByHand);
        let holds: Vec<_> = self.limit.map(Hold::Full).into_iter().chain(by_hand).collect();
        let declared = !holds.is_empty();
        declared.then_some(holds).ok_or(Objection::Undeclared(
            "neither `.limit(..)` nor `.hold(..)` is declared, so no call waits",
        ))
    }

    pub(crate) fn deadline(&self) -> Verdict<Duration> {
        self.deadline.ok_or(Objection::Undeclared("no `.deadline(..)` is declared"))
    }

    pub(crate) fn close(&self) -> Verdict<Action<S>> {
        self.close.clone().ok_or(Objection::Undeclared("no `.close(..)` is declared"))
    }
}

// === impl Hold ===

impl Hold {
    /// How many calls run while others wait.
    pub(crate) const fn running(self) -> usize {
        match self {
            Self::Full(limit) => limit,
            Self::ByHand => 0,
        }
    }
}

// === impl Stand ===

impl<S: Subject> Stand<S> {
    /// Starts a call on a new clone.
    pub(crate) fn fly(&self, request: Request) -> Flight {
        Flight::start(self.service.clone(), request, Plan::default())
    }

    /// Starts calls one after the other, each on a new clone, with ids from `first` on.
    pub(crate) async fn fly_in_order(
        &self,
        first: u64,
        count: usize,
        behaviour: Behaviour,
    ) -> Vec<Flight> {
        let mut flights = Vec::with_capacity(count);
        for id in (first..).take(count) {
            flights.push(self.fly(Request::new(id, behaviour)));
            settle().await;
        }
        flights
    }

    /// Makes further calls wait. Returns the calls that run, with ids from 1 on.
    pub(crate) async fn hold(&self, hold: Hold) -> Verdict<Vec<Flight>> {
        match hold {
            Hold::Full(limit) => self.saturate(1, limit, FRESH).await,
            Hold::ByHand => {
                self.held.set(true);
                self.by_hand(self.hold.as_ref());
                Ok(Vec::new())
            }
        }
    }

    /// Starts calls that wait, one after the other, with ids from `first` on.
    pub(crate) async fn queue(&self, hold: Hold, first: u64, count: usize) -> Verdict<Vec<Flight>> {
        let before = self.probe.calls();
        let flights = self.fly_in_order(first, count, Behaviour::Wait).await;
        let passed = self.probe.calls() - before;
        ensure!(
            passed == 0 || matches!(hold, Hold::Full(_)),
            "of {count} calls that `.hold(..)` should make wait, {passed} called the inner service at once"
        );
        Ok(flights)
    }

    /// Lets a waiting call go on, or all of them. One of a full stack takes the place of call 1.
    pub(crate) fn release(&self, hold: Hold) {
        match hold {
            Hold::Full(_) => drop(self.probe.release(1)),
            Hold::ByHand => self.release_by_hand(),
        }
    }

    fn release_by_hand(&self) {
        if self.held.take() {
            self.by_hand(self.release.as_ref());
        }
    }

    fn by_hand(&self, action: Option<&Action<S>>) {
        if let Some(action) = action {
            action(&mut self.service.clone());
        }
    }

    /// Fills the stack with calls that run until they are released, with ids from `first` on; `when` is for the report.
    pub(crate) async fn saturate(
        &self,
        first: u64,
        limit: usize,
        when: &str,
    ) -> Verdict<Vec<Flight>> {
        let before = self.probe.in_flight();
        let calls = (first..).take(limit).map(Request::wait);
        let flights: Vec<_> = calls.map(|request| self.fly(request)).collect();
        self.expect_in_flight(before + limit, when).await?;
        Ok(flights)
    }

    /// Fails unless this many calls run soon. A stack that recovers on a timer gets some time for it.
    pub(crate) async fn expect_in_flight(&self, expected: usize, when: &str) -> Verdict {
        let running = || self.probe.in_flight();
        let reached = || if running() < expected { Poll::Pending } else { Poll::Ready(()) };
        patiently(reached).await;
        settle().await;
        let running = running();
        ensure!(running == expected, "{when}, {running} calls run inside instead of {expected}");
        Ok(())
    }

    /// Ends all calls inside, also those that get there later, until these have ended.
    pub(crate) async fn end_all(&self, flights: &[Flight]) {
        for _ in 0..=flights.len() {
            self.probe.release_all();
            settle().await;
        }
        // Some may wait for a time before they get there.
        let running = || flights.iter().filter(|flight| flight.ending().is_none()).count();
        let mut goes_on = true;
        while goes_on && running() > 0 {
            let before = running();
            let ended = || {
                self.probe.release_all();
                if running() < before { Poll::Ready(()) } else { Poll::Pending }
            };
            goes_on = patiently(ended).await.is_some();
        }
    }

    /// Ends all calls inside, and fails unless all are answered.
    pub(crate) async fn land(&self, flights: &[Flight]) -> Verdict {
        self.end_all(flights).await;
        for flight in flights {
            expect_answer("a call that was let go", flight.id, &flight.end().await)?;
        }
        Ok(())
    }
}

/// A check that fails leaves nothing held, because stacks may share what holds them.
impl<S: Subject> Drop for Stand<S> {
    fn drop(&mut self) {
        self.release_by_hand();
    }
}
