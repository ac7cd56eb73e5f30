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
        // None once it has ended, or if it was not made.
        #[pin]
        call: Option<F>,
        // Taken when its answer is given.
        fault: Cold<Held<T, E>>,
    }
}

/// What a fault makes of a call.
pub(crate) enum Held<T, E> {
    /// How long to hold back the answer, when it is there.
    Delay(Duration),
    Answer {
        answer: Option<Result<T, E>>,
        until: Instant,
        timer: Option<Timer>,
    },
    Hang,
    Panic,
}

const AFTER: &str = "`ResponseFuture` polled after it was ready";

// === impl ResponseFuture ===

impl<F, T, E> ResponseFuture<F, T, E> {
    /// The answer of `call`, or of none.
    pub(crate) fn new(call: Option<F>, fault: Option<Held<T, E>>) -> Self {
        Self { call, fault: fault.map_or(Cold::none(), Cold::new) }
    }
}

impl<F, T, E> Future for ResponseFuture<F, T, E>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(call) = this.call.as_mut().as_pin_mut() {
            let result = ready!(call.poll(cx));
            let Some(Held::Delay(delay)) = this.fault.get() else { return Poll::Ready(result) };
            let until = saturating_add(Instant::now(), *delay);
            // What the call held is free, and only its answer on the way.
            this.call.set(None);
            *this.fault = Cold::new(Held::answer(result, until));
        }
        let answer = ready!(this.fault.get_mut().expect(AFTER).poll(cx));
        drop(this.fault.take());
        Poll::Ready(answer)
    }
}

impl<F, T, E> fmt::Debug for ResponseFuture<F, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (&self.call, self.fault.get()) {
            (Some(_), _) => "calling",
            (None, Some(Held::Panic)) => "panicking",
            (None, Some(Held::Hang)) => "hanging",
            (None, Some(_)) => "held back",
            (None, None) => "done",
        };
        f.debug_tuple("ResponseFuture").field(&state).finish()
    }
}

// === impl Held ===

impl<T, E> Held<T, E> {
    pub(crate) const fn answer(answer: Result<T, E>, until: Instant) -> Self {
        Self::Answer { answer: Some(answer), until, timer: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, E>> {
        match self {
            Self::Answer { answer, until, timer } => {
                if Instant::now() < *until {
                    ready!(timer.get_or_insert_with(|| Timer::register(*until, cx)).poll(cx));
                }
                Poll::Ready(answer.take().expect(AFTER))
            }
            Self::Panic => panic!("stockade-chaos: this call was made to panic"),
            Self::Delay(_) | Self::Hang => Poll::Pending,
        }
    }
}
