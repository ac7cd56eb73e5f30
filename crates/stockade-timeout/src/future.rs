use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use stockade_core::{LayerError, Timer, deadline::Deadline};
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
        // Enters from the start; leaves to Done with an answer, or when the time is up.
        Running { #[pin] future: F, deadline: Deadline, settings: Settings, clock: Clock },
        Done,
    }
}

/// The call's timer.
struct Clock {
    /// Registered at the first pending poll.
    timer: Option<Timer>,
    /// The task had used up its cooperative budget when the time was up, so the call inside may have been
    /// pending for want of it. It is polled once more in the task's next turn, and then no more.
    last_turn: bool,
}

// === impl ResponseFuture ===

impl<F> ResponseFuture<F> {
    #[inline(always)]
    pub(crate) fn new(future: F, deadline: Deadline, settings: Settings) -> Self {
        let clock = Clock { timer: None, last_turn: false };
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
            panic!("`ResponseFuture` polled after it was ready");
        };
        let starved = clock.is_running() && !coop::has_budget_remaining();
        let result = match deadline.enter(|| future.poll(cx)) {
            Poll::Ready(result) => result,
            Poll::Pending => {
                if clock.poll(deadline, starved, cx).is_pending() {
                    return Poll::Pending;
                }
                Err(settings.elapsed().into_error())
            }
        };
        state.set(State::Done);
        Poll::Ready(result)
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("ResponseFuture");
        match &self.state {
            State::Running { deadline, settings, .. } => {
                debug.field("limit", &settings.limit).field("deadline", &deadline.fixed());
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
    fn is_running(&self) -> bool {
        self.timer.is_some()
    }

    /// Ready when the time is up.
    fn poll(&mut self, deadline: &mut Deadline, starved: bool, cx: &mut Context<'_>) -> Poll<()> {
        let Some(timer) = &mut self.timer else {
            self.timer = Some(Timer::register(deadline.fix(), cx));
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
