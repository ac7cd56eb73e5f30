//! The response future.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use stockade_core::{deadline::saturating_add, internal::Timer};
use tokio::time::Instant;

pin_project! {
    /// The answer of a [`Chaos`](crate::Chaos).
    ///
    /// # Panics
    ///
    /// If it was made to, and if it is polled after it was ready.
    pub struct ResponseFuture<F, T, E> {
        #[pin]
        pub(crate) state: State<F, T, E>,
    }
}

pin_project! {
    #[project = StateProj]
    pub(crate) enum State<F, T, E> {
        // For how long its answer is held back, when it is there.
        Calling { #[pin] call: F, delay: Option<Duration> },
        // The answer is taken when it is given.
        Answering { answer: Option<Result<T, E>>, timer: Option<Timer> },
        Hanging,
        Panicking,
    }
}

// === impl State ===

impl<F, T, E> State<F, T, E> {
    /// It is not made, and has failed.
    pub(crate) const fn failed(error: E) -> Self {
        Self::Answering { answer: Some(Err(error)), timer: None }
    }
}

// === impl ResponseFuture ===

impl<F, T, E> ResponseFuture<F, T, E> {
    pub(crate) const fn calling(call: F, delay: Option<Duration>) -> Self {
        Self { state: State::Calling { call, delay } }
    }
}

impl<F, T, E> Future for ResponseFuture<F, T, E>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProj::Calling { call, delay } => {
                    let answer = ready!(call.poll(cx));
                    let Some(delay) = *delay else { return Poll::Ready(answer) };
                    let due = saturating_add(Instant::now(), delay);
                    let (answer, timer) = (Some(answer), Some(Timer::register(due, cx)));
                    // What the call held is free, and only its answer on the way.
                    state.set(State::Answering { answer, timer });
                }
                StateProj::Answering { answer, timer } => {
                    if let Some(timer) = timer {
                        ready!(timer.poll(cx));
                    }
                    *timer = None;
                    let answer = answer.take();
                    return Poll::Ready(
                        answer.expect("`ResponseFuture` polled after it was ready"),
                    );
                }
                StateProj::Hanging => return Poll::Pending,
                StateProj::Panicking => panic!("stockade-chaos: this call was made to panic"),
            }
        }
    }
}

impl<F, T, E> fmt::Debug for ResponseFuture<F, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Calling { .. } => "calling",
            State::Answering { answer: Some(_), .. } => "held back",
            State::Answering { answer: None, .. } => "done",
            State::Hanging => "hanging",
            State::Panicking => "panicking",
        };
        f.debug_tuple("ResponseFuture").field(&state).finish()
    }
}
