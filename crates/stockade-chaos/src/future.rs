//! The response future.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use stockade_core::{
    deadline::saturating_add,
    internal::{Cold, Timer},
};
use tokio::time::Instant;

pin_project! {
    /// The answer of a [`Chaos`](crate::Chaos).
    ///
    /// # Panics
    ///
    /// If it was made to, and if it is polled after it was ready.
    pub struct ResponseFuture<F, T, E> {
        #[pin]
        state: State<F>,
        // Taken when the call has ended.
        held: Cold<Held<T, E>>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Calling { #[pin] future: F },
        // The call has ended, or was not made.
        Held,
        Panicking,
    }
}

/// What a fault holds.
enum Held<T, E> {
    /// How long to hold back the answer.
    Delay(Duration),
    Answer {
        answer: Option<Result<T, E>>,
        until: Instant,
        timer: Option<Timer>,
    },
    Hang,
}

const AFTER: &str = "`ResponseFuture` polled after it was ready";

// === impl ResponseFuture ===

impl<F, T, E> ResponseFuture<F, T, E> {
    pub(crate) fn calling(future: F, delay: Option<Duration>) -> Self {
        let held = delay.map_or(Cold::none(), |delay| Cold::new(Held::Delay(delay)));
        Self { state: State::Calling { future }, held }
    }

    pub(crate) fn failing(error: E) -> Self {
        let answer = Some(Err(error));
        let held = Held::Answer { answer, until: Instant::now(), timer: None };
        Self { state: State::Held, held: Cold::new(held) }
    }

    pub(crate) const fn hanging() -> Self {
        Self { state: State::Held, held: Cold::new(Held::Hang) }
    }

    pub(crate) const fn panicking() -> Self {
        Self { state: State::Panicking, held: Cold::none() }
    }
}

impl<F, T, E> Future for ResponseFuture<F, T, E>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let StateProj::Calling { future } = this.state.as_mut().project() {
            let result = ready!(future.poll(cx));
            let Some(Held::Delay(delay)) = this.held.get() else { return Poll::Ready(result) };
            let until = saturating_add(Instant::now(), *delay);
            // What the call held is free, and only its answer on the way.
            this.state.set(State::Held);
            *this.held = Cold::new(Held::Answer { answer: Some(result), until, timer: None });
        } else if let StateProj::Panicking = this.state.as_mut().project() {
            panic!("stockade-chaos: this call was made to panic");
        }
        let answer = ready!(this.held.get_mut().expect(AFTER).poll(cx));
        drop(this.held.take());
        Poll::Ready(answer)
    }
}

impl<F, T, E> fmt::Debug for ResponseFuture<F, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (&self.state, self.held.get()) {
            (State::Calling { .. }, _) => "calling",
            (State::Panicking, _) => "panicking",
            (State::Held, Some(Held::Hang)) => "hanging",
            (State::Held, Some(_)) => "held back",
            (State::Held, None) => "done",
        };
        f.debug_tuple("ResponseFuture").field(&state).finish()
    }
}

// === impl Held ===

impl<T, E> Held<T, E> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, E>> {
        let Self::Answer { answer, until, timer } = self else { return Poll::Pending };
        if Instant::now() < *until {
            ready!(timer.get_or_insert_with(|| Timer::register(*until, cx)).poll(cx));
        }
        Poll::Ready(answer.take().expect(AFTER))
    }
}
