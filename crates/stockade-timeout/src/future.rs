use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use stockade_core::{
    LayerError,
    deadline::{self, Deadline, Nanos},
    internal::{Cold, Timer},
};
use tokio::task::coop;

use crate::layer::Settings;

pin_project! {
    /// The answer of a [`Timeout`](crate::Timeout).
    ///
    /// The call inside is polled before the timer is looked at, so an answer that is there in time is never
    /// lost; when the timer has fired, the call is dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the call inside and leaves no timer behind.
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        // Enters from the start; leaves to Done when the time is up.
        Running { #[pin] future: F, deadline: Deadline, settings: Settings, clock: Clock },
        Done,
    }
}

/// The call's timer.
struct Clock {
    /// Registered at the first pending poll.
    timer: Cold<Timer>,
    /// The task had used up its cooperative budget when the time was up, so the call inside may have been
    /// pending for want of it. It is polled once more in the task's next turn, and then no more.
    last_turn: bool,
}

/// Who has set an earlier deadline outside ends the call then, and says so. Should nobody do it, as where the
/// deadline came with a job of a pool, it is ended here, this much later.
const GRACE: Duration = Duration::from_millis(2);

// === impl ResponseFuture ===

impl<F> ResponseFuture<F> {
    #[inline(always)]
    pub(crate) fn new(future: F, deadline: Deadline, settings: Settings) -> Self {
        let clock = Clock { timer: Cold::none(), last_turn: false };
        Self { state: State::Running { future, deadline, settings, clock } }
    }
}

impl<F, T, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: LayerError,
{
    type Output = Result<T, E>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        let StateProj::Running { future, deadline, settings, clock } = state.as_mut().project()
        else {
            panic!("`ResponseFuture` polled after its time was up");
        };
        let starved = clock.is_running() && !coop::has_budget_remaining();
        let polled = deadline.enter(|| future.poll(cx));
        if polled.is_ready() {
            // The finished call itself goes with this future, because to take it apart now costs more than all
            // the rest.
            clock.stop();
            return polled;
        }
        if clock.poll(deadline, settings, starved, cx).is_pending() {
            return Poll::Pending;
        }
        let elapsed = settings.elapsed();
        state.set(State::Done);
        Poll::Ready(Err(elapsed.into_error()))
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("ResponseFuture");
        match &self.state {
            State::Running { deadline, settings, .. } => {
                debug.field("limit", &settings.limit.get()).field("deadline", &deadline.fixed());
            }
            State::Done => {
                debug.field("done", &true);
            }
        }
        debug.finish_non_exhaustive()
    }
}

// === impl Clock ===

impl Clock {
    #[inline(always)]
    fn is_running(&self) -> bool {
        !self.timer.is_taken()
    }

    /// The call has ended, and needs no timer any more.
    #[inline(always)]
    fn stop(&mut self) {
        self.timer = Cold::none();
    }

    /// Ready when the time is up.
    #[inline(never)]
    fn poll(
        &mut self,
        deadline: &mut Deadline,
        settings: &mut Settings,
        starved: bool,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let Some(timer) = self.timer.get_mut() else {
            self.timer = Cold::new(start(deadline, &mut settings.limit, cx));
            return Poll::Pending;
        };
        ready!(timer.poll(cx));
        if starved && !std::mem::replace(&mut self.last_turn, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

/// Starts the timer of a call, which is to end at its own deadline, or a moment after the one that is set outside, if
/// that is earlier; then `limit` becomes what the call was left.
#[inline]
fn start(deadline: &mut Deadline, limit: &mut Nanos, cx: &mut Context<'_>) -> Timer {
    if deadline::is_set() { start_inside(deadline, limit, cx) } else { Timer::start(deadline, cx) }
}

#[inline(never)]
fn start_inside(deadline: &mut Deadline, limit: &mut Nanos, cx: &mut Context<'_>) -> Timer {
    // Asked within, so that one look at the clock fixes all that counts from now, here and outside.
    let earliest = deadline.enter(deadline::current);
    let own = deadline.fix();
    match earliest.map(|earliest| deadline::saturating_add(earliest, GRACE)) {
        Some(outer) if outer < own => {
            *limit = Nanos::new(limit.get().saturating_sub(own - outer));
            Timer::register(outer, cx)
        }
        _ => Timer::register(own, cx),
    }
}
